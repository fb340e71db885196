import { NonFiniteLogitsError, ScoringContractError } from './errors.js';
import type { Prompts } from './prompts.js';

/** Prompts for the black box to score on every image of a set. */
export interface ScoringRequest {
  /** Elites were scored before, and only their losses are wanted afresh. */
  purpose: 'candidates' | 'elites' | 'centre' | 'validation';
  imageSet: 'training' | 'validation';
  prompts: Prompts;
  /** Which view of each image; absent or 0: the image itself. */
  view?: number;
  /** Which of the job's transforms of the view; absent or 0: none. */
  transform?: number;
}

/** Takes the logits, [images, C], of one prompt. The array belongs to the trainer from then on. */
export type ReceiveLogits = (promptIndex: number, logits: Float32Array) => void;

/**
 * Calls `receive` exactly once per prompt, in any order, then resolves. May be called again before it has resolved: the
 * centre is scored on both image sets at once.
 */
export type Score = (request: ScoringRequest, receive: ReceiveLogits) => Promise<void>;

/**
 * Has a request scored and evaluates the logits of each prompt as they arrive, so that little is held in memory and the
 * work overlaps with the waiting. Each prompt is evaluated by itself, so the order of arrival cannot matter.
 * @param rowWidth numbers of each image: C, or more where further scores or an embedding follow; null: as many as there are
 * @returns what `evaluate` made of each prompt, in the order of the prompts
 * @throws ScoringContractError, NonFiniteLogitsError
 */
export async function scorePrompts<T>(
  score: Score,
  request: ScoringRequest,
  imageCount: number,
  rowWidth: number | null,
  evaluate: (logits: Float32Array) => Promise<T>,
): Promise<T[]> {
  const promptCount = request.prompts.count;
  const evaluations = new Map<number, Promise<T>>();
  const failures: unknown[] = [];
  let open = true;
  const receive: ReceiveLogits = (promptIndex, logits) => {
    try {
      if (!open) throw new ScoringContractError(`Logits of prompt ${promptIndex} arrived after scoring had ended.`);
      if (!Number.isInteger(promptIndex) || promptIndex < 0 || promptIndex >= promptCount) {
        throw new ScoringContractError(`There is no prompt ${promptIndex} among ${promptCount}.`);
      }
      if (evaluations.has(promptIndex)) throw new ScoringContractError(`Prompt ${promptIndex} was answered twice.`);
      checkLogits(logits, promptIndex, imageCount, rowWidth ?? Math.floor(logits.length / imageCount));
    } catch (error) {
      failures.push(error);
      throw error;
    }
    const evaluation = evaluate(logits);
    evaluation.catch((error: unknown) => failures.push(error));
    evaluations.set(promptIndex, evaluation);
  };
  try {
    await score(request, receive);
  } catch (error) {
    failures.push(error);
  }
  open = false;
  await Promise.allSettled(evaluations.values());
  if (failures.length > 0) throw failures[0];
  if (evaluations.size !== promptCount) {
    throw new ScoringContractError(`Only ${evaluations.size} of ${promptCount} prompts were answered.`);
  }
  return Promise.all(Array.from({ length: promptCount }, (_, index) => evaluations.get(index) as Promise<T>));
}

function checkLogits(logits: Float32Array, promptIndex: number, imageCount: number, classCount: number): void {
  if (logits.length !== imageCount * classCount) {
    throw new ScoringContractError(
      `Prompt ${promptIndex} got ${logits.length} logits, not ${imageCount} images × ${classCount} classes.`,
    );
  }
  for (let i = 0; i < logits.length; i++) {
    if (!Number.isFinite(logits[i])) {
      const place = `image ${Math.floor(i / classCount)}, class ${i % classCount}`;
      throw new NonFiniteLogitsError(`The logit of prompt ${promptIndex}, ${place} is ${logits[i]}.`);
    }
  }
}
