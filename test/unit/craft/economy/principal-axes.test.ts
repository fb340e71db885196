import { describe, expect, it } from 'vitest';
import {
  alongAxes,
  axisScales,
  type InputRows,
  type PrincipalAxes,
  principalAxes,
  unitScale,
} from '../../../../src/craft/economy/principal-axes.js';
import { Random } from '../../../../src/craft/random.js';
import { reference } from './views.js';

function rowsOf(values: Float64Array, width: number): InputRows {
  return {
    count: values.length / width,
    width,
    read: (row, into) => into.set(values.subarray(row * width, (row + 1) * width)),
  };
}

/** Numbers of decreasing spread, [count, width]. */
function randomRows(count: number, width: number, seed = 1): InputRows {
  const random = Random.stream(seed, 'axes');
  const values = Float64Array.from({ length: count * width }, (_, at) => random.normal() / (1 + (at % width)) + 3);
  return rowsOf(values, width);
}

function expectOrthonormal({ mean, variances, axes }: PrincipalAxes): void {
  const count = variances.length;
  for (let a = 0; a < count; a++) {
    for (let b = 0; b <= a; b++) {
      let dot = 0;
      for (let j = 0; j < mean.length; j++) dot += axes[j * count + a] * axes[j * count + b];
      expect(dot).toBeCloseTo(a === b ? 1 : 0, 8);
    }
  }
}

/** Of the coordinates along the axes, the mean and the variance of each. */
function spread(rows: InputRows, axes: PrincipalAxes): { means: Float64Array; variances: Float64Array } {
  const count = axes.variances.length;
  const [means, variances] = [new Float64Array(count), new Float64Array(count)];
  const row = new Float64Array(rows.width);
  const into = new Float64Array(count);
  for (let i = 0; i < rows.count; i++) {
    rows.read(i, row);
    alongAxes(row, axes, into);
    for (let k = 0; k < count; k++) {
      means[k] += into[k] / rows.count;
      variances[k] += into[k] ** 2 / rows.count;
    }
  }
  return { means, variances };
}

describe('principalAxes', () => {
  it.each([
    ['fewer inputs than rows', 50, 6, 6],
    ['as many', 8, 8, 7],
    ['more inputs than rows', 10, 30, 9],
    ['more inputs than are compared with each other', 20, 600, 19],
  ])('has orthonormal axes and their variances for %s', (_, count, width, rank) => {
    const rows = randomRows(count, width);
    const axes = principalAxes(rows);
    expect(axes.variances).toHaveLength(rank);
    expect([...axes.variances].sort((a, b) => b - a)).toEqual([...axes.variances]);
    expectOrthonormal(axes);
    const { means, variances } = spread(rows, axes);
    for (let k = 0; k < rank; k++) {
      expect(means[k]).toBeCloseTo(0, 9);
      expect(variances[k] / axes.variances[k]).toBeCloseTo(1, 6);
    }
  });

  it('is the same by the covariance of inputs and by the products of rows', () => {
    // Two more inputs than rows, and the same rows twice over: the first goes by rows, the second by inputs.
    const [count, width] = [10, 12];
    const once = randomRows(count, width, 3);
    const twice = {
      ...once,
      count: 2 * count,
      read: (row: number, into: Float64Array) => once.read(row % count, into),
    };
    const [byRows, byInputs] = [principalAxes(once), principalAxes(twice)];
    expect(byInputs.variances).toHaveLength(byRows.variances.length);
    for (const [k, variance] of byRows.variances.entries()) {
      expect(byInputs.variances[k] / variance).toBeCloseTo(1, 8);
      let dot = 0;
      for (let j = 0; j < width; j++) {
        dot += byRows.axes[j * byRows.variances.length + k] * byInputs.axes[j * byRows.variances.length + k];
      }
      expect(Math.abs(dot)).toBeCloseTo(1, 6);
    }
  });

  it('has the variances of the reference', () => {
    const rows = rowsOf(Float64Array.from(reference.x.flat()), reference.L);
    const { variances } = principalAxes({
      ...rows,
      read: (row, into) => {
        const mean = reference.x[row].reduce((sum, value) => sum + value, 0) / reference.L;
        into.set(reference.x[row].map((value) => value - mean));
      },
    });
    const { eigenvalues } = reference.settings[0];
    expect(variances).toHaveLength(eigenvalues.length);
    for (const [k, value] of eigenvalues.entries()) expect(variances[k] / value).toBeCloseTo(1, 4);
  });

  it.each([
    ['one row', 1, 5, () => 0.1],
    ['equal rows', 7, 5, (j: number) => 0.1 + j / 3],
    ['more equal rows than inputs, of single precision', 99, 3, (j: number) => Math.fround(1e4 / 3 + j)],
    ['zeros', 4, 3, () => 0],
    ['no inputs', 4, 0, () => 0],
  ])('has no axis for %s', (_, count, width, value) => {
    const read = (_row: number, into: Float64Array) => into.set(Array.from({ length: width }, (_, j) => value(j)));
    const { variances, axes } = principalAxes({ count, width, read });
    expect(variances).toHaveLength(0);
    expect(axes).toHaveLength(0);
  });

  it('keeps an axis that differs by little more than rounding', () => {
    const read = (row: number, into: Float64Array) => into.set([1000, row % 2 ? 1000.01 : 1000]);
    const { variances, axes } = principalAxes({ count: 6, width: 2, read });
    expect(variances).toHaveLength(1);
    expect(Math.abs(axes[1])).toBeCloseTo(1, 9);
  });
});

describe('axisScales', () => {
  const variances = Float64Array.of(9, 4, 1);

  it('leaves all axes alike with power 0 and whitens them with power 1', () => {
    expect([...axisScales({ variances }, 0)]).toEqual([1, 1, 1]);
    const unit = unitScale({ variances });
    const white = axisScales({ variances }, 1);
    for (const [k, variance] of variances.entries()) expect(variance * (unit * white[k]) ** 2).toBeCloseTo(1, 4);
  });

  it('makes the mean variance 1', () => {
    const unit = unitScale({ variances });
    expect((unit ** 2 * (9 + 4 + 1)) / 3).toBeCloseTo(1, 12);
  });

  it('has nothing to scale without axes', () => {
    expect(axisScales({ variances: new Float64Array(0) }, 0.5)).toHaveLength(0);
    expect(unitScale({ variances: new Float64Array(0) })).toBe(1);
  });
});
