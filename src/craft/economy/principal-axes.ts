import { EigenvalueDecomposition, Matrix } from 'ml-matrix';

/** Rows of inputs, read one by one: all of them at once would take too much memory. */
export interface InputRows {
  /** R */
  count: number;
  /** L */
  width: number;
  /** @param into is written, [L] */
  read(row: number, into: Float64Array): void;
}

/** How the inputs of some rows are spread: about their mean, along the axes of their covariance. */
export interface PrincipalAxes {
  /** [L] */
  mean: Float64Array;
  /** Variance along each axis that the rows show, from large to small, [K]. */
  variances: Float64Array;
  /** One column per axis, [L, K]. */
  axes: Float64Array;
}

/** Variances below this share of the largest are rounding. */
const LEAST_VARIANCE = 1e-6;
/** So are those below this share of the square of the inputs, which are known in single precision. */
const ROUNDING = 1e-13;

/** Inputs more than this are not compared with each other, but rows. */
const WIDEST_COVARIANCE = 512;
/** Rows that are compared with each other, and rows whose inputs are: of more, evenly spaced ones decide. */
const MOST_ROWS = { rows: 512, inputs: 16_384 };

/**
 * Of more inputs than rows, or of many, the axes come from products of rows with each other, else from the covariance; of many rows
 * a sample that is evenly spaced decides on the axes, all of them on the mean.
 */
export function principalAxes(rows: InputRows): PrincipalAxes {
  const { count, width } = rows;
  const mean = new Float64Array(width);
  const row = new Float64Array(width);
  let squares = 0;
  for (let i = 0; i < count; i++) {
    rows.read(i, row);
    for (let j = 0; j < width; j++) {
      mean[j] += row[j];
      squares += row[j] * row[j];
    }
  }
  for (let j = 0; j < width; j++) mean[j] /= count;
  const floor = (ROUNDING * squares) / Math.max(1, count);
  const byRows = width > count || width > WIDEST_COVARIANCE;
  const most = Math.min(count, byRows ? MOST_ROWS.rows : MOST_ROWS.inputs);
  const taken = { width, count: most, read: centred };
  return { mean, ...(byRows ? axesOfRows(taken, floor) : axesOfInputs(taken, floor)) };

  function centred(index: number, into: Float64Array): void {
    rows.read(Math.floor((index * count) / most), into);
    for (let j = 0; j < width; j++) into[j] -= mean[j];
  }
}

/** From the covariance of the inputs, [L, L]. */
function axesOfInputs({ count, width, read }: InputRows, floor: number): Omit<PrincipalAxes, 'mean'> {
  const products = Array.from({ length: width }, () => new Float64Array(width));
  const row = new Float64Array(width);
  for (let i = 0; i < count; i++) {
    read(i, row);
    for (let j = 0; j < width; j++) {
      const sums = products[j];
      const value = row[j];
      for (let k = j; k < width; k++) sums[k] += value * row[k];
    }
  }
  const { values, vectors } = eigen(products, count, floor);
  const axes = new Float64Array(width * values.length);
  for (let j = 0; j < width; j++) {
    for (const [k, vector] of vectors.entries()) axes[j * values.length + k] = vector[j];
  }
  return { variances: values, axes };
}

/** The same from the products of the rows with each other, [rows, rows]: they have the same variances. */
function axesOfRows({ count, width, read }: InputRows, floor: number): Omit<PrincipalAxes, 'mean'> {
  const rows = Array.from({ length: count }, (_, i) => {
    const row = new Float64Array(width);
    read(i, row);
    return row;
  });
  const products = rows.map((row, i) => {
    return Float64Array.from(rows, (other, j) => {
      let sum = 0;
      if (j >= i) for (let k = 0; k < width; k++) sum += row[k] * other[k];
      return sum;
    });
  });
  const { values, vectors } = eigen(products, count, floor);
  const axes = new Float64Array(width * values.length);
  const axis = new Float64Array(width);
  for (const [k, vector] of vectors.entries()) {
    const length = Math.sqrt(values[k] * count);
    axis.fill(0);
    for (const [i, row] of rows.entries()) {
      const share = vector[i] / length;
      for (let j = 0; j < width; j++) axis[j] += share * row[j];
    }
    for (let j = 0; j < width; j++) axes[j * values.length + k] = axis[j];
  }
  return { variances: values, axes };
}

