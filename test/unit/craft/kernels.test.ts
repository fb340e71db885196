import { describe, expect, it } from 'vitest';
import { affineRows, cholesky, multiplyTriangle, rankUpdate, triangleLength } from '../../../src/craft/kernels.js';
import { PromptGenerator } from '../../../src/craft/prompt-generator.js';
import { Random } from '../../../src/craft/random.js';
import { applyBound } from '../../../src/craft/search-bounds.js';

const sizes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 31];
const normals = (length: number, label: string) => Random.stream(1, label).fillNormal(new Float64Array(length));
const at = (i: number, j: number) => triangleLength(i) + j;

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < actual.length; i++) expect(actual[i], `entry ${i}`).toBeCloseTo(expected[i], 9);
}

/** Triangle of B·Bᵀ + I for a random B. */
function positiveMatrix(n: number): Float64Array {
  const b = normals(n * n, 'matrix');
  const matrix = new Float64Array(triangleLength(n));
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? 1 : 0;
      for (let k = 0; k < n; k++) sum += b[i * n + k] * b[j * n + k];
      matrix[at(i, j)] = sum;
    }
  }
  return matrix;
}

describe.each(sizes)('kernels of size %i', (n) => {
  it('factor a matrix', () => {
    const matrix = positiveMatrix(n);
    const factor = new Float64Array(matrix.length);
    expect(cholesky(matrix, n, factor)).toBe(true);
    const product = new Float64Array(matrix.length);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++)
        for (let k = 0; k <= j; k++) product[at(i, j)] += factor[at(i, k)] * factor[at(j, k)];
    }
    expectClose(product, matrix);
  });

  it('refuse a matrix that is not positive definite', () => {
    const matrix = positiveMatrix(n);
    matrix[at(n - 1, n - 1)] = -1;
    expect(cholesky(matrix, n, new Float64Array(matrix.length))).toBe(false);
    matrix[at(0, 0)] = Number.NaN;
    expect(cholesky(matrix, n, new Float64Array(matrix.length))).toBe(false);
  });

  it.each([1, 4, 6])('multiply a triangle by %i vectors', (count) => {
    const factor = normals(triangleLength(n), 'factor');
    const vectors = normals(count * n, 'vectors');
    const output = new Float64Array(count * n);
    const expected = new Float64Array(count * n);
    for (let p = 0; p < count; p++) {
      for (let i = 0; i < n; i++) {
        for (let j = 0; j <= i; j++) expected[p * n + i] += factor[at(i, j)] * vectors[p * n + j];
      }
    }
    multiplyTriangle(factor, n, vectors, count, output);
    expectClose(output, expected);
  });

  it('update a matrix by weighted outer products', () => {
    const rank = 5;
    const matrix = positiveMatrix(n);
    const columns = normals(n * rank, 'columns');
    const weights = normals(rank, 'weights');
    const expected = matrix.map((value) => 0.9 * value);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) {
        for (let k = 0; k < rank; k++) expected[at(i, j)] += weights[k] * columns[i * rank + k] * columns[j * rank + k];
      }
    }
    rankUpdate(matrix, n, 0.9, columns, weights);
    expectClose(matrix, expected);
  });
});

describe('affineRows', () => {
  it('adds the offset to the product', () => {
    const output = new Float32Array(10);
    const points = Float64Array.of(1, 0, 0, 1, 1, 1, 2, 0, 0, -1);
    affineRows(Float32Array.of(1, 2, 3, 4), 2, Float32Array.of(10, 20), points, 5, output);
    expect([...output]).toEqual([11, 23, 12, 24, 13, 27, 12, 26, 8, 16]);
  });
});

describe('PromptGenerator', () => {
  const start = Float32Array.from({ length: 600 }, (_, i) => i / 100);

  it('starts at p0 and spreads by the projection', () => {
    const generator = new PromptGenerator(start, 50, 0.2, 1);
    expect(generator.generate(new Float64Array(50))).toEqual(start);
    const point = new Float64Array(50).fill(1);
    const shift = generator.generate(point).map((value, i) => value - start[i]);
    const variance = shift.reduce((sum, value) => sum + value * value, 0) / shift.length;
    expect(Math.abs(variance / (50 * 0.2 ** 2) - 1)).toBeLessThan(0.2);
  });

  it('makes of a point the same prompt alone as in a batch', () => {
    const generator = new PromptGenerator(start, 3, 0.2, 1);
    const points = normals(18, 'points');
    const batch = generator.generate(points);
    for (let p = 0; p < 6; p++) {
      expect(generator.generate(points.slice(p * 3, p * 3 + 3))).toEqual(batch.slice(p * 600, (p + 1) * 600));
    }
  });

  it('depends on the seed alone', () => {
    const point = Float64Array.of(1, 2, 3);
    const promptOf = (seed: number) => new PromptGenerator(start, 3, 0.2, seed).generate(point);
    expect(promptOf(1)).toEqual(promptOf(1));
    expect(promptOf(1)).not.toEqual(promptOf(2));
    expect(() => new PromptGenerator(start, 3, 0.2, 1).generate(new Float64Array(4))).toThrow(RangeError);
  });
});

describe('applyBound', () => {
  const bounded = (value: number, bound: number | null = 5) => {
    const points = Float64Array.of(value);
    applyBound(points, bound);
    return points[0];
  };

  it('is the identity in the interior and without bounds', () => {
    for (const value of [0, 1, -4.69, 4.7]) expect(bounded(value)).toBe(value);
    expect(bounded(1e9, null)).toBe(1e9);
  });

  it('bends within (1 + bound)/20 of a side, reaching it that far beyond', () => {
    expect(bounded(5)).toBeCloseTo(5 - 0.3 / 4, 12);
    expect(bounded(5.3)).toBeCloseTo(5, 12);
    expect(bounded(-5.3)).toBeCloseTo(-5, 12);
  });

  it('mirrors beyond', () => {
    expect(bounded(5.4)).toBeCloseTo(bounded(5.2), 12);
    expect(bounded(10.6)).toBeCloseTo(0, 12);
    expect(bounded(15.9)).toBeCloseTo(-5, 12);
    expect(bounded(21.2 + 2)).toBeCloseTo(2, 12);
    expect(bounded(-12)).toBeCloseTo(1.4, 12);
  });
});
