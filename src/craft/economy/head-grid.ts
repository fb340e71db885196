/** What of the answers a head is fitted to. */
export interface FitPart {
  /** The images themselves, or all their views. */
  views: 'first' | 'all';
  /**
   * The image as it is; or all its transforms, whose inputs are scaled jointly, so that what tells them apart counts, or each
   * by itself, so that what they have in common does.
   */
  transforms: 'first' | 'joint' | 'apart';
  /** Scores of probe labels, too, or those of the classes only. */
  labels: 'all' | 'classes';
}

/** One way to fit a head: to what, how its inputs are scaled, and how strongly it is held back. */
export interface HeadSetting extends FitPart {
  /** Of the scaling of the principal axes: 0 leaves them as they are, 1 whitens them. */
  power: number;
  /** L2 strength on the weights of scaled inputs. */
  strength: number;
  /** L2 strength on the bias. */
  biasStrength: number;
}

/** What is tried on one part of the answers: every power with every strength and every strength on the bias. */
export interface PartGrid extends FitPart {
  powers: number[];
  /** From strong to weak: the fit of each is where the next one starts from. */
  strengths: number[];
  biasStrengths: number[];
}

export interface SearchGrid {
  parts: PartGrid[];
  /** Of so many folds. */
  folds: number;
  /** Of which so many are held out in turn. */
  heldOut: number;
}

const FOLDS = 5;
const STRENGTHS = [2.5, 2, 1.5, 1, 0.5].map((exponent) => 10 ** exponent);
const PLAIN: FitPart = { views: 'first', transforms: 'first', labels: 'all' };

/** Products of one step of a fit from which on fewer settings are tried and fewer images are held out. */
const MEDIUM = 1e8;
const LARGE = 2e9;
/** Held out at least, where there are so many: with fewer it is not sure enough what is best. */
const FEWEST_JUDGED = 800;

/**
 * What with fewer queries would be fitted is fitted with more of them, too: more never push out what is better. Where images
 * and classes are many, the choice matters less and costs more, so that less is tried.
 * @param size images, views and transforms of each, classes, probe labels, and inputs from one transform
 */
export function searchGrid(size: {
  images: number;
  views: number;
  transforms: number;
  classes: number;
  probes: number;
  inputs: number;
}): SearchGrid {
  const { images, views, transforms, probes } = size;
  const parts: FitPart[] = [PLAIN];
  if (probes > 0) parts.push({ ...PLAIN, labels: 'classes' });
  if (transforms > 1) parts.push({ ...PLAIN, transforms: 'joint' }, { ...PLAIN, transforms: 'apart' });
  if (views > 1) {
    const further = parts.filter(({ labels }) => labels === 'all');
    parts.push(...further.map((part) => ({ ...part, views: 'all' as const })));
  }
  const workOf = (part: FitPart) => {
    const rows = images * (part.views === 'all' ? views : 1);
    const inputs = part.labels === 'classes' ? size.classes : size.inputs;
    return rows * inputs * (part.transforms === 'first' ? 1 : transforms) * size.classes;
  };
  const most = Math.max(...parts.map(workOf));
  // The one part that has everything in it.
  const all: FitPart = { ...PLAIN, views: views > 1 ? 'all' : 'first', transforms: transforms > 1 ? 'joint' : 'first' };
  const tried = workOf(PLAIN) >= LARGE ? [all] : parts;
  const folds = most >= LARGE ? 1 : most >= MEDIUM ? 2 : FOLDS;
  return {
    parts: tried.map((part) => gridOf(part, workOf(part))),
    folds: FOLDS,
    heldOut: Math.min(FOLDS, Math.max(folds, Math.ceil((FOLDS * FEWEST_JUDGED) / images))),
  };
}

function gridOf(part: FitPart, work: number): PartGrid {
  const isPlain = part.views === 'first' && part.transforms === 'first' && part.labels === 'all';
  return {
    ...part,
    powers: work >= MEDIUM ? [0.75] : [0.5, 0.75, 1],
    strengths: work >= LARGE ? STRENGTHS.slice(1, 4) : STRENGTHS,
    biasStrengths: isPlain && work < MEDIUM ? [1, 0.1] : [1],
  };
}

/** The settings of a part, in the order in which they are fitted. */
export function settingsOf({ powers, strengths, biasStrengths, ...part }: PartGrid): HeadSetting[] {
  return powers.flatMap((power) =>
    strengths.flatMap((strength) => biasStrengths.map((biasStrength) => ({ ...part, power, strength, biasStrength }))),
  );
}
