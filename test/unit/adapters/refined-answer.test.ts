import { describe, expect, it } from 'vitest';
import { AnswerReader } from '../../../src/adapters/refined-answer.js';
import { refineAnswers } from '../../../src/craft/economy/economy-head.js';
import type { HeadInputs } from '../../../src/craft/economy/head-inputs.js';
import { noHead } from '../../../src/craft/economy/linear-head.js';
import { initialHead, refineLogits } from '../../../src/craft/head-weights.js';
import { Random } from '../../../src/craft/random.js';
import { ConflictError } from '../../../src/errors.js';
import { CLASSES, EMBEDDED, kernelHeadOf, linearHeadOf, SCORES } from './economy-heads.js';

describe('AnswerReader', () => {
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

  const CASES = [
    ['scores', SCORES, 1],
    ['scores of several views', SCORES, VIEWS],
    ['embeddings', EMBEDDED, 1],
    ['embeddings of several views', EMBEDDED, VIEWS],
    ['several views without transforms', { ...SCORES, transforms: 1 }, VIEWS],
  ] as const;
  it.each(CASES.flatMap((one) => [linearHeadOf, kernelHeadOf].map((headOf) => [...one, headOf(one[1])] as const)))(
    'averages what the head says of each view, and has the black box for the image itself: %s, %#',
    async (_, inputs, views, head) => {
      const reader = new AnswerReader(head);
      const { refined, blackBox } = await reader.read(answered(inputs, views), views);
      // What is prepared is not used up, and who is read beside others is read the same.
      const beside = [reader.read(answered(inputs, 1), 1), reader.read(answered(inputs, views), views)];
      expect((await Promise.all(beside))[1]).toEqual({ refined, blackBox });
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

  it('reads no embeddings where the model was not trained', async () => {
    const untrained: HeadInputs = { kind: 'embedding', width: 0, transforms: 1 };
    const answers = answered({ ...EMBEDDED, transforms: 1 }, 1);
    const { refined } = await new AnswerReader(noHead(untrained, CLASSES)).read(answers, 1);
    expect(refined).toEqual(answers.logits);
  });

  it.each([linearHeadOf, kernelHeadOf])('refuses embeddings of another model', async (headOf) => {
    const answers = answered({ ...EMBEDDED, width: 5 }, 1);
    for (const answered of [answers, { logits: answers.logits }]) {
      const reading = () => new AnswerReader(headOf(EMBEDDED)).read(answered, 1);
      await expect(reading).rejects.toThrow(ConflictError);
      await expect(reading).rejects.toThrow(/embeddings of 4 numbers/);
      await expect(reading).rejects.toMatchObject({ code: 'adapter_does_not_fit', param: 'adapter_id' });
    }
  });

  it('has the heads of the published algorithm refine class logits', async () => {
    const head = initialHead(CLASSES, 4, Random.stream(1, 'test'));
    const logits = Random.stream(2, 'logits').fillNormal(new Float32Array(2 * CLASSES));
    expect(await new AnswerReader(head).read({ logits }, 1)).toEqual({
      refined: refineLogits(head, logits),
      blackBox: logits,
    });
  });
});
