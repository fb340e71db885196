import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { InvalidRequestError, PayloadTooLargeError } from '../errors.js';

/**
 * Writes a stream to a new file, durably, a chunk at a time.
 * @throws PayloadTooLargeError as soon as it is longer than allowed; InvalidRequestError when it is cut off
 */
export async function receiveUpload(
  stream: Readable,
  path: string,
  maxBytes: number,
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'wx');
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxBytes) {
        throw new PayloadTooLargeError({
          code: 'file_too_large',
          param: 'file',
          message: `The file has more than ${maxBytes} bytes. Upload a smaller one, or raise CRAFT_MAX_UPLOAD_BYTES on the server.`,
        });
      }
      hash.update(chunk);
      await file.writeFile(chunk);
    }
    await file.sync();
    return { bytes, sha256: hash.digest('hex') };
  } catch (error) {
    throw isCutOff(stream, error) ? uploadAborted(error) : error;
  } finally {
    stream.destroy();
    await file?.close();
  }
}

/** Whether the sender failed, rather than our disk. Errors that know their HTTP status are somebody's answer already. */
function isCutOff(stream: Readable, error: unknown): boolean {
  const { code, status, statusCode } = (error ?? {}) as { code?: string; status?: number; statusCode?: number };
  if (status !== undefined || statusCode !== undefined) return false;
  return code === 'ERR_STREAM_PREMATURE_CLOSE' || stream.errored === error;
}

function uploadAborted(cause: unknown): InvalidRequestError {
  return new InvalidRequestError({
    code: 'upload_aborted',
    param: 'file',
    message: 'The upload ended before it was complete. Nothing was kept; send it again.',
    cause,
  });
}
