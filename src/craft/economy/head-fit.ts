import type { HeadArithmetic, Regression } from './arithmetic.js';
import { FitInputs, type LabelledViews, type Row } from './fit-inputs.js';
import type { FitPart, HeadSetting } from './head-grid.js';
import { minimise } from './lbfgs.js';
import { type HeadInputs, sharedLogits } from './linear-head.js';

/** As good as -Infinity, in single precision. */
const IMPOSSIBLE = -1e9;
const MOST_ITERATIONS = 200;

/** Fits heads of all settings to one part of the answers, where some images count and the others are held out. */
export class HeadFit {
  private readonly shares: Float32Array;
  private readonly inputs: FitInputs;
  private readonly regression: Regression;
  private readonly classCount: number;
  /** That count. */
  private readonly images: number;

  /** @param counts whether an image counts, [N]; one at least does */
  constructor(data: LabelledViews, part: FitPart, counts: Uint8Array, arithmetic: HeadArithmetic) {
    const own = partOf(data, part);
    const { classCount, labels, views } = own;
    this.classCount = classCount;
    const [inside, outside] = [1, 0].map((side) => [...labels.keys()].filter((image) => counts[image] === side));
    this.images = inside.length;
    this.shares = sharesOf(own.inputs);
    const rows: Row[] = views.flatMap((_, view) => inside.map((image) => ({ view, image })));
    this.inputs = new FitInputs(own, part, rows);
    this.regression = arithmetic.regression({
      inputs: this.inputs.along([...rows, ...outside.map((image) => ({ view: 0, image }))]),
      width: this.inputs.axisCount + 1,
      offsets: this.offsetsOf(own, inside),
      labels: Int32Array.from(rows, ({ image }) => labels[image]),
      classCount,
      weights: new Float32Array(rows.length).fill(1 / views.length),
    });
  }

  /** Less the largest of each row, so that what is left out is less likely than any, [rows that count, C]. */
  private offsetsOf({ inputs, classCount, labels, views }: LabelledViews, images: number[]): Float32Array {
    const present = new Uint8Array(classCount);
    for (const image of images) present[labels[image]] = 1;
    const offsets = new Float32Array(views.length * images.length * classCount);
    let to = 0;
    for (const answers of views) {
      const logits = sharedLogits(inputs, answers, this.shares, classCount);
      for (const image of images) {
        const from = image * classCount;
        let most = Number.NEGATIVE_INFINITY;
        for (let c = 0; c < classCount; c++) if (present[c]) most = Math.max(most, logits[from + c]);
        // A class without images tells nothing of itself: it is left out, so that its logit stays as it is.
        for (let c = 0; c < classCount; c++) offsets[to++] = present[c] ? logits[from + c] - most : IMPOSSIBLE;
      }
    }
    return offsets;
  }

  /** Numbers of a head along the axes, with the bias. */
  get parameterCount(): number {
    return (this.inputs.axisCount + 1) * this.classCount;
  }

  /**
   * Minimises the sum of the losses of all images that count, each the mean over its views, and the penalties.
   * @param parameters along the axes, where it starts, [K + 1, C]; becomes the fit
   * @param tolerance about the square root of what an image's loss may be above the least one
   */
  async minimise(
    parameters: Float64Array,
    { power, strength, biasStrength }: Pick<HeadSetting, 'power' | 'strength' | 'biasStrength'>,
    tolerance: number,
  ): Promise<void> {
    const { classCount, images, regression } = this;
    const scales = this.inputs.scales(power);
    const variances = this.inputs.variances;
    // About what the loss curves by, so that all directions are descended at once.
    const curvature = images / classCount;
    const width = scales.length + 1;
    const pulls = Float64Array.from({ length: width }, (_, k) => {
      return k < scales.length ? strength / scales[k] ** 2 : biasStrength;
    });
    const units = pulls.map((pull, k) => 1 / Math.sqrt(pull + curvature * (variances[k] ?? 1)));
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

  /** Adds a head along the axes to one on the answers themselves: weight [T·L, C], bias [C], shares [T]. */
  addTo(
    head: { weight: Float64Array; bias: Float64Array; shares: Float64Array },
    parameters: Float64Array,
    share: number,
  ): void {
    this.inputs.addTo(head.weight, head.bias, parameters, share);
    for (let t = 0; t < this.shares.length; t++) head.shares[t] += share * this.shares[t];
  }

  dispose(): void {
    this.regression.dispose();
  }
}

/** The views and transforms that a head is fitted to. */
export function partOf(data: LabelledViews, { views, transforms }: FitPart): LabelledViews {
  const count = transforms === 'first' ? 1 : data.inputs.transforms;
  return {
    ...data,
    inputs: { ...data.inputs, transforms: count },
    views: data.views.slice(0, views === 'all' ? undefined : 1).map((answers) => answers.slice(0, count)),
  };
}

/** Of the class logits of each transform in what a head is a residual on: all alike, [T]. */
export function sharesOf(inputs: HeadInputs): Float32Array {
  return new Float32Array(inputs.transforms).fill(1 / inputs.transforms);
}
