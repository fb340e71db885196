import { Batcher } from '../batcher.js';
import { type EconomyHead, PreparedHead } from '../craft/economy/economy-head.js';
import { answerWidthOf, sharedLogits } from '../craft/economy/head-inputs.js';
import { type HeadWeights, refineLogits } from '../craft/head-weights.js';
import { ConflictError } from '../errors.js';
import { readsAnswers } from './adapter-head.js';

/** What a black box answered to some images: to each in V views, and to each view in T transforms, one after another. */
interface Answers {
  /** [N·V·T, C], or with probe labels [N·V·T, C + M] */
  logits: Float32Array;
  /** [N·V·T, D], where the provider embeds. */
  embeddings?: Float32Array;
}

/** A head of either strategy, ready for answers. */
export class AnswerReader {
  private readonly prepared: PreparedHead | null;
  /** Those whose answers came in one call: a product for all of them takes little longer than one for each. */
  private readonly refining = new Batcher<Float32Array[], Float32Array>(
    async (answers) => this.refineAll(answers),
    () => true,
  );

  constructor(private readonly head: HeadWeights | EconomyHead) {
    this.prepared = readsAnswers(head) ? new PreparedHead(head) : null;
  }

  /**
   * What an adapter makes of an answer.
   * @param views V
   * @returns class logits [N, C]: refined, the mean of all views, and as the black box alone has them for the image itself
   * @throws ConflictError when the black box embeds otherwise than the head has learned
   */
  async read(answers: Answers, views: number): Promise<{ refined: Float32Array; blackBox: Float32Array }> {
    const { head, prepared } = this;
    if (!readsAnswers(head) || !prepared) {
      return { refined: refineLogits(head as HeadWeights, answers.logits), blackBox: answers.logits };
    }
    const { inputs, bias } = head;
    const classCount = bias.length;
    const byTransform = split(head, answers, classCount);
    const refined = meanOfViews(await this.refining.submit(byTransform), classCount, views);
    const blackBox = sharedLogits(inputs, byTransform.slice(0, 1), [1], classCount);
    return { refined, blackBox: blackBox.filter((_, at) => Math.floor(at / classCount) % views === 0) };
  }

  /** @param answers of each of several readers, of each transform, [N, answer width] */
  private refineAll(answers: Float32Array[][]): Float32Array[] {
    const { inputs, bias } = this.prepared!.head;
    const together = answers[0].map((_, transform) => concatenated(answers.map((own) => own[transform])));
    const refined = this.prepared!.refine(together);
    const answerWidth = answerWidthOf(inputs, bias.length);
    let from = 0;
    return answers.map(([own]) => {
      const to = from + (own.length / answerWidth) * bias.length;
      const logits = refined.subarray(from, to);
      from = to;
      return logits;
    });
  }
}

function concatenated(parts: Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0];
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** @returns of each transform, rows as the head was trained on them: class logits, then probe scores or the embedding */
function split({ inputs }: EconomyHead, { logits, embeddings }: Answers, classCount: number): Float32Array[] {
  // The untrained model has no inputs of embeddings.
  const embedded = inputs.kind === 'embedding' && inputs.width > 0 ? embeddings : undefined;
  const scores = inputs.kind === 'scores' ? classCount + inputs.probes : classCount;
  const count = logits.length / scores;
  const width = embedded ? embedded.length / count : 0;
  if (inputs.kind === 'embedding' && width !== inputs.width) {
    throw new ConflictError({
      code: 'adapter_does_not_fit',
      param: 'adapter_id',
      message: `The adapter's head reads embeddings of ${inputs.width} numbers, but its provider answers ${width}. Give the provider's record the model that the adapter was trained with.`,
    });
  }
  return Array.from({ length: inputs.transforms }, (_, transform) => {
    const rows = new Float32Array((count / inputs.transforms) * (scores + width));
    for (let i = 0; i < count / inputs.transforms; i++) {
      const from = i * inputs.transforms + transform;
      rows.set(logits.subarray(from * scores, (from + 1) * scores), i * (scores + width));
      if (embedded) rows.set(embedded.subarray(from * width, (from + 1) * width), i * (scores + width) + scores);
    }
    return rows;
  });
}

/** @param logits [N·V, C] @returns [N, C] */
function meanOfViews(logits: Float32Array, classCount: number, views: number): Float32Array {
  const means = new Float32Array(logits.length / views);
  for (let at = 0; at < logits.length; at++) {
    const image = Math.floor(at / (classCount * views));
    means[image * classCount + (at % classCount)] += logits[at] / views;
  }
  return means;
}
