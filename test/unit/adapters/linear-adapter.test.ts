import { describe, expect, it } from 'vitest';
import { type AdapterDescription, decodeAdapter, encodeAdapter } from '../../../src/adapters/adapter-file.js';
import { readAnswer } from '../../../src/adapters/refined-answer.js';
import { type HeadInputs, type LinearHead, noHead, refineAnswers } from '../../../src/craft/economy/linear-head.js';
import { initialHead, refineLogits } from '../../../src/craft/head-weights.js';
import { Random } from '../../../src/craft/random.js';
import type { AdapterWeights } from '../../../src/craft/trainer.js';
import { ConflictError, InvalidRequestError } from '../../../src/errors.js';
import { readSafetensors, writeSafetensors } from '../../../src/formats/safetensors.js';

const CLASSES = 3;
const SCORES: HeadInputs = { kind: 'scores', probes: 2, transforms: 2 };
const EMBEDDED: HeadInputs = { kind: 'embedding', width: 4, transforms: 2 };

function headOf(inputs: HeadInputs): LinearHead {
  const random = Random.stream(1, 'head');
  const empty = noHead(inputs, CLASSES);
  return {
    ...empty,
    shares: random.fillNormal(new Float32Array(inputs.transforms)),
    weight: random.fillNormal(new Float32Array(empty.weight.length)),
    bias: random.fillNormal(new Float32Array(CLASSES)),
  };
}

function weightsOf(inputs: HeadInputs): AdapterWeights {
  return { prompt: { space: 'text', template: 'a {}.' }, head: headOf(inputs), classCount: CLASSES };
}

const SOFT = { space: 'soft', context: new Float32Array(8).fill(0.5), contextTokens: 2, contextWidth: 4 } as const;

const ABOUT: AdapterDescription = {
  classes: ['cat', 'dog', 'fox'],
  transforms: ['identity', 'mirror'],
  provider: { name: 'box', protocol: 'open_inference', remoteModel: 'clip' },
  hyperparameters: { strategy: 'economy' },
  metrics: { held_out_accuracy: 0.5 },
};
const WITH_PROBES: AdapterDescription = { ...ABOUT, probes: ['tree', 'red'] };
/** [C, D] */
const TEXTS = Float32Array.from({ length: CLASSES * 4 }, (_, i) => i / 8);

describe('the adapter file of a linear head', () => {
  it.each<[string, AdapterWeights, AdapterDescription, Float32Array?]>([
    ['scores', weightsOf(SCORES), WITH_PROBES],
    ['a soft prompt', { ...weightsOf(SCORES), prompt: SOFT }, WITH_PROBES],
    ['embeddings', weightsOf(EMBEDDED), ABOUT, TEXTS],
    ['the image alone', weightsOf({ ...SCORES, transforms: 1 }), { ...WITH_PROBES, transforms: undefined }],
    ['the classes alone', weightsOf({ kind: 'scores', probes: 0, transforms: 1 }), { ...ABOUT, transforms: undefined }],
    [
      'an untrained model that embeds',
      weightsOf({ kind: 'embedding', width: 0, transforms: 1 }),
      { ...ABOUT, transforms: undefined },
      TEXTS,
    ],
  ])('keeps everything of %s', (_, weights, about, textEmbeddings) => {
    const bytes = encodeAdapter(weights, about, textEmbeddings);
    expect(readSafetensors(bytes).metadata.version).toBe('3');
    expect(decodeAdapter(bytes)).toEqual({ weights, about, ...(textEmbeddings ? { textEmbeddings } : {}) });
  });

  it('names the transforms that its head has seen, of those that were planned', () => {
    const weights = weightsOf({ ...SCORES, transforms: 1 });
    expect(decodeAdapter(encodeAdapter(weights, WITH_PROBES)).about.transforms).toEqual(['identity']);
  });

  type File = ReturnType<typeof readSafetensors>;
  function altered(change: (file: File) => void, bytes = encodeAdapter(weightsOf(SCORES), WITH_PROBES)): Uint8Array {
    const file = readSafetensors(bytes);
    change(file);
    return writeSafetensors(file.tensors, file.metadata);
  }
  const saying = (changes: Record<string, unknown>) => (file: File) => {
    file.metadata.adapter = JSON.stringify({ ...JSON.parse(file.metadata.adapter), ...changes });
  };
  const shaped = (name: string, shape: number[]) => (file: File) => {
    file.tensors.set(name, { dtype: 'F32', shape, data: new Float32Array(shape.reduce((all, size) => all * size, 1)) });
  };

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
    ['no bias', (file) => void file.tensors.delete('head.bias')],
    ['no weights', (file) => void file.tensors.delete('head.weight')],
    ['no shares', (file) => void file.tensors.delete('head.shares')],
    ['weights that are not finite', ({ tensors }) => void tensors.get('head.weight')?.data.fill(Number.NaN as never)],
    [
      'integers for a bias',
      ({ tensors }) => void tensors.set('head.bias', { dtype: 'I32', shape: [3], data: new Int32Array(3) }),
    ],
    ['another version', ({ metadata }) => void Object.assign(metadata, { version: '2' })],
  ])('refuses %s', (_, change) => {
    expect(() => decodeAdapter(altered(change))).toThrow(InvalidRequestError);
    expect(() => decodeAdapter(altered(change))).toThrow(
      expect.objectContaining({ code: 'invalid_adapter_file', param: 'file' }),
    );
  });

  it('refuses texts whose embeddings are of another width than those of images', () => {
    const bytes = altered(shaped('text_embeddings', [3, 5]), encodeAdapter(weightsOf(EMBEDDED), ABOUT, TEXTS));
    expect(() => decodeAdapter(bytes)).toThrow(InvalidRequestError);
  });
});

