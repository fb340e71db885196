import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/**
 * A secret that is made at first start and kept in the data directory, readable by its owner only. Two processes that
 * start at once agree: the file is created exclusively, and whoever comes second reads it.
 */
export function keptSecret(dataDirectory: string, name: string, make: () => string): { value: string; made: boolean } {
  const path = join(dataDirectory, name);
  mkdirSync(dirname(path), { recursive: true });
  const value = make();
  try {
    writeFileSync(path, `${value}\n`, { mode: 0o600, flag: 'wx' });
    return { value, made: true };
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    return { value: readFileSync(path, 'utf8').trim(), made: false };
  }
}
