/** Answers that may be kept instead of a state, in bytes. They are written in any case; a state only ends their being kept. */
const KEPT_ANSWER_BYTES = 16 * 1024 * 1024;

/**
 * Generations from one saved training state to the next. A resumed job computes those in between again from stored
 * answers, which costs no query and little time; so a state, which is large, is written now and then only, unless the
 * answers are larger still.
 * @param most as many at most
 * @param generation what a generation asks: prompts × images × classes
 */
export function stateInterval(
  most: number,
  { prompts, images, classes }: { prompts: number; images: number; classes: number },
): number {
  const answerBytes = prompts * images * classes * Float32Array.BYTES_PER_ELEMENT;
  return Math.max(1, Math.min(most, Math.floor(KEPT_ANSWER_BYTES / answerBytes)));
}
