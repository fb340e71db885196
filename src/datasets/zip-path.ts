import { InvalidRequestError } from '../errors.js';
import { quoted } from './labels.js';

const MAX_PATH_LENGTH = 1024;

/**
 * Splits the name of a ZIP entry, or of an image in a list, into its parts.
 * @throws InvalidRequestError when it could lead out of the folder it is unpacked in, on any system
 */
export function safeSegments(name: string): string[] {
  const fault = name.includes('\0')
    ? 'has a NUL character'
    : name.includes('\\')
      ? 'has a backslash'
      : name.startsWith('/')
        ? 'is absolute'
        : /^[A-Za-z]:/.test(name)
          ? 'names a drive'
          : name.split('/').includes('..')
            ? 'leads to a parent folder'
            : name.length > MAX_PATH_LENGTH
              ? `is longer than ${MAX_PATH_LENGTH} characters`
              : null;
  if (fault !== null) {
    throw new InvalidRequestError({
      code: 'unsafe_path',
      param: 'file',
      message: `The path ${quoted(name)} ${fault}. Use plain relative paths such as cat/001.png.`,
    });
  }
  return name
    .normalize('NFC')
    .split('/')
    .filter((part) => part !== '' && part !== '.');
}
