import { accessSync, constants, mkdirSync } from 'node:fs';

/** The data directory cannot be written; the message says what to do. */
export class DataDirectoryError extends Error {
  override readonly name = 'DataDirectoryError';
}

/**
 * Makes the data directory where it is missing.
 * @throws DataDirectoryError when it cannot be made or written
 */
export function ensureDataDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
    accessSync(path, constants.W_OK | constants.X_OK);
  } catch (cause) {
    const code = (cause as { code?: string }).code ?? String(cause);
    throw new DataDirectoryError(
      `The data directory ${path} cannot be written (${code}). Uploads and generated keys are kept there: make it writable for ` +
        `user id ${process.getuid?.() ?? 'of this process'}, or set CRAFT_DATA_DIR to another directory.`,
      { cause },
    );
  }
}
