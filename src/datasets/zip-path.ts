import { InvalidRequestError } from '../errors.js';
import { quoted } from './label-text.js';

const MAX_PATH_LENGTH = 1024;

/**
 * Splits the name of a ZIP entry, or of an image in a list, into its parts.
 * @throws InvalidRequestError when it could lead out of the folder it is unpacked in, on any system
 */
export function safeSegments(name: string): string[] {
  const fault = faultOf(name);
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

function faultOf(name: string): string | null {
  if (name.includes('\0')) return 'has a NUL character';
  if (name.includes('\\')) return 'has a backslash';
  if (name.startsWith('/')) return 'is absolute';
  if (/^[A-Za-z]:/.test(name)) return 'names a drive';
  if (name.split('/').includes('..')) return 'leads to a parent folder';
  if (name.length > MAX_PATH_LENGTH) return `is longer than ${MAX_PATH_LENGTH} characters`;
  return null;
}
