import { describe, expect, it } from 'vitest';
import { type AdapterDescription, decodeAdapter, encodeAdapter } from '../../../src/adapters/adapter-file.js';
import type { HeadInputs } from '../../../src/craft/economy/head-inputs.js';
import type { AdapterWeights } from '../../../src/craft/trainer-interface.js';
import { InvalidRequestError } from '../../../src/errors.js';
import { readSafetensors } from '../../../src/formats/safetensors.js';
import {
  ABOUT,
  altered,
  broken,
  EMBEDDED,
  type File,
  linearHeadOf,
  SCORES,
  SOFT,
  saying,
  shaped,
  TEXTS,
  WITH_PROBES,
  weightsOf,
  without,
} from './economy-heads.js';

const linear = (inputs: HeadInputs) => weightsOf(linearHeadOf(inputs));
const FILE = encodeAdapter(linear(SCORES), WITH_PROBES);

describe('the adapter file of a linear head', () => {
  it.each<[string, AdapterWeights, AdapterDescription, Float32Array?]>([
    ['scores', linear(SCORES), WITH_PROBES],
    ['a soft prompt', { ...linear(SCORES), prompt: SOFT }, WITH_PROBES],
    ['embeddings', linear(EMBEDDED), ABOUT, TEXTS],
    ['the image alone', linear({ ...SCORES, transforms: 1 }), { ...WITH_PROBES, transforms: undefined }],
    ['the classes alone', linear({ kind: 'scores', probes: 0, transforms: 1 }), { ...ABOUT, transforms: undefined }],
    [
      'an untrained model that embeds',
      linear({ kind: 'embedding', width: 0, transforms: 1 }),
      { ...ABOUT, transforms: undefined },
      TEXTS,
    ],
  ])('keeps everything of %s', (_, weights, about, textEmbeddings) => {
    const bytes = encodeAdapter(weights, about, textEmbeddings);
    expect(readSafetensors(bytes).metadata.version).toBe('3');
    expect(decodeAdapter(bytes)).toEqual({ weights, about, ...(textEmbeddings ? { textEmbeddings } : {}) });
  });

  it('names the transforms that its head has seen, of those that were planned', () => {
    const weights = linear({ ...SCORES, transforms: 1 });
    expect(decodeAdapter(encodeAdapter(weights, WITH_PROBES)).about.transforms).toEqual(['identity']);
  });

  it.each<[string, (file: File) => void]>([
    ['no inputs', saying({ inputs: undefined })],
    ['inputs of an unknown kind', saying({ inputs: { kind: 'pixels', transforms: 2, width: 3 } })],
    ['inputs with more than belongs there', saying({ inputs: { ...SCORES, width: 3 } })],
    ['inputs of another kind than the weights', saying({ inputs: EMBEDDED })],
    ['no transforms in its inputs', saying({ inputs: { ...SCORES, transforms: 0 } })],
    ['more transforms than one may cost', saying({ inputs: { ...SCORES, transforms: 17 } })],
    ['half a probe label', saying({ inputs: { ...SCORES, probes: 1.5 } })],
    ['fewer probe labels than are read', saying({ probes: ['tree'] })],
    ['no probe labels', saying({ probes: undefined })],
    ['an empty probe label', saying({ probes: ['', 'red'] })],
    ['fewer transforms than are read', saying({ transforms: ['identity'] })],
    ['transforms that are not known', saying({ transforms: ['identity', 'upside_down'] })],
    ['no transforms', saying({ transforms: [] })],
    ['no template and no context', saying({ template: undefined })],
    ['a template without a place for the class', saying({ template: 'a cat' })],
    ['fewer classes than weights', saying({ classes: ['cat', 'dog'] })],
    ['shares of other transforms', shaped('head.shares', [3])],
    ['shares of another rank', shaped('head.shares', [2, 1])],
    ['weights of other inputs', shaped('head.weight', [9, 3])],
    ['weights of other classes', shaped('head.weight', [10, 2])],
    ['a bias of other classes', shaped('head.bias', [2])],
    ['no bias', without('head.bias')],
    ['no weights', without('head.weight')],
    ['no shares', without('head.shares')],
    ['weights that are not finite', broken('head.weight', Number.NaN)],
    [
      'integers for a bias',
      ({ tensors }) => void tensors.set('head.bias', { dtype: 'I32', shape: [3], data: new Int32Array(3) }),
    ],
    ['kernels', saying({ kernels: { spaces: [[0]], terms: [[0]] } })],
    ['the version of a text prompt', ({ metadata }) => void Object.assign(metadata, { version: '2' })],
    ['the version of a kernel head', ({ metadata }) => void Object.assign(metadata, { version: '4' })],
  ])('refuses %s', (_, change) => {
    expect(() => decodeAdapter(altered(FILE, change))).toThrow(InvalidRequestError);
    expect(() => decodeAdapter(altered(FILE, change))).toThrow(
      expect.objectContaining({ code: 'invalid_adapter_file', param: 'file' }),
    );
  });

  it('refuses texts whose embeddings are of another width than those of images', () => {
    const bytes = altered(encodeAdapter(linear(EMBEDDED), ABOUT, TEXTS), shaped('text_embeddings', [3, 5]));
    expect(() => decodeAdapter(bytes)).toThrow(InvalidRequestError);
  });
});
