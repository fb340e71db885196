import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type AdapterDescription, decodeAdapter, encodeAdapter } from '../../../src/adapters/adapter-file.js';
import { initialHead } from '../../../src/craft/head-weights.js';
import { Random } from '../../../src/craft/random.js';
import type { AdapterWeights } from '../../../src/craft/trainer-interface.js';
import { InvalidRequestError } from '../../../src/errors.js';
import { readSafetensors, writeSafetensors } from '../../../src/formats/safetensors.js';

const WEIGHTS: AdapterWeights = {
  prompt: {
    space: 'soft',
    context: Float32Array.from({ length: 8 }, (_, i) => i / 3),
    contextTokens: 2,
    contextWidth: 4,
  },
  head: initialHead(3, 5, Random.stream(1, 'test')),
  classCount: 3,
};
const TEXT_WEIGHTS: AdapterWeights = { ...WEIGHTS, prompt: { space: 'text', template: 'a bright {}, {description}.' } };
/** [3, 2] */
const EMBEDDINGS = Float32Array.of(1, 0, 0, 1, 0.6, 0.8);
const ABOUT: AdapterDescription = {
  classes: ['cat', 'dog', 'füchsin'],
  provider: { name: 'box', protocol: 'open_inference', remoteModel: 'clip' },
  hyperparameters: { population_size: 40 },
  metrics: { train_accuracy: 0.5 },
};

type File = ReturnType<typeof readSafetensors>;

/** A file after a change to its tensors or metadata. */
function alteredFile(bytes: Uint8Array, change: (file: File) => void): Uint8Array {
  const file = readSafetensors(bytes);
  change(file);
  return writeSafetensors(file.tensors, file.metadata);
}

const altered = (change: (file: File) => void) => alteredFile(encodeAdapter(WEIGHTS, ABOUT), change);
const alteredText = (change: (file: File) => void) =>
  alteredFile(encodeAdapter(TEXT_WEIGHTS, ABOUT, EMBEDDINGS), change);
/** Another description in the metadata. */
const saying =
  (changes: Record<string, unknown>) =>
  ({ metadata }: File) => {
    metadata.adapter = JSON.stringify({ ...JSON.parse(metadata.adapter), ...changes });
  };

function expectRefusal(bytes: Uint8Array): void {
  const refused = () => decodeAdapter(bytes);
  expect(refused).toThrow(InvalidRequestError);
  expect(refused).toThrow(/GET \/v1\/adapters\/\{id\}\/export/);
  expect(refused).toThrow(expect.objectContaining({ code: 'invalid_adapter_file', param: 'file' }));
}

