import { createHash } from 'node:crypto';
import { readSafetensors } from '../src/formats/safetensors.js';

/** Of every bit of an exported adapter's tensors; what the file says about the job is left out. */
export function adapterDigest(file: Uint8Array): string {
  const hash = createHash('sha256');
  for (const [name, { dtype, shape, data }] of [...readSafetensors(file).tensors].sort(([a], [b]) =>
    a < b ? -1 : 1,
  )) {
    hash.update(JSON.stringify([name, dtype, shape]));
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}
