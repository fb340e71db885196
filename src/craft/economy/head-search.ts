import { accuracy } from '../metrics.js';
import type { Random } from '../random.js';
import type { HeadArithmetic } from './arithmetic.js';
import type { EconomyHead } from './economy-head.js';
import type { LabelledViews } from './fit-inputs.js';
import { stratifiedFolds } from './folds.js';
import { HeadFit, sharesOf } from './head-fit.js';
import { type HeadSetting, isSamePart, searchGrid, settingsOf } from './head-grid.js';
import { inputWidthOf, sharedLogits } from './head-inputs.js';
import { HeadSum } from './head-sum.js';
import { crossEntropies } from './held-out.js';
import { InputAxes } from './input-axes.js';
import { averageWeights } from './model-average.js';

/** The average of several heads that cross-validation chose. */
export interface HeadChoice {
  /** Settings with their shares; what is missing to 1 is the share of no head at all. */
  members: (HeadSetting & { share: number })[];
  /** On images that were held out, by the choice. Loss in nats, accuracy from 0 to 1. */
  heldOut: { loss: number; accuracy: number };
  /** The same of the black box alone. */
  blackBox: { loss: number; accuracy: number };
}

/** What speaks for the black box as it is, before any image is seen. */
const NO_HEAD_PRIOR = 0.5;
/** Shares below this are not worth a fit. */
const LEAST_SHARE = 0.01;
const SEARCH_TOLERANCE = 1e-2;
const FIT_TOLERANCE = 1e-3;

/** With its logits of the images that were held out, [J, C]. */
type Tried = HeadSetting & { refined: Float32Array };

/**
 * Tries every setting on images that are held out, and weighs them by how sure it is that each is best. Heads add to logits,
 * so that their average is one head; no head at all is among what is averaged. Folds are of images: no view of an image
 * helps to judge another one; and inputs are scaled in each by itself, because with fewer images than inputs those held out
 * would be told from their inputs alone.
 */
export async function chooseHead(data: LabelledViews, random: Random, arithmetic: HeadArithmetic): Promise<HeadChoice> {
  const { classCount, views, inputs } = data;
  const grid = searchGrid({
    images: data.labels.length,
    views: views.length,
    transforms: inputs.transforms,
    classes: classCount,
    inputs: inputWidthOf(inputs, classCount),
  });
  const foldOf = stratifiedFolds(data.labels, classCount, grid.folds, random);
  const judged = [...foldOf.keys()].filter((image) => foldOf[image] < grid.heldOut);
  const labels = Int32Array.from(judged, (image) => data.labels[image]);
  const logitsWith = (shares: ArrayLike<number>) => {
    return rowsOf(sharedLogits(inputs, views[0], shares, classCount), judged, classCount);
  };
  const logits = logitsWith([1, ...new Array(inputs.transforms - 1).fill(0)]);
  const tried: Tried[][] = grid.parts.map((part) => {
    const offsets = logitsWith(sharesOf(part.part, inputs.transforms));
    return settingsOf(part).map((setting) => ({ ...setting, refined: offsets.slice() }));
  });
  for (let fold = 0; fold < grid.heldOut; fold++) {
    const counted = [...foldOf.keys()].filter((image) => foldOf[image] !== fold);
    if (counted.length === 0 || counted.length === foldOf.length) continue;
    const held = [...judged.keys()].filter((row) => foldOf[judged[row]] === fold);
    const axes = new InputAxes(data, counted);
    for (const settings of tried) await fitPath(data, { settings, axes, held }, arithmetic);
  }
  return averageOf(tried.flat(), logits, labels, data, random);
}

