import { describe, expect, it } from 'vitest';
import { FactoredCovariance } from '../../../src/craft/covariance.js';
import { triangleLength } from '../../../src/craft/kernels.js';
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

/** Σ in the order of the index, one product rounded after another. */
function inOrder(length: number, start: number, term: (k: number) => number): number {
  let sum = start;
  for (let k = 0; k < length; k++) sum += term(k);
  return sum;
}

// Not just close: kernels compute several results at once, but each of them as these plain loops do.
describe.each(sizes)('a covariance of size %i', (n) => {
  it('is factored', () => {
    const model = new FactoredCovariance(n, 4);
    const matrix = positiveMatrix(n);
    model.covariance.set(matrix);
    model.refresh();
    const { factor } = model;
    expect(model.covariance).toEqual(matrix);
    const product = new Float64Array(matrix.length);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++)
        for (let k = 0; k <= j; k++) product[at(i, j)] += factor[at(i, k)] * factor[at(j, k)];
    }
    expectClose(product, matrix);
    for (let j = 0; j < n; j++) {
      for (let i = j + 1; i < n; i++) {
        // Off the blocks of four on the diagonal, and but for the last row of an odd number, products are taken off one by one.
        const apart = j < (i & ~3) && (i | 1) < n;
        const entry = apart
          ? inOrder(j, matrix[at(i, j)], (k) => -(factor[at(i, k)] * factor[at(j, k)]))
          : matrix[at(i, j)] - inOrder(j, 0, (k) => factor[at(i, k)] * factor[at(j, k)]);
        expect(factor[at(i, j)], `row ${i}, column ${j}`).toBe(entry / factor[at(j, j)]);
      }
    }
  });

  it('goes back to its last factor where it is not positive definite any more', () => {
    for (const [place, value] of [
      [at(n - 1, n - 1), -1],
      [at(0, 0), Number.NaN],
      [at(n - 1, n - 1), Infinity],
    ]) {
      const model = new FactoredCovariance(n, 4);
      model.covariance.set(positiveMatrix(n));
      model.refresh();
      const factor = model.factor.slice();
      model.covariance[place] = value;
      model.refresh();
      expect(model.factor).toEqual(factor);
      expectClose(model.covariance, positiveMatrix(n));
    }
  });

  it.each([4, 5, 6, 11])('multiplies %i vectors by its factor', (count) => {
    const model = new FactoredCovariance(n, count);
    const factor = normals(triangleLength(n), 'factor');
    const vectors = normals(count * n, 'vectors');
    model.factor.set(factor);
    const expected = new Float64Array(count * n);
    for (let p = 0; p < count; p++) {
      for (let i = 0; i < n; i++) {
        expected[p * n + i] = inOrder(i + 1, 0, (j) => factor[at(i, j)] * vectors[p * n + j]);
      }
    }
    expect(model.multiply(vectors)).toEqual(expected);
  });

  it.each([4, 7])('learns from %i weighted outer products', (count) => {
    const rank = count + 1;
    const model = new FactoredCovariance(n, count);
    const matrix = positiveMatrix(n);
    model.covariance.set(matrix);
    const rows = Array.from({ length: rank }, (_, k) => normals(n, `row ${k}`));
    const weights = normals(rank, 'weights');
    const expected = new Float64Array(matrix.length);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) {
        expected[at(i, j)] = 0.9 * matrix[at(i, j)] + inOrder(rank, 0, (k) => weights[k] * rows[k][i] * rows[k][j]);
      }
    }
    model.update(0.9, rows, weights);
    expect(model.covariance).toEqual(expected);
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

  it.each([1, 2, 7, 8, 9, 40, 65, 130])('sums %i prompts in double precision, in order', (count) => {
    const n = 37;
    const projection = Random.stream(7, 'projection').fillNormal(new Float32Array(start.length * n), 0.2);
    const points = normals(count * n, 'points');
    const expected = new Float32Array(count * start.length);
    for (let p = 0; p < count; p++) {
      for (let i = 0; i < start.length; i++) {
        expected[p * start.length + i] = inOrder(n, start[i], (k) => projection[i * n + k] * points[p * n + k]);
      }
    }
    expect(new PromptGenerator(start, n, 0.2, 7).generate(points)).toEqual(expected);
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
