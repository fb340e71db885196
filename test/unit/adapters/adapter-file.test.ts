import { describe, expect, it } from 'vitest';
import { type AdapterDescription, decodeAdapter, encodeAdapter } from '../../../src/adapters/adapter-file.js';
import { initialHead } from '../../../src/craft/head-weights.js';
import { Random } from '../../../src/craft/random.js';
import type { AdapterWeights } from '../../../src/craft/trainer.js';
import { InvalidRequestError } from '../../../src/errors.js';
import { readSafetensors, writeSafetensors } from '../../../src/formats/safetensors.js';

const WEIGHTS: AdapterWeights = {
  context: Float32Array.from({ length: 8 }, (_, i) => i / 3),
  contextTokens: 2,
  contextWidth: 4,
  head: initialHead(3, 5, Random.stream(1, 'test')),
  classCount: 3,
};
const ABOUT: AdapterDescription = {
  classes: ['cat', 'dog', 'füchsin'],
  provider: { name: 'box', protocol: 'open_inference', remoteModel: 'clip' },
  hyperparameters: { population_size: 40 },
  metrics: { train_accuracy: 0.5 },
};

/** The file of WEIGHTS after a change to its tensors or metadata. */
function altered(change: (file: ReturnType<typeof readSafetensors>) => void): Uint8Array {
  const file = readSafetensors(encodeAdapter(WEIGHTS, ABOUT));
  change(file);
  return writeSafetensors(file.tensors, file.metadata);
}

describe('the adapter file', () => {
  it('keeps everything', () => {
    expect(decodeAdapter(encodeAdapter(WEIGHTS, ABOUT))).toEqual({ weights: WEIGHTS, about: ABOUT });
  });

  it.each<[string, Uint8Array]>([
    ['random bytes', new Uint8Array(100).fill(7)],
    ['a truncated file', encodeAdapter(WEIGHTS, ABOUT).subarray(0, 200)],
    ['another kind of file', altered(({ metadata }) => Object.assign(metadata, { format: 'lora' }))],
    ['a later version', altered(({ metadata }) => Object.assign(metadata, { version: '2' }))],
    ['no description', altered((file) => void delete file.metadata.adapter)],
    ['a missing tensor', altered((file) => void file.tensors.delete('head.w2'))],
    [
      'fewer classes than weights',
      altered((file) => {
        file.metadata.adapter = JSON.stringify({ ...ABOUT, classes: ['cat', 'dog'] });
      }),
    ],
    [
      'weights that are not finite',
      altered((file) => {
        (file.tensors.get('context')?.data as Float32Array)[0] = Number.NaN;
      }),
    ],
    [
      'another number type',
      altered((file) => {
        file.tensors.set('context', { dtype: 'I32', shape: [2, 4], data: new Int32Array(8) });
      }),
    ],
  ])('refuses %s', (_, bytes) => {
    const refused = () => decodeAdapter(bytes);
    expect(refused).toThrow(InvalidRequestError);
    expect(refused).toThrow(/GET \/v1\/adapters\/\{id\}\/export/);
  });
});