/** @param products upper triangle of a symmetric matrix @returns what is more than rounding, from large to small */
function eigen(
  products: Float64Array[],
  count: number,
  floor: number,
): { values: Float64Array; vectors: Float64Array[] } {
  const size = products.length;
  if (size === 0) return { values: new Float64Array(0), vectors: [] };
  const matrix = new Matrix(size, size);
  for (let i = 0; i < size; i++) {
    for (let j = i; j < size; j++) {
      matrix.set(i, j, products[i][j] / count);
      matrix.set(j, i, products[i][j] / count);
    }
  }
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
  const order = realEigenvalues.map((_, index) => index).sort((a, b) => realEigenvalues[b] - realEigenvalues[a]);
  const least = Math.max(floor, LEAST_VARIANCE * realEigenvalues[order[0]]);
  const shown = order.filter((index) => realEigenvalues[index] > least);
  return {
    values: Float64Array.from(shown, (index) => realEigenvalues[index]),
    vectors: shown.map((index) => Float64Array.from(eigenvectorMatrix.getColumn(index))),
  };
}

/** What makes the mean variance of the axes 1; 1 where there are none. */
export function unitScale({ variances }: Pick<PrincipalAxes, 'variances'>): number {
  return variances.length === 0 ? 1 : 1 / Math.sqrt(meanOf(variances));
}

/**
 * How much an input in units of {@link unitScale} counts along each axis: with power 0 all axes count as they are, with
 * power 1 they are whitened, so that directions that vary little are taken as seriously as any other.
 * @returns [K]
 */
export function axisScales({ variances }: Pick<PrincipalAxes, 'variances'>, power: number): Float64Array {
  const mean = meanOf(variances);
  const floor = LEAST_VARIANCE * (variances[0] ?? 0);
  return variances.map((variance) => ((variance + floor) / mean) ** (-power / 2));
}

function meanOf(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * The inputs of one row along axes, from their mean.
 * @param row [L]
 * @param axes one column per axis, [L, K]
 * @param into is written, [K]
 */
export function alongAxes(
  row: ArrayLike<number>,
  { mean, axes }: { mean: ArrayLike<number>; axes: ArrayLike<number> },
  into: Float64Array,
): void {
  into.fill(0);
  for (let j = 0, at = 0; j < mean.length; j++) {
    const value = row[j] - mean[j];
    for (let k = 0; k < into.length; k++) into[k] += value * axes[at++];
  }
}

/**
 * Weights along the axes as weights on the inputs themselves.
 * @param parameters [K, C]
 * @param scale by which the inputs along the axes were multiplied
 * @returns weight [L, C], and the bias [C] that the mean of the inputs makes
 */
export function onInputs(
  parameters: Float64Array,
  { mean, variances, axes }: PrincipalAxes,
  scale: number,
  classCount: number,
): { weight: Float64Array; bias: Float64Array } {
  const [width, count] = [mean.length, variances.length];
  const weight = new Float64Array(width * classCount);
  const bias = new Float64Array(classCount);
  for (let j = 0; j < width; j++) {
    for (let k = 0; k < count; k++) {
      const factor = axes[j * count + k] * scale;
      for (let c = 0; c < classCount; c++) weight[j * classCount + c] += factor * parameters[k * classCount + c];
    }
    for (let c = 0; c < classCount; c++) bias[c] -= mean[j] * weight[j * classCount + c];
  }
  return { weight, bias };
}
