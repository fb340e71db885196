/** What of the answers a linear head is fitted to. */
export interface LinearPart {
  kind: 'linear';
  /** The images themselves, or all their views. */
  views: 'first' | 'all';
  /** The image as it is, or all its transforms side by side. */
  transforms: 'first' | 'joint';
  /** Of the scaling of the principal axes: 0 leaves them as they are, 1 whitens them. */
  power: number;
}

/** What of the answers images are compared by. */
export interface KernelPart {
  kind: 'kernel';
  /** The images themselves, or all their views. */
  views: 'first' | 'all';
  /** The image as it is; or all its transforms: the mean of their inputs, or that of their likenesses. */
  transforms: 'first' | 'mean' | 'apart';
  /** As that of a linear part. */
  power: number;
}

export type FitPart = LinearPart | KernelPart;

/** How a head is fitted to a part. */
export interface FitSetting {
  /** L2 strength on the weights of scaled inputs; of a kernel head, on its squared norm. */
  strength: number;
  /** L2 strength on the bias. */
  biasStrength: number;
}

export interface HeadSetting extends FitSetting {
  part: FitPart;
}

/** What is tried on one part of the answers. */
export interface PartGrid {
  part: FitPart;
  /** From strong to weak: the fit of each is where the next one starts from. */
  strengths: number[];
  biasStrength: number;
}

export interface SearchGrid {
  parts: PartGrid[];
  /** Of so many folds. */
  folds: number;
  /** Of which so many are held out in turn. */
  heldOut: number;
}

/** Views of training images that others are compared with, at most. */
export const MOST_LANDMARKS = 1024;
/** Of many images two views, the image and its mirror image, tell a kernel most of what all of them do. */
const FEWEST_VIEWS = 2;
/** Of few images as many views help as make about so many rows. */
const USEFUL_ROWS = 768;
const POWERS = [0.5, 0.75];
/** What is tried where there is time for one. */
const USUAL_POWER = 0.75;
const FOLDS = 5;
/** Of linear heads: for what a kernel does not tell, and where kernels would take too long. */
const LINEAR = { strengths: [2.5, 1.5, 0.5].map(powerOfTen), biasStrength: 1 };
const KERNEL = { strengths: [1, 0.1, 0.01], biasStrength: 0.1 };

/** Products of one step of a fit from which on fewer settings are tried and fewer images are held out. */
const MEDIUM = 1e8;
const LARGE = 2e9;
/** Held out at least, where there are so many: with fewer it is not sure enough what is best. */
const FEWEST_JUDGED = 800;

/**
 * What with fewer queries would be fitted is fitted with more of them, too: more never push out what is better. Where images
 * and classes are many, the choice matters less and costs more, so that less is tried.
 * @param size images, views and transforms of each, classes, and inputs from one transform
 */
export function searchGrid(size: {
  images: number;
  views: number;
  transforms: number;
  classes: number;
  inputs: number;
}): SearchGrid {
  const { images, classes } = size;
  const views: ('first' | 'all')[] = size.views > 1 ? ['first', 'all'] : ['first'];
  const linear = views.map((of): LinearPart => {
    return { kind: 'linear', views: of, transforms: 'first', power: USUAL_POWER };
  });
  const kernels = views.flatMap((of) => {
    const transforms = size.transforms > 1 ? (['mean', 'apart'] as const) : (['first'] as const);
    return transforms.flatMap((which) => {
      return POWERS.map((power): KernelPart => ({ kind: 'kernel', views: of, transforms: which, power }));
    });
  });
  // Where kernels take too long: the one part that has everything in it.
  const all = { ...linear[views.length - 1], transforms: size.transforms > 1 ? 'joint' : 'first' } as const;
  const workOf = (part: FitPart) => {
    const rows = part.views === 'all' ? images * size.views : images;
    const inputs = part.transforms === 'joint' ? size.transforms * size.inputs : size.inputs;
    return rows * classes * (part.kind === 'linear' ? inputs : Math.min(rows, MOST_LANDMARKS));
  };
  const able = kernels.filter((part) => workOf(part) < (part.power === USUAL_POWER ? LARGE : MEDIUM));
  const unlike = linear.filter((part) => !isSamePart(part, all));
  const alone = workOf(linear[0]) >= LARGE ? [all] : [...unlike, all];
  const tried = able.length === 0 ? alone : [...able, ...linear];
  const most = Math.max(...tried.map(workOf));
  const folds = most >= LARGE ? 1 : most >= MEDIUM ? 2 : FOLDS;
  return {
    parts: tried.map((part) => gridOf(part, workOf(part))),
    folds: FOLDS,
    heldOut: Math.min(FOLDS, Math.max(folds, Math.ceil((FOLDS * FEWEST_JUDGED) / images))),
  };
}

function gridOf(part: FitPart, work: number): PartGrid {
  if (part.kind === 'kernel') return { ...KERNEL, part };
  return { ...LINEAR, part, strengths: work >= LARGE ? [2, 1.5, 1].map(powerOfTen) : LINEAR.strengths };
}

/** So many views of each image help a head. A power of two: a choice is made whenever views have doubled. */
export function usefulViews(images: number): number {
  return 2 ** Math.floor(Math.log2(Math.max(FEWEST_VIEWS, USEFUL_ROWS / images)));
}

/** The settings of a part, in the order in which they are fitted. */
export function settingsOf({ part, strengths, biasStrength }: PartGrid): HeadSetting[] {
  return strengths.map((strength) => ({ part, strength, biasStrength }));
}

/** Whether both are fitted to the same inputs in the same way, so that they differ in their settings only. */
export function isSamePart(one: FitPart, other: FitPart): boolean {
  return (
    one.kind === other.kind &&
    one.views === other.views &&
    one.transforms === other.transforms &&
    one.power === other.power
  );
}

function powerOfTen(exponent: number): number {
  return 10 ** exponent;
}
