/**
 * How one scoring of P prompts on N images is cut into provider calls. The plan counts these calls before a job starts
 * and the scorer sends them, so that what is promised is what is spent.
 */
export interface CallRange {
  /** Position among the calls of one generation. */
  chunk: number;
  firstPrompt: number;
  promptCount: number;
  firstImage: number;
  imageCount: number;
}

/** Cuts both axes into equal parts (sizes differ by one at most), prompts outermost. */
export function cutIntoCalls(
  promptCount: number,
  imageCount: number,
  limits: { promptsPerRequest: number; imagesPerRequest: number },
  firstChunk = 0,
): CallRange[] {
  const calls: CallRange[] = [];
  for (const prompts of equalParts(promptCount, limits.promptsPerRequest)) {
    for (const images of equalParts(imageCount, limits.imagesPerRequest)) {
      calls.push({
        chunk: firstChunk + calls.length,
        firstPrompt: prompts.first,
        promptCount: prompts.count,
        firstImage: images.first,
        imageCount: images.count,
      });
    }
  }
  return calls;
}

/** A prompt evaluation is charged to the call that carries the first of its images. */
export function promptEvaluationsOf(call: CallRange): number {
  return call.firstImage === 0 ? call.promptCount : 0;
}

function equalParts(total: number, largest: number): { first: number; count: number }[] {
  const parts = Math.ceil(total / largest);
  return Array.from({ length: parts }, (_, part) => {
    const first = Math.floor((total * part) / parts);
    return { first, count: Math.floor((total * (part + 1)) / parts) - first };
  });
}
