import fc from 'fast-check';
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
  kernelHeadOf,
  SCORES,
  SOFT,
  saying,
  shaped,
  TEXTS,
  WITH_PROBES,
  weightsOf,
  without,
} from './economy-heads.js';

const kernel = (inputs: HeadInputs) => weightsOf(kernelHeadOf(inputs));
const FILE = encodeAdapter(kernel(SCORES), WITH_PROBES);
/** Of that file: spaces of 5, 4, 6 and 6 landmarks on 2, 3, 2 and 3 axes of the 5 inputs. */
const LAYOUT = { spaces: [[0], [0, 1], [0], [1]], terms: [[0], [0], [1], [2, 3]] };

function expectRefusal(bytes: Uint8Array): void {
  expect(() => decodeAdapter(bytes)).toThrow(InvalidRequestError);
  expect(() => decodeAdapter(bytes)).toThrow(expect.objectContaining({ code: 'invalid_adapter_file', param: 'file' }));
}

/** Several changes to one file. */
const both =
  (...changes: ((file: File) => void)[]) =>
  (file: File) => {
    for (const change of changes) change(file);
  };
const laidOut = (layout: Partial<typeof LAYOUT>) => saying({ kernels: { ...LAYOUT, ...layout } });
const versioned = (version: string) => (file: File) => void Object.assign(file.metadata, { version });