describe('readAnswer', () => {
  const IMAGES = 3;
  const VIEWS = 2;

  /** Of one image, one view and one transform: the same whoever asks. */
  const row = (image: number, view: number, transform: number, width: number, of = 'scores') => {
    return [...Random.stream(7, `${image}/${view}/${transform}/${of}`).fillNormal(new Float32Array(width))];
  };

  /** In the order in which a prediction asks. */
  function answered(inputs: HeadInputs, views: number) {
    const all = Array.from({ length: IMAGES }, (_, image) =>
      Array.from({ length: views }, (_, view) =>
        Array.from({ length: inputs.transforms }, (_, t) => [image, view, t] as const),
      ),
    ).flat(2);
    const scores = CLASSES + (inputs.kind === 'scores' ? inputs.probes : 0);
    const logits = Float32Array.from(all.flatMap((which) => row(...which, scores)));
    if (inputs.kind === 'scores') return { logits };
    return { logits, embeddings: Float32Array.from(all.flatMap((which) => row(...which, inputs.width, 'embedding'))) };
  }

  it.each([
    ['scores', SCORES, 1],
    ['scores of several views', SCORES, VIEWS],
    ['embeddings', EMBEDDED, 1],
    ['embeddings of several views', EMBEDDED, VIEWS],
    ['several views without transforms', { ...SCORES, transforms: 1 }, VIEWS],
  ] as const)(
    'averages what the head says of each view, and has the black box for the image itself: %s',
    (_, inputs, views) => {
      const head = headOf(inputs);
      const { refined, blackBox } = readAnswer(head, answered(inputs, views), views);
      expect([refined.length, blackBox.length]).toEqual([IMAGES * CLASSES, IMAGES * CLASSES]);
      for (let image = 0; image < IMAGES; image++) {
        const mean = new Float64Array(CLASSES);
        for (let view = 0; view < views; view++) {
          const byTransform = Array.from({ length: inputs.transforms }, (_, t) => {
            if (inputs.kind === 'scores') return Float32Array.from(row(image, view, t, CLASSES + inputs.probes));
            return Float32Array.from([
              ...row(image, view, t, CLASSES),
              ...row(image, view, t, inputs.width, 'embedding'),
            ]);
          });
          const own = refineAnswers(head, byTransform);
          for (let c = 0; c < CLASSES; c++) mean[c] += own[c] / views;
        }
        const itself = row(image, 0, 0, inputs.kind === 'scores' ? CLASSES + inputs.probes : CLASSES);
        for (let c = 0; c < CLASSES; c++) {
          expect(refined[image * CLASSES + c]).toBeCloseTo(mean[c], 4);
          expect(blackBox[image * CLASSES + c]).toBe(itself[c]);
        }
      }
    },
  );

  it('reads no embeddings where the model was not trained', () => {
    const untrained: HeadInputs = { kind: 'embedding', width: 0, transforms: 1 };
    const answers = answered({ ...EMBEDDED, transforms: 1 }, 1);
    expect(readAnswer(noHead(untrained, CLASSES), answers, 1).refined).toEqual(answers.logits);
  });

  it('refuses embeddings of another model', () => {
    const answers = answered({ ...EMBEDDED, width: 5 }, 1);
    for (const answered of [answers, { logits: answers.logits }]) {
      const reading = () => readAnswer(headOf(EMBEDDED), answered, 1);
      expect(reading).toThrow(ConflictError);
      expect(reading).toThrow(/embeddings of 4 numbers/);
      expect(reading).toThrow(expect.objectContaining({ code: 'adapter_does_not_fit', param: 'adapter_id' }));
    }
  });

  it('has the heads of the published algorithm refine class logits', () => {
    const head = initialHead(CLASSES, 4, Random.stream(1, 'test'));
    const logits = Random.stream(2, 'logits').fillNormal(new Float32Array(2 * CLASSES));
    expect(readAnswer(head, { logits }, 1)).toEqual({ refined: refineLogits(head, logits), blackBox: logits });
  });
});
