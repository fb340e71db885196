import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { receiveUpload } from '../../../src/datasets/receive-upload.js';
import { PayloadTooLargeError } from '../../../src/errors.js';
import { inPieces, temporaryFolder } from '../../helpers/dataset-files.js';

const target = async () => join(await temporaryFolder(), 'content');

test('writes and hashes the stream', async () => {
  const path = await target();
  const bytes = Buffer.alloc(100_000, 7);
  const received = await receiveUpload(inPieces(bytes), path, 100_000);
  expect(received).toEqual({ bytes: 100_000, sha256: createHash('sha256').update(bytes).digest('hex') });
  expect(await readFile(path)).toEqual(bytes);
});

test('stops an endless stream at the limit', async () => {
  const chunk = Buffer.alloc(1000);
  let sent = 0;
  const endless = new Readable({
    highWaterMark: 1000,
    read() {
      sent += chunk.length;
      this.push(chunk);
    },
  });
  await expect(receiveUpload(endless, await target(), 5000)).rejects.toMatchObject({
    status: 413,
    code: 'file_too_large',
  });
  expect(sent).toBeLessThan(10_000);
  expect(endless.destroyed).toBe(true);
});

test.each([
  ['disconnects', undefined],
  ['fails', new Error('Unexpected end of multipart data')],
])('a sender that %s', async (_, failure) => {
  const stream = new PassThrough();
  stream.write('PK');
  const receiving = receiveUpload(stream, await target(), 1000);
  setTimeout(() => stream.destroy(failure), 20);
  await expect(receiving).rejects.toMatchObject({ status: 400, code: 'upload_aborted' });
});

test('an error of the HTTP layer that has a status stays what it is', async () => {
  const stream = new PassThrough();
  const failure = new PayloadTooLargeError({ code: 'too_large', message: 'Too large.' });
  const receiving = receiveUpload(stream, await target(), 1000);
  setTimeout(() => stream.destroy(failure), 20);
  await expect(receiving).rejects.toBe(failure);
});

test('a fault of our disk is not blamed on the sender', async () => {
  const stream = inPieces(Buffer.from('PK'));
  await expect(receiveUpload(stream, join(await target(), 'no', 'folder'), 1000)).rejects.toMatchObject({
    code: 'ENOENT',
  });
  expect(stream.destroyed).toBe(true);
});
