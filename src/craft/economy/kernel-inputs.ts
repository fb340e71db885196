import { CholeskyFactor } from './cholesky.js';
import { type FitInputs, inputRows, type LabelledViews, type Row } from './fit-inputs.js';
import { type KernelPart, MOST_LANDMARKS } from './head-grid.js';
import type { HeadSum } from './head-sum.js';
import type { InputAxes } from './input-axes.js';
import type { KernelSpace } from './kernel-head.js';
import { alongAxes, axisScales, type PrincipalAxes } from './principal-axes.js';
import { Landmarks } from './similarity.js';

/** β of k = 1 / (1 + β·d²), where images lie about 1 from their mean. */
const NEARNESS = 2;

/** Rows whose likenesses are in memory in double precision at once. */
const ROWS_AT_ONCE = 1024;

/** A space with what its axes are multiplied by, [K]; all in single precision, as an adapter has it. */
interface ScaledSpace extends KernelSpace {
  scale: Float32Array;
  compared: Landmarks;
}

/**
 * Images by their likeness to landmarks, in a basis in which the squared length of a head's weights is its norm in the
 * kernel's own space (Nyström features: Williams and Seeger, Using the Nyström method to speed up kernel machines, 2001).
 */
export class KernelInputs implements FitInputs {
  readonly count: number;
  readonly scales: Float64Array;
  private readonly spaces: ScaledSpace[];
  private readonly landmarks: Row[];
  private readonly factor: CholeskyFactor;

  /** @param views the first so many of them are landmarks */
  constructor(
    private readonly data: LabelledViews,
    private readonly part: KernelPart,
    private readonly views: number,
    axes: InputAxes,
  ) {
    this.landmarks = landmarksOf(axes.rows(views), data.labels);
    const groups = groupsOf(part, data.inputs.transforms);
    this.spaces = groups.map((transforms) => this.spaceOf(transforms, axes.of(views, transforms, 'mean')));
    this.count = this.landmarks.length;
    this.scales = new Float64Array(this.count).fill(1);
    this.factor = new CholeskyFactor(this.likenessesOfLandmarks(), this.count);
  }

  private spaceOf(transforms: number[], { mean, axes, variances }: PrincipalAxes): ScaledSpace {
    const scales = axisScales({ variances }, this.part.power);
    const spread = variances.reduce((sum, variance, k) => sum + variance * scales[k] ** 2, 0);
    const unit = spread > 0 ? Math.sqrt(NEARNESS / spread) : 0;
    const scale = Float32Array.from(scales, (value) => unit * value);
    const space = { transforms, mean: Float32Array.from(mean), axes: Float32Array.from(axes), scale };
    const landmarks = Float32Array.from(this.along(space, this.landmarks));
    const points = Float64Array.from(landmarks, (value, at) => value * scale[at % scale.length]);
    return { ...space, landmarks, compared: new Landmarks(points, scale.length, this.landmarks.length) };
  }

  /** @returns [rows, K] */
  private along(space: Omit<ScaledSpace, 'landmarks' | 'compared'>, rows: Row[]): Float64Array {
    const inputs = inputRows(this.data, rows, space.transforms, 'mean');
    const count = space.scale.length;
    const along = new Float64Array(rows.length * count);
    const row = new Float64Array(inputs.width);
    for (let i = 0; i < rows.length; i++) {
      inputs.read(i, row);
      alongAxes(row, space, along.subarray(i * count, (i + 1) * count));
    }
    return along;
  }

  /**
   * Of the landmarks as they are kept: those whose likenesses are rounded otherwise are no kernel matrix, and have no factor.
   * @returns [M, M], each only with those up to it
   */
  private likenessesOfLandmarks(): Float64Array {
    const { count, spaces } = this;
    const likenesses = new Float64Array(count * count);
    for (const { compared } of spaces) {
      for (let i = 0; i < count; i++) {
        compared.compare(compared.point(i), 1 / spaces.length, likenesses.subarray(i * count, (i + 1) * count), i + 1);
      }
    }
    return likenesses;
  }

  /** @returns [rows, M] */
  private likenesses(rows: Row[]): Float64Array {
    const { count, spaces } = this;
    const likenesses = new Float64Array(rows.length * count);
    for (const space of spaces) {
      const { scale, compared } = space;
      const along = this.along(space, rows);
      for (let i = 0; i < rows.length; i++) {
        const point = along.subarray(i * scale.length, (i + 1) * scale.length);
        for (let k = 0; k < scale.length; k++) point[k] *= scale[k];
        const into = likenesses.subarray(i * count, (i + 1) * count);
        compared.compare(point, 1 / spaces.length, into);
      }
    }
    return likenesses;
  }

  of(rows: Row[]): Float32Array {
    const { count, factor, landmarks } = this;
    const width = count + 1;
    const values = new Float32Array(rows.length * width);
    for (let i = 0; i < rows.length; i++) values[i * width + count] = 1;
    // The landmarks' own are the factor's rows: nothing to be solved.
    const known = new Map(landmarks.map((row, index) => [keyOf(row), index]));
    const others: number[] = [];
    for (const [i, row] of rows.entries()) {
      const index = known.get(keyOf(row));
      if (index === undefined) others.push(i);
      else values.set(factor.row(index), i * width);
    }
    for (let first = 0; first < others.length; first += ROWS_AT_ONCE) {
      const some = others.slice(first, first + ROWS_AT_ONCE);
      const likenesses = this.likenesses(some.map((i) => rows[i]));
      for (const [at, i] of some.entries()) {
        const own = likenesses.subarray(at * count, (at + 1) * count);
        factor.forward(own);
        values.set(own, i * width);
      }
    }
    return values;
  }

  addTo(sum: HeadSum, parameters: Float64Array): void {
    const { classCount } = this.data;
    const last = this.count * classCount;
    const coefficients = parameters.slice(0, last);
    this.factor.backward(coefficients, classCount);
    // Where all inputs are the same all images are, too: what is said of each is said of any.
    const telling = this.spaces.filter(({ scale }) => scale.length > 0);
    const share = telling.length / this.spaces.length;
    if (share > 0) {
      const kernels = telling.map(({ transforms, mean, axes, landmarks, scale }) => {
        const own = { transforms, mean, axes, landmarks };
        return { space: sum.space(`${this.views}/${transforms}`, () => own), scale };
      });
      sum.addTerm({ kernels, coefficients: Float32Array.from(coefficients, (value) => share * value) });
    }
    const bias = parameters.slice(last);
    for (let at = 0; at < last; at++) bias[at % classCount] += (1 - share) * coefficients[at];
    sum.addBias(bias);
  }
}

function keyOf({ view, image }: Row): string {
  return `${view}/${image}`;
}

function groupsOf({ transforms }: KernelPart, count: number): number[][] {
  if (transforms === 'first') return [[0]];
  const all = Array.from({ length: count }, (_, transform) => transform);
  return transforms === 'mean' ? [all] : all.map((transform) => [transform]);
}

/** All rows, or as many of each class as there may be. */
function landmarksOf(rows: Row[], labels: Int32Array): Row[] {
  if (rows.length <= MOST_LANDMARKS) return rows;
  const seen = new Map<number, number>();
  const ranks = rows.map(({ image }) => {
    const rank = seen.get(labels[image]) ?? 0;
    seen.set(labels[image], rank + 1);
    return rank;
  });
  const order = [...rows.keys()].sort((a, b) => ranks[a] - ranks[b] || a - b);
  return order.slice(0, MOST_LANDMARKS).map((index) => rows[index]);
}
