import { inputWidthOf, readInputs, sharedLogits } from './head-inputs.js';
import { type KernelHead, KernelTerms } from './kernel-head.js';
import type { LinearHead } from './linear-head.js';

/** A refinement head on all that a black box answers. */
export type EconomyHead = LinearHead | KernelHead;

/** A head that is ready to refine answers, as often as there are any. */
export class PreparedHead {
  private readonly terms: KernelTerms | null;
  private readonly isWeighted: boolean;

  constructor(readonly head: EconomyHead) {
    const width = inputWidthOf(head.inputs, head.bias.length);
    this.isWeighted = head.weight.some((value) => value !== 0);
    this.terms = head.kind === 'kernel' ? new KernelTerms(head, width, head.bias.length) : null;
  }

  /**
   * r, without a backend to start: a linear head in double precision, likenesses in single.
   * @param answers of each transform, [N, answer width]
   * @returns r, [N, C]
   */
  refine(answers: ArrayLike<number>[]): Float32Array {
    const { inputs, shares, weight, bias } = this.head;
    const classCount = bias.length;
    const width = inputWidthOf(inputs, classCount);
    const refined = sharedLogits(inputs, answers, shares, classCount);
    const x = new Float64Array(width * inputs.transforms);
    const sums = new Float64Array(classCount);
    const read = (image: number, into: Float64Array) => {
      for (const [t, rows] of answers.entries()) readInputs(inputs, rows, image, classCount, into, t * width);
    };
    for (let i = 0; i < refined.length / classCount; i++) {
      sums.set(bias);
      if (this.isWeighted) {
        read(i, x);
        for (let j = 0, at = 0; j < x.length; j++) {
          for (let c = 0; c < classCount; c++) sums[c] += x[j] * weight[at++];
        }
      }
      for (let c = 0; c < classCount; c++) refined[i * classCount + c] += sums[c];
    }
    this.terms?.addTo(refined, inputs.transforms, read);
    return refined;
  }
}

/** What a head makes of answers, once; {@link PreparedHead} is for more of them. */
export function refineAnswers(head: EconomyHead, answers: ArrayLike<number>[]): Float32Array {
  return new PreparedHead(head).refine(answers);
}
