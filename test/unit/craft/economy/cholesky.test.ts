import { describe, expect, it } from 'vitest';
import { CholeskyFactor } from '../../../../src/craft/economy/cholesky.js';
import { dotProduct } from '../../../../src/craft/economy/dot.js';
import { Random } from '../../../../src/craft/random.js';

const JITTER = 1e-6;

/** Cosines of random rows with each other, [size, size]: no negative eigenvalues, ones on the diagonal. */
function cosines(size: number, width: number, seed = 1): Float64Array {
  const random = Random.stream(seed, 'rows');
  const rows = Array.from({ length: size }, () => {
    const row = random.fillNormal(new Float64Array(width));
    const length = Math.hypot(...row);
    return row.map((value) => value / length);
  });
  return Float64Array.from({ length: size * size }, (_, at) => {
    const other = rows[at % size];
    return rows[Math.floor(at / size)].reduce((sum, value, k) => sum + value * other[k], 0);
  });
}

/** F·Fᵀ, [size, size] */
function product(factor: CholeskyFactor, size: number): Float64Array {
  return Float64Array.from({ length: size * size }, (_, at) => {
    const other = factor.row(at % size);
    return factor.row(Math.floor(at / size)).reduce((sum, value, k) => sum + value * other[k], 0);
  });
}

describe('CholeskyFactor', () => {
  it.each([
    [1, 3],
    [2, 3],
    [7, 9],
    [30, 40],
    // Of less rank than it has rows.
    [12, 3],
  ])('multiplied by its transpose is the matrix of %d rows of %d numbers', (size, width) => {
    const matrix = cosines(size, width);
    const factor = new CholeskyFactor(matrix, size);
    for (const [at, value] of product(factor, size).entries()) {
      const isDiagonal = at % (size + 1) === 0;
      expect(Math.abs(value - matrix[at] - (isDiagonal ? JITTER : 0))).toBeLessThan(1e-9);
    }
  });

  it('is lower triangular, and does not read what is above the diagonal', () => {
    const size = 9;
    const matrix = cosines(size, 12);
    const half = matrix.map((value, at) => (at % size > Math.floor(at / size) ? Number.NaN : value));
    const [whole, lower] = [new CholeskyFactor(matrix, size), new CholeskyFactor(half, size)];
    for (let i = 0; i < size; i++) {
      expect(lower.row(i)).toEqual(whole.row(i));
      expect([...lower.row(i).subarray(i + 1)]).toEqual(new Array(size - 1 - i).fill(0));
      expect(lower.row(i)[i]).toBeGreaterThan(0);
    }
  });

  it('forward undoes F', () => {
    const size = 11;
    const factor = new CholeskyFactor(cosines(size, 15), size);
    const given = Random.stream(2, 'vector').fillNormal(new Float64Array(size));
    const vector = Float64Array.from({ length: size }, (_, i) => {
      return factor.row(i).reduce((sum, value, k) => sum + value * given[k], 0);
    });
    factor.forward(vector);
    for (const [i, value] of given.entries()) expect(vector[i]).toBeCloseTo(value, 9);
  });

  it('backward undoes the transpose of F, column by column', () => {
    const [size, columns] = [11, 3];
    const factor = new CholeskyFactor(cosines(size, 15), size);
    const given = Random.stream(3, 'values').fillNormal(new Float64Array(size * columns));
    const values = Float64Array.from({ length: size * columns }, (_, at) => {
      let sum = 0;
      for (let k = 0; k < size; k++)
        sum += factor.row(k)[Math.floor(at / columns)] * given[k * columns + (at % columns)];
      return sum;
    });
    factor.backward(values, columns);
    for (const [i, value] of given.entries()) expect(values[i]).toBeCloseTo(value, 9);
  });

  it('stays finite where all rows are equal', () => {
    const size = 20;
    const factor = new CholeskyFactor(new Float64Array(size * size).fill(1), size);
    for (const value of product(factor, size)) expect(Math.abs(value - 1)).toBeLessThan(3e-6);
    const vector = new Float64Array(size).fill(1);
    factor.forward(vector);
    // What is the same as every row has its length, 1.
    expect(vector.reduce((sum, value) => sum + value * value, 0)).toBeCloseTo(1, 4);
    factor.backward(vector, 1);
    expect(vector.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 4);
  });
});

describe('dotProduct', () => {
  it.each([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])('of %d numbers is that of a plain loop, from any place on', (count) => {
    const random = Random.stream(count, 'dot');
    const [a, b] = [random.fillNormal(new Float64Array(16)), random.fillNormal(new Float64Array(16))];
    for (const [i, j] of [
      [0, 0],
      [3, 5],
      [7, 0],
    ]) {
      let sum = 0;
      for (let k = 0; k < count; k++) sum += a[i + k] * b[j + k];
      expect(dotProduct(a, i, b, j, count)).toBeCloseTo(sum, 12);
    }
  });
});
