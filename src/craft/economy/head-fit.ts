import type { HeadArithmetic, Regression } from './arithmetic.js';
import type { FitInputs, LabelledViews, Row } from './fit-inputs.js';
import type { FitPart, FitSetting } from './head-grid.js';
import { sharedLogits } from './head-inputs.js';
import type { HeadSum } from './head-sum.js';
import type { InputAxes } from './input-axes.js';
import { KernelInputs } from './kernel-inputs.js';
import { minimise } from './lbfgs.js';
import { LinearInputs } from './linear-inputs.js';

/** As good as -Infinity, in single precision. */
const IMPOSSIBLE = -1e9;
const MOST_ITERATIONS = 200;

/** Fits heads of all settings to one part of the answers, where some images count and the others are held out. */
export class HeadFit {
  private readonly shares: Float32Array;
  private readonly inputs: FitInputs;
  /** Mean square of each input over the rows that count, [K + 1]. */
  private readonly squares: Float64Array;
  private readonly regression: Regression;

  /** @param axes of the images that count */
  constructor(
    private readonly data: LabelledViews,
    part: FitPart,
    private readonly axes: InputAxes,
    arithmetic: HeadArithmetic,
  ) {
    const { labels } = data;
    const views = part.views === 'first' ? 1 : data.views.length;
    const counts = new Set(axes.images);
    const outside = [...labels.keys()].filter((image) => !counts.has(image));
    this.shares = sharesOf(part, data.inputs.transforms);
    this.inputs =
      part.kind === 'linear' ? new LinearInputs(data, part, views, axes) : new KernelInputs(data, part, views, axes);
    const rows = axes.rows(views);
    const inputs = this.inputs.of([...rows, ...outside.map((image) => ({ view: 0, image }))]);
    const width = this.inputs.count + 1;
    this.squares = meanSquares(inputs, rows.length, width);
    this.regression = arithmetic.regression({
      inputs,
      width,
      offsets: this.offsetsOf(rows),
      labels: Int32Array.from(rows, ({ image }) => labels[image]),
      classCount: data.classCount,
      weights: new Float32Array(rows.length).fill(1 / views),
    });
  }

  /** Less the largest of each row, so that what is left out is less likely than any, [rows that count, C]. */
  private offsetsOf(rows: Row[]): Float32Array {
    const { inputs, classCount, labels, views } = this.data;
    const present = new Uint8Array(classCount);
    for (const { image } of rows) present[labels[image]] = 1;
    const offsets = new Float32Array(rows.length * classCount);
    const logitsOf = new Map<number, Float32Array>();
    let to = 0;
    for (const { view, image } of rows) {
      const logits = logitsOf.get(view) ?? sharedLogits(inputs, views[view], this.shares, classCount);
      logitsOf.set(view, logits);
      const from = image * classCount;
      let most = Number.NEGATIVE_INFINITY;
      for (let c = 0; c < classCount; c++) if (present[c]) most = Math.max(most, logits[from + c]);
      // A class without images tells nothing of itself: it is left out, so that its logit stays as it is.
      for (let c = 0; c < classCount; c++) offsets[to++] = present[c] ? logits[from + c] - most : IMPOSSIBLE;
    }
    return offsets;
  }

  /** Numbers of a head on the inputs that it is fitted to, with the bias. */
  get parameterCount(): number {
    return (this.inputs.count + 1) * this.data.classCount;
  }

  /**
   * Minimises the sum of the losses of all images that count, each the mean over its views, and the penalties.
   * @param parameters where it starts, [K + 1, C]; becomes the fit
   * @param tolerance about the square root of what an image's loss may be above the least one
   */
  async minimise(parameters: Float64Array, { strength, biasStrength }: FitSetting, tolerance: number): Promise<void> {
    const { regression, squares } = this;
    const { classCount } = this.data;
    const images = this.axes.images.length;
    const scales = this.inputs.scales;
    // About what the loss curves by, so that all directions are descended at once.
    const curvature = images / classCount;
    const width = scales.length + 1;
    const pulls = Float64Array.from({ length: width }, (_, k) => {
      return k < scales.length ? strength / scales[k] ** 2 : biasStrength;
    });
    const units = pulls.map((pull, k) => 1 / Math.sqrt(pull + curvature * squares[k]));
    const point = parameters.map((value, at) => value / units[Math.floor(at / classCount)]);
    const toParameters = (from: Float64Array) => {
      for (let k = 0, at = 0; k < width; k++) {
        for (let c = 0; c < classCount; c++, at++) parameters[at] = units[k] * from[at];
      }
    };
    await minimise(
      async (at, gradient) => {
        toParameters(at);
        let value = await regression.lossAndGradient(parameters, gradient);
        for (let k = 0, i = 0; k < width; k++) {
          for (let c = 0; c < classCount; c++, i++) {
            const pull = pulls[k] * parameters[i];
            value += (pull * parameters[i]) / 2;
            gradient[i] = units[k] * (gradient[i] + pull);
          }
        }
        return value;
      },
      point,
      { tolerance: tolerance * Math.sqrt(images), mostIterations: MOST_ITERATIONS },
    );
    toParameters(point);
  }

  /** What a head adds to the logits of the images held out, in their order, [images held out, C]. */
  residuals(parameters: Float64Array): Float32Array | Promise<Float32Array> {
    return this.regression.residuals(parameters);
  }

  /**
   * Adds a sum of heads on these inputs to one on the answers themselves.
   * @param share of all of them
   */
  addTo(sum: HeadSum, parameters: Float64Array, share: number): void {
    this.inputs.addTo(sum, parameters);
    sum.addShares(this.shares.map((own) => share * own));
  }

  dispose(): void {
    this.regression.dispose();
  }
}

/** Of the class logits of each transform in what a head is a residual on: all alike, [T]. */
export function sharesOf(part: FitPart, transforms: number): Float32Array {
  if (part.transforms === 'first') return Float32Array.from({ length: transforms }, (_, t) => (t === 0 ? 1 : 0));
  return new Float32Array(transforms).fill(1 / transforms);
}

function meanSquares(inputs: Float32Array, rows: number, width: number): Float64Array {
  const squares = new Float64Array(width);
  for (let i = 0, at = 0; i < rows; i++) {
    for (let k = 0; k < width; k++, at++) squares[k] += (inputs[at] * inputs[at]) / rows;
  }
  return squares;
}
