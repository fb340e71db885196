/**
 * How one scoring of P prompts on N images and C classes is cut into provider calls. The plan counts these calls before a
 * job starts and the scorer sends them, so that what is promised is what is spent.
 */
export interface CallRange {
  /** Position among the calls of one generation. */
  chunk: number;
  firstPrompt: number;
  promptCount: number;
  firstImage: number;
  /** 0 of a call that embeds texts. */
  imageCount: number;
  firstClass: number;
  classCount: number;
  /** Whether class 0 is asked about once more, because scores are comparable within one request only. */
  anchored: boolean;
}

/** Everything that decides the cut. A job's plan keeps it; what is absent limits nothing. */
export interface CallLimits {
  promptsPerRequest: number;
  imagesPerRequest: number;
  /** Fewer than the classes: they are asked about in rounds. */
  classesPerRequest?: number;
  /** Whether rounds need an anchor to be compared by. */
  anchored?: boolean;
  /** Whether calls embed texts, whatever images they are compared with then. */
  embedsTexts?: boolean;
  /** Prompts × images. */
  imageQueriesPerRequest?: number;
  /** What prompts and images may take together, and what one prompt takes of it. */
  bytes?: { perRequest: number; perPrompt: number };
}

/** What an image takes in a request beyond its own bytes: its length; or, of a tiny one, a reference in its place. */
const IMAGE_OVERHEAD_BYTES = 64;

interface Part {
  first: number;
  count: number;
}

/**
 * Cuts prompts, classes and images into as few calls as the limits allow, prompts outermost. Each axis falls into equal
 * parts (sizes differ by one at most), but for images where only unequal parts keep to the bytes of a request.
 * @param imageSizes encoded bytes of each image
 */
export function cutIntoCalls(
  promptCount: number,
  imageSizes: readonly number[],
  classCount: number,
  limits: CallLimits,
  firstChunk = 0,
): CallRange[] {
  const calls: CallRange[] = [];
  const { promptParts, classParts, imageParts } = axesOf(promptCount, imageSizes, classCount, limits);
  for (const prompts of promptParts) {
    for (const classes of classParts) {
      for (const images of imageParts) {
        calls.push({
          chunk: firstChunk + calls.length,
          firstPrompt: prompts.first,
          promptCount: prompts.count,
          firstImage: images.first,
          imageCount: images.count,
          firstClass: classes.first,
          classCount: classes.count,
          anchored: limits.anchored === true && classes.first > 0,
        });
      }
    }
  }
  return calls;
}

/** How many calls {@link cutIntoCalls} makes, without making them. */
export function countCalls(
  promptCount: number,
  imageSizes: readonly number[],
  classCount: number,
  limits: CallLimits,
): number {
  const { promptParts, classParts, imageParts } = axesOf(promptCount, imageSizes, classCount, limits);
  return promptParts.length * classParts.length * imageParts.length;
}

function axesOf(promptCount: number, imageSizes: readonly number[], classCount: number, limits: CallLimits) {
  const parts = limits.embedsTexts
    ? { promptParts: partsOf(promptCount, limits.promptsPerRequest), imageParts: [{ first: 0, count: 0 }] }
    : chooseParts(promptCount, imageSizes, limits);
  return { ...parts, classParts: classGroups(classCount, limits) };
}

/** A prompt evaluation is charged to the call that carries the first of its images and classes. */
export function promptEvaluationsOf(call: CallRange): number {
  return call.firstImage === 0 && call.firstClass === 0 ? call.promptCount : 0;
}

/** The classes that a call names, in the order of its answer. */
export function classIndicesOf({ firstClass, classCount, anchored }: CallRange): number[] {
  const own = Array.from({ length: classCount }, (_, i) => firstClass + i);
  return anchored ? [0, ...own] : own;
}

/** Rounds of classes. With an anchor each but the first has room for one class less. */
function classGroups(classCount: number, { classesPerRequest = classCount, anchored }: CallLimits): Part[] {
  if (classCount <= classesPerRequest) return [{ first: 0, count: classCount }];
  if (!anchored) return partsOf(classCount, classesPerRequest);
  const [{ count }, ...rest] = partsOf(classCount - 1, classesPerRequest - 1);
  return [{ first: 0, count: count + 1 }, ...rest.map((part) => ({ first: part.first + 1, count: part.count }))];
}

/** The largest image that fits in a request, next to one prompt. */
export function largestImageBytes({ bytes }: CallLimits): number {
  if (!bytes) return Number.POSITIVE_INFINITY;
  return Math.max(0, bytes.perRequest - bytes.perPrompt - IMAGE_OVERHEAD_BYTES);
}

/** Fewer prompts in a request leave room for more images: of all divisions of the prompts, the one with fewest calls. */
function chooseParts(promptCount: number, imageSizes: readonly number[], limits: CallLimits) {
  let best: { promptParts: Part[]; imageParts: Part[] } | null = null;
  let widest = Number.POSITIVE_INFINITY;
  for (let parts = Math.ceil(promptCount / limits.promptsPerRequest); parts <= promptCount; parts++) {
    const promptsPerCall = Math.ceil(promptCount / parts);
    // More parts of the same greatest size leave no more room.
    if (promptsPerCall === widest) continue;
    widest = promptsPerCall;
    const imageParts = cutImages(imageSizes, promptsPerCall, limits);
    if (imageParts === null) continue;
    if (best === null || parts * imageParts.length < best.promptParts.length * best.imageParts.length) {
      best = { promptParts: equalParts(promptCount, parts), imageParts };
    }
    if (imageParts.length <= 1) break;
  }
  if (best === null) throw new RangeError('An image does not fit in any request.');
  return best;
}

/** The fewest runs of images that each fit in a request with so many prompts; null when one image alone does not. */
function cutImages(sizes: readonly number[], promptsPerCall: number, limits: CallLimits): Part[] | null {
  const queries = limits.imageQueriesPerRequest ?? Number.POSITIVE_INFINITY;
  const count = Math.min(limits.imagesPerRequest, Math.floor(queries / promptsPerCall));
  const { perRequest, perPrompt } = limits.bytes ?? { perRequest: Number.POSITIVE_INFINITY, perPrompt: 0 };
  const bytes = perRequest - promptsPerCall * perPrompt;
  const bytesOf = (size: number) => size + IMAGE_OVERHEAD_BYTES;
  if (count < 1 || sizes.some((size) => bytesOf(size) > bytes)) return null;
  const filled: Part[] = [];
  let room = 0;
  for (const [index, size] of sizes.entries()) {
    const last = filled.at(-1);
    if (!last || last.count === count || bytesOf(size) > room) {
      filled.push({ first: index, count: 1 });
      room = bytes - bytesOf(size);
    } else {
      last.count++;
      room -= bytesOf(size);
    }
  }
  const equal = equalParts(sizes.length, filled.length);
  const fits = ({ first, count }: Part) =>
    sizes.slice(first, first + count).reduce((sum, size) => sum + bytesOf(size), 0) <= bytes;
  return equal.every(fits) ? equal : filled;
}

function partsOf(total: number, mostInOne: number): Part[] {
  return equalParts(total, Math.ceil(total / mostInOne));
}

function equalParts(total: number, parts: number): Part[] {
  return Array.from({ length: parts }, (_, part) => {
    const first = Math.floor((total * part) / parts);
    return { first, count: Math.floor((total * (part + 1)) / parts) - first };
  });
}