/** Weighs what was tried by its logits of the images held out, and no head at all by the black box's. */
function averageOf(
  tried: Tried[],
  logits: Float32Array,
  labels: Int32Array,
  data: LabelledViews,
  random: Random,
): HeadChoice {
  const { classCount } = data;
  const losses = [...tried.map(({ refined }) => refined), logits].map((own) => crossEntropies(own, labels, classCount));
  const priors = losses.map((_, model) => (model < tried.length ? (1 - NO_HEAD_PRIOR) / tried.length : NO_HEAD_PRIOR));
  const shares = averageWeights(losses, priors, random);
  // One image cannot be held out from itself: nothing speaks for any head.
  const isJudged = data.labels.length > 1;
  const members = tried
    .map((setting, index) => ({ ...setting, share: shares[index] }))
    .filter(({ share }) => isJudged && share >= LEAST_SHARE);
  const kept = members.reduce((sum, { share }) => sum + share, 0) + shares[tried.length];
  const averaged = logits.slice();
  for (const member of members) {
    member.share /= kept;
    for (let at = 0; at < averaged.length; at++) averaged[at] += member.share * (member.refined[at] - logits[at]);
  }
  const scoreOf = (values: Float32Array) => {
    const own = crossEntropies(values, labels, classCount);
    return {
      loss: own.reduce((sum, loss) => sum + loss, 0) / own.length,
      accuracy: accuracy(values, labels, classCount),
    };
  };
  const [heldOut, blackBox] = [scoreOf(averaged), scoreOf(logits)];
  // Where images disagree, an average may be worse than every one of its parts seems.
  if (!(heldOut.loss < blackBox.loss)) return { members: [], heldOut: blackBox, blackBox };
  return { members: members.map(({ refined: _, ...member }) => member), heldOut, blackBox };
}

/** @returns rows of a matrix of so many columns */
function rowsOf(matrix: Float32Array, rows: number[], columns: number): Float32Array {
  const taken = new Float32Array(rows.length * columns);
  for (const [at, row] of rows.entries()) taken.set(matrix.subarray(row * columns, (row + 1) * columns), at * columns);
  return taken;
}

/**
 * Fits heads of all settings of a part to images that count, and adds what each says of the others to its logits.
 * @param held rows of the logits that the images held out have
 */
async function fitPath(
  data: LabelledViews,
  { settings, axes, held }: { settings: Tried[]; axes: InputAxes; held: number[] },
  arithmetic: HeadArithmetic,
): Promise<void> {
  const { classCount } = data;
  const heads = new HeadFit(data, settings[0].part, axes, arithmetic);
  try {
    const parameters = new Float64Array(heads.parameterCount);
    for (const setting of settings) {
      await heads.minimise(parameters, setting, SEARCH_TOLERANCE);
      const residuals = await heads.residuals(parameters);
      held.forEach((row, at) => {
        for (let c = 0; c < classCount; c++) setting.refined[row * classCount + c] += residuals[at * classCount + c];
      });
    }
  } finally {
    heads.dispose();
  }
}

/** The chosen head on all images. */
export async function fitHead(
  data: LabelledViews,
  { members }: Pick<HeadChoice, 'members'>,
  arithmetic: HeadArithmetic,
): Promise<EconomyHead> {
  const sum = new HeadSum(data.inputs, data.classCount);
  const axes = new InputAxes(data, [...data.labels.keys()]);
  const parts = members.filter(({ part }, index) => {
    return members.findIndex((other) => isSamePart(part, other.part)) === index;
  });
  for (const { part } of parts) {
    const heads = new HeadFit(data, part, axes, arithmetic);
    try {
      const parameters = new Float64Array(heads.parameterCount);
      const average = new Float64Array(heads.parameterCount);
      let shares = 0;
      for (const member of members.filter((other) => isSamePart(part, other.part))) {
        await heads.minimise(parameters, member, FIT_TOLERANCE);
        for (let at = 0; at < average.length; at++) average[at] += member.share * parameters[at];
        shares += member.share;
      }
      heads.addTo(sum, average, shares);
    } finally {
      heads.dispose();
    }
  }
  // What no head has a share in stays as the black box says it of the image itself.
  sum.addShares([1 - members.reduce((all, { share }) => all + share, 0)]);
  return sum.toHead();
}
