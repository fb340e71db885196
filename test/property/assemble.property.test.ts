import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LogitsAssembly, TextsAssembly } from '../../src/providers/assemble.js';
import { type CallLimits, type CallRange, classIndicesOf, cutIntoCalls } from '../../src/providers/calls.js';

const sizes = fc.record({
  prompts: fc.integer({ min: 1, max: 5 }),
  images: fc.integer({ min: 1, max: 12 }),
  classes: fc.integer({ min: 2, max: 20 }),
});
const counts = fc.record({
  promptsPerRequest: fc.integer({ min: 1, max: 5 }),
  imagesPerRequest: fc.integer({ min: 1, max: 12 }),
  classesPerRequest: fc.integer({ min: 2, max: 20 }),
});
/** Differences within an image of as much as models of vision and language show. */
const logit = fc.float({ min: -30, max: 30, noNaN: true });

interface Scoring {
  prompts: number;
  images: number;
  classes: number;
  limits: CallLimits;
  /** [P, N, C] */
  truth: Float32Array;
  /** The order in which the calls are answered. */
  order: number[];
}

/** A scoring with true logits, whose calls are answered in any order. */
const scoring = (anchored: boolean): fc.Arbitrary<Scoring> =>
  fc.tuple(sizes, counts).chain(([{ prompts, images, classes }, limits]) => {
    const length = prompts * images * classes;
    const calls = cutIntoCalls(prompts, new Array<number>(images).fill(1), classes, { ...limits, anchored }).length;
    return fc
      .record({
        values: fc.array(logit, { minLength: length, maxLength: length, size: 'max' }),
        order: fc.shuffledSubarray(
          Array.from({ length: calls }, (_, i) => i),
          { minLength: calls },
        ),
      })
      .map(({ values, order }) => ({
        ...{ prompts, images, classes, order },
        limits: { ...limits, anchored },
        truth: Float32Array.from(values),
      }));
  });

function callsOf({ prompts, images, classes, limits, order }: Scoring): CallRange[] {
  const calls = cutIntoCalls(prompts, new Array<number>(images).fill(1), classes, limits);
  return order.map((place) => calls[place]);
}

/** The true logits that a call asks about, [P, N, C], changed row by row as the provider changes them. */
function answerOf(scored: Scoring, call: CallRange, change: (row: number[]) => number[]): Float32Array {
  const { images, classes, truth } = scored;
  const named = classIndicesOf(call);
  const answer: number[] = [];
  for (let p = call.firstPrompt; p < call.firstPrompt + call.promptCount; p++) {
    for (let n = call.firstImage; n < call.firstImage + call.imageCount; n++) {
      answer.push(...change(named.map((c) => truth[(p * images + n) * classes + c])));
    }
  }
  return Float32Array.from(answer);
}

/** [N, C] of each prompt. */
function assemble(scored: Scoring, change: (row: number[]) => number[]): Map<number, Float32Array> {
  const assembled = new Map<number, Float32Array>();
  const assembly = new LogitsAssembly(scored.images, scored.classes, (prompt, logits) => {
    expect(assembled.has(prompt)).toBe(false);
    assembled.set(prompt, logits);
  });
  for (const call of callsOf(scored)) assembly.add(call, answerOf(scored, call, change));
  expect(assembled.size).toBe(scored.prompts);
  return assembled;
}

function logSoftmax(row: number[]): number[] {
  const greatest = Math.max(...row);
  const total = row.reduce((sum, value) => sum + Math.exp(value - greatest), 0);
  return row.map((value) => value - greatest - Math.log(total));
}

describe('LogitsAssembly', () => {
  it('puts logits together as they are, in whatever order calls are answered', () => {
    fc.assert(
      fc.property(scoring(false), (scored) => {
        const size = scored.images * scored.classes;
        for (const [prompt, logits] of assemble(scored, (row) => row)) {
          expect(logits).toEqual(scored.truth.slice(prompt * size, (prompt + 1) * size));
        }
      }),
    );
  });

  it('restores the true logits, up to one constant for each image, from log-softmax within anchored rounds', () => {
    fc.assert(
      fc.property(scoring(true), (scored) => {
        const { images, classes, truth } = scored;
        for (const [prompt, logits] of assemble(scored, logSoftmax)) {
          for (let n = 0; n < images; n++) {
            const row = (prompt * images + n) * classes;
            const constant = logits[n * classes] - truth[row];
            for (let c = 1; c < classes; c++) {
              expect(Math.abs(logits[n * classes + c] - truth[row + c] - constant)).toBeLessThan(1e-4);
            }
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('TextsAssembly', () => {
  it('puts the embeddings of the texts together, in whatever order calls are answered', () => {
    const width = 3;
    fc.assert(
      fc.property(scoring(false), fc.constantFrom(true, false), (scored, inRounds) => {
        const { prompts, classes, limits } = scored;
        const rounds = inRounds ? limits.classesPerRequest : undefined;
        const calls = cutIntoCalls(prompts, [], classes, { ...limits, classesPerRequest: rounds, embedsTexts: true });
        const embedding = (prompt: number, c: number) => [prompt, c, prompt * c];
        const received = new Map<number, Float32Array>();
        const assembly = new TextsAssembly(classes, (prompt, embeddings) => received.set(prompt, embeddings.slice()));
        for (const call of calls.reverse()) {
          const rows: number[] = [];
          for (let p = call.firstPrompt; p < call.firstPrompt + call.promptCount; p++) {
            for (let c = call.firstClass; c < call.firstClass + call.classCount; c++) rows.push(...embedding(p, c));
          }
          assembly.add(call, Float32Array.from(rows));
        }
        expect(received.size).toBe(prompts);
        for (const [prompt, embeddings] of received) {
          expect(embeddings).toHaveLength(classes * width);
          const expected = Array.from({ length: classes }, (_, c) => embedding(prompt, c)).flat();
          expect([...embeddings]).toEqual(expected);
        }
      }),
    );
  });
});