describe('the adapter file of a kernel head', () => {
  it.each<[string, AdapterWeights, AdapterDescription, Float32Array?]>([
    ['scores in several transforms', kernel(SCORES), WITH_PROBES],
    ['scores of the image alone', kernel({ ...SCORES, transforms: 1 }), { ...WITH_PROBES, transforms: undefined }],
    ['the classes alone', kernel({ kind: 'scores', probes: 0, transforms: 1 }), { ...ABOUT, transforms: undefined }],
    ['embeddings in several transforms', kernel(EMBEDDED), ABOUT, TEXTS],
    [
      'embeddings of the image alone',
      kernel({ ...EMBEDDED, transforms: 1 }),
      { ...ABOUT, transforms: undefined },
      TEXTS,
    ],
    ['a soft prompt', { ...kernel(SCORES), prompt: SOFT }, WITH_PROBES],
  ])('keeps everything of %s', (_, weights, about, textEmbeddings) => {
    const bytes = encodeAdapter(weights, about, textEmbeddings);
    expect(readSafetensors(bytes).metadata.version).toBe('4');
    expect(decodeAdapter(bytes)).toEqual({ weights, about, ...(textEmbeddings ? { textEmbeddings } : {}) });
  });

  it('says which transforms are in its spaces, and which spaces in its terms', () => {
    const { metadata, tensors } = readSafetensors(FILE);
    expect(JSON.parse(metadata.adapter).kernels).toEqual(LAYOUT);
    expect(tensors.get('head.space.1.mean')?.shape).toEqual([5]);
    expect(tensors.get('head.space.1.axes')?.shape).toEqual([5, 3]);
    expect(tensors.get('head.space.1.landmarks')?.shape).toEqual([4, 3]);
    expect(tensors.get('head.term.3.scale.2')?.shape).toEqual([2]);
    expect(tensors.get('head.term.3.scale.3')?.shape).toEqual([3]);
    expect(tensors.get('head.term.3.coefficients')?.shape).toEqual([6, 3]);
  });

  it.each<[string, (file: File) => void]>([
    ['no kernels', saying({ kernels: undefined })],
    ['no spaces', laidOut({ spaces: [] })],
    ['no terms', laidOut({ terms: [] })],
    ['a space of no transform', laidOut({ spaces: [[0], [], [0], [1]] })],
    ['a space of an unknown transform', laidOut({ spaces: [[0], [0, 2], [0], [1]] })],
    ['a space of half a transform', laidOut({ spaces: [[0], [0, 0.5], [0], [1]] })],
    ['a term of no space', laidOut({ terms: [[0], [], [1], [2, 3]] })],
    ['a term of an unknown space', laidOut({ terms: [[0], [0], [1], [2, 4]] })],
    ['a term of unknown spaces alone', laidOut({ terms: [[0], [0], [1], [4, 5]] })],
    ['a term of a space before the first', laidOut({ terms: [[0], [0], [1], [2, -1]] })],
    ['a term of one space twice', laidOut({ terms: [[0], [0], [1], [2, 2]] })],
    [
      'a term of spaces with different landmarks',
      both(laidOut({ terms: [[0], [0], [1], [2, 1]] }), shaped('head.term.3.scale.1', [3])),
    ],
    ['fewer spaces than terms know', laidOut({ spaces: [[0], [0, 1], [0]] })],
    ['more terms than there are', laidOut({ terms: [...LAYOUT.terms, [0]] })],
    ['kernels with more than belongs there', saying({ kernels: { ...LAYOUT, name: 'rbf' } })],
    ['more spaces than are read', laidOut({ spaces: new Array(257).fill([0]) })],
    ['a term with another number of landmarks', shaped('head.term.2.coefficients', [5, 3])],
    ['a term of other classes', shaped('head.term.2.coefficients', [4, 2])],
    ['a scale of other axes', shaped('head.term.2.scale.1', [2])],
    ['a mean of other inputs', shaped('head.space.1.mean', [4])],
    ['axes of other inputs', shaped('head.space.1.axes', [4, 3])],
    ['other axes than its landmarks are along', shaped('head.space.1.axes', [5, 2])],
    [
      'a space of more axes than inputs, which would take memory without end for each image',
      both(
        shaped('head.space.1.axes', [5, 6]),
        shaped('head.space.1.landmarks', [4, 6]),
        shaped('head.term.2.scale.1', [6]),
      ),
    ],
    ['landmarks of another rank', shaped('head.space.1.landmarks', [12])],
    [
      'a space without axes',
      both(
        shaped('head.space.1.axes', [5, 0]),
        shaped('head.space.1.landmarks', [4, 0]),
        shaped('head.term.2.scale.1', [0]),
      ),
    ],
    [
      'a space without axes that claims more landmarks than there is memory for',
      both(shaped('head.space.1.axes', [5, 0]), (file) => {
        file.tensors.set('head.space.1.landmarks', { dtype: 'F32', shape: [2 ** 52, 0], data: new Float32Array(0) });
      }),
    ],
    [
      'a space without landmarks',
      both(shaped('head.space.1.landmarks', [0, 3]), shaped('head.term.2.coefficients', [0, 3])),
    ],
    ['no means', without('head.space.1.mean')],
    ['no axes', without('head.space.1.axes')],
    ['no landmarks', without('head.space.1.landmarks')],
    ['no scale', without('head.term.3.scale.2')],
    ['no coefficients', without('head.term.3.coefficients')],
    ['no shares', without('head.shares')],
    ['no weights', without('head.weight')],
    ['no bias', without('head.bias')],
    ['a mean that is not finite', broken('head.space.0.mean', Number.NaN)],
    ['axes that are not finite', broken('head.space.0.axes', Number.NEGATIVE_INFINITY)],
    ['landmarks that are not finite', broken('head.space.0.landmarks', Number.NaN)],
    ['a scale that is not finite', broken('head.term.0.scale.0', Number.POSITIVE_INFINITY)],
    ['coefficients that are not finite', broken('head.term.0.coefficients', Number.NaN)],
    [
      'integers for coefficients',
      ({ tensors }) =>
        void tensors.set('head.term.2.coefficients', { dtype: 'I32', shape: [4, 3], data: new Int32Array(12) }),
    ],
    ['inputs of another kind', saying({ inputs: EMBEDDED })],
    ['fewer transforms than are read', saying({ transforms: ['identity'] })],
    ['fewer classes than weights', saying({ classes: ['cat', 'dog'] })],
    ['the version of a linear head', versioned('3')],
    ['the version of a text prompt', versioned('2')],
    ['the version of a soft prompt', versioned('1')],
  ])('refuses %s', (_, change) => expectRefusal(altered(FILE, change)));

  it.each([4, 5])('reads a space in %d terms only as long as its landmarks are not taken too often', (count) => {
    const { kind, inputs, shares, weight, bias, spaces, terms } = kernelHeadOf({ ...SCORES, transforms: 1 });
    const head = { kind, inputs, shares, weight, bias, spaces, terms: new Array(count).fill(terms[0]) };
    const bytes = encodeAdapter(weightsOf(head), { ...WITH_PROBES, transforms: undefined });
    if (count > 4) expectRefusal(bytes);
    else expect(decodeAdapter(bytes).weights.head).toEqual(head);
  });

  it('refuses spaces of an untrained model, which has no inputs that could be compared', () => {
    const untrained = { ...EMBEDDED, width: 0, transforms: 1 };
    const bytes = encodeAdapter(kernel({ ...EMBEDDED, transforms: 1 }), { ...ABOUT, transforms: ['identity'] }, TEXTS);
    const empty = [
      shaped('head.space.0.mean', [0]),
      shaped('head.space.0.axes', [0, 2]),
      shaped('head.weight', [0, 3]),
    ];
    expectRefusal(altered(bytes, both(saying({ inputs: untrained }), ...empty)));
  });

  it('reads a file with any bytes changed, or refuses it by name', () => {
    const change = fc.record({ at: fc.nat(FILE.length - 1), value: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), fc.nat(FILE.length), (changes, length) => {
        const bytes = FILE.slice(0, length % 8 === 0 ? length : FILE.length);
        for (const { at, value } of changes) if (at < bytes.length) bytes[at] = value;
        try {
          expect(decodeAdapter(bytes).about.classes.length).toBeGreaterThanOrEqual(2);
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidRequestError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