describe('the adapter file of a soft prompt', () => {
  it('keeps everything', () => {
    expect(decodeAdapter(encodeAdapter(WEIGHTS, ABOUT))).toEqual({ weights: WEIGHTS, about: ABOUT });
  });

  it('reads what it writes of as many and as long texts as a data set may have', () => {
    const classes = Array.from({ length: 1000 }, (_, c) => `${c}`.padEnd(200, 'ü'));
    const about = { ...ABOUT, classes, descriptions: classes.map(() => '狐'.repeat(1000)) };
    const weights = { ...WEIGHTS, head: initialHead(1000, 2, Random.stream(1, 'test')), classCount: 1000 };
    expect(decodeAdapter(encodeAdapter(weights, about))).toEqual({ weights, about });
  });

  it.each([
    ['hyperparameters', { hyperparameters: { note: 'x'.repeat(70_000) } }],
    ['metrics', { metrics: { note: new Array(40_000).fill(1) } }],
  ])('is refused with so long %s that lists of adapters would be', (_, changes) => {
    expectRefusal(altered(saying(changes)));
  });

  it('is refused with so long class names in all that lists of adapters would be', () => {
    const many = (length: number) => {
      const weights = { ...WEIGHTS, head: initialHead(6000, 1, Random.stream(1, 'test')), classCount: 6000 };
      return encodeAdapter(weights, { ...ABOUT, classes: new Array(6000).fill('x'.repeat(length)) });
    };
    expect(decodeAdapter(many(100)).weights.classCount).toBe(6000);
    expectRefusal(many(200));
  });

  it('has not changed by a bit since there are prompts of other kinds', () => {
    const quarters = (length: number) => Float32Array.from({ length }, (_, i) => i / 4);
    const head = { w1: quarters(6), b1: quarters(2), w2: quarters(6), b2: quarters(3) };
    const prompt = { space: 'soft', context: quarters(8), contextTokens: 2, contextWidth: 4 } as const;
    const bytes = encodeAdapter({ prompt, head, classCount: 3 }, ABOUT);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(
      '5df1cc5c982d42f165d92cb72750835bf1d0e14e2d4f22ea24dd301e5084ed16',
    );
  });

  it.each<[string, Uint8Array]>([
    ['random bytes', new Uint8Array(100).fill(7)],
    ['a truncated file', encodeAdapter(WEIGHTS, ABOUT).subarray(0, 200)],
    ['another kind of file', altered(({ metadata }) => Object.assign(metadata, { format: 'lora' }))],
    ['a later version', altered(({ metadata }) => Object.assign(metadata, { version: '5' }))],
    ['the version of a kernel head', altered(({ metadata }) => Object.assign(metadata, { version: '4' }))],
    ['the version of a linear head', altered(({ metadata }) => Object.assign(metadata, { version: '3' }))],
    ['probe labels, which its head does not read', altered(saying({ probes: ['dog'] }))],
    ['transforms, which its head does not read', altered(saying({ transforms: ['identity', 'mirror'] }))],
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
    ['the version of a text prompt', altered(({ metadata }) => Object.assign(metadata, { version: '2' }))],
  ])('refuses %s', (_, bytes) => expectRefusal(bytes));
});

describe('the adapter file of a text prompt', () => {
  const described = { ...ABOUT, descriptions: ['purrs', null, 'is sly'] };

  it.each([
    ['a provider that scores', ABOUT, undefined],
    ['classes with descriptions', described, undefined],
    ['a provider that embeds', ABOUT, EMBEDDINGS],
  ])('keeps everything of %s', (_, about, textEmbeddings) => {
    expect(decodeAdapter(encodeAdapter(TEXT_WEIGHTS, about, textEmbeddings))).toEqual({
      weights: TEXT_WEIGHTS,
      about,
      ...(textEmbeddings ? { textEmbeddings } : {}),
    });
  });

  it('says that it is of version 2, with the embeddings by class', () => {
    const { metadata, tensors } = readSafetensors(encodeAdapter(TEXT_WEIGHTS, ABOUT, EMBEDDINGS));
    expect(metadata.version).toBe('2');
    expect(tensors.get('text_embeddings')?.shape).toEqual([3, 2]);
    expect(tensors.has('context')).toBe(false);
  });

  it.each<[string, Uint8Array]>([
    ['no template', alteredText(saying({ template: undefined }))],
    ['a template without a place for the class', alteredText(saying({ template: 'a photo.' }))],
    ['a template with two places for the class', alteredText(saying({ template: '{} and {}' }))],
    ['fewer descriptions than classes', alteredText(saying({ descriptions: ['purrs'] }))],
    [
      'embeddings of fewer classes',
      alteredText(({ tensors }) => {
        tensors.set('text_embeddings', { dtype: 'F32', shape: [2, 3], data: EMBEDDINGS });
      }),
    ],
    [
      'embeddings that are not finite',
      alteredText(({ tensors }) => {
        tensors.set('text_embeddings', { dtype: 'F32', shape: [3, 2], data: EMBEDDINGS.with(1, Number.NaN) });
      }),
    ],
    [
      'embeddings of another rank',
      alteredText(({ tensors }) => {
        tensors.set('text_embeddings', { dtype: 'F32', shape: [6], data: EMBEDDINGS });
      }),
    ],
    ['the version of a soft prompt', alteredText(({ metadata }) => Object.assign(metadata, { version: '1' }))],
  ])('refuses %s', (_, bytes) => expectRefusal(bytes));
});
