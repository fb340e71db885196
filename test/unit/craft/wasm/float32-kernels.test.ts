import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crossEntropy, softmax } from '../../../../src/craft/losses.js';
import { Random } from '../../../../src/craft/random.js';
import { Float32Kernels } from '../../../../src/craft/wasm/float32-kernels.js';

const normal = (length: number, seed: number, deviation = 1) => {
  return Random.stream(seed, 'numbers').fillNormal(new Float32Array(length), deviation);
};

/** In double precision; also what the products of absolute values come to, as a scale for rounding errors. */
function preciseProduct(a: (i: number, p: number) => number, b: (p: number, j: number) => number, size: number[]) {
  const [m, k, n] = size;
  const values = new Float64Array(m * n);
  const scale = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let p = 0; p < k; p++) {
      const x = a(i, p);
      for (let j = 0; j < n; j++) {
        values[i * n + j] += x * b(p, j);
        scale[i * n + j] += Math.abs(x * b(p, j));
      }
    }
  }
  return { values, scale };
}

const size = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(126, 127, 128, 129, 255, 257, 520));

describe('Float32Kernels', () => {
  const kernels = new Float32Kernels();
  const filled = (values: Float32Array | Int32Array) => {
    const array = kernels.allocate(values.length);
    kernels.upload(array, values);
    return array;
  };

  it('multiplies matrices of any shape, whichever way they lie, and writes nothing beside the result', () => {
    fc.assert(
      fc.property(size, size, size, fc.boolean(), fc.integer(), (m, k, n, accumulate, seed) => {
        const a = normal(m * k, seed);
        const b = normal(k * n, seed + 1);
        const before = normal(m * n + 8, seed + 2);
        const plain = preciseProduct(
          (i, p) => a[i * k + p],
          (p, j) => b[p * n + j],
          [m, k, n],
        );
        const ways = [
          { method: 'matmul', a, b },
          { method: 'matmulTransposedA', a: transposed(a, m, k), b },
          { method: 'matmulTransposedB', a, b: transposed(b, k, n) },
        ] as const;
        const results = ways.map((way) => {
          kernels.freeAll();
          const out = filled(before);
          kernels[way.method](filled(way.a), filled(way.b), out, m, k, n, accumulate);
          return kernels.download(out);
        });
        expect(results[1]).toEqual(results[0]);
        expect(results[2]).toEqual(results[0]);
        expect(results[0].subarray(m * n)).toEqual(before.subarray(m * n));
        let worst = 0;
        for (let i = 0; i < m * n; i++) {
          const start = accumulate ? before[i] : 0;
          const error = Math.abs(results[0][i] - (start + plain.values[i]));
          worst = Math.max(worst, error / (plain.scale[i] + Math.abs(start)));
        }
        expect(worst).toBeLessThan(4e-6);
      }),
      { numRuns: 60 },
    );
  });

  it('gives a row the same bits whatever other rows there are', () => {
    const [k, n] = [300, 21];
    const a = normal(131 * k, 1);
    const b = normal(k * n, 2);
    const product = (rows: Float32Array) => {
      kernels.freeAll();
      const out = kernels.allocate((rows.length / k) * n);
      kernels.matmul(filled(rows), filled(b), out, rows.length / k, k, n);
      return kernels.download(out);
    };
    const whole = product(a);
    for (const row of [0, 3, 77, 130]) {
      expect(product(a.slice(row * k, (row + 1) * k))).toEqual(whole.slice(row * n, (row + 1) * n));
    }
  });

  it('lets NaN and infinity through', () => {
    kernels.freeAll();
    const a = normal(9 * 5, 1);
    a[2 * 5 + 1] = Number.NaN;
    a[8 * 5 + 4] = Number.POSITIVE_INFINITY;
    const out = kernels.allocate(9 * 3);
    kernels.matmul(filled(a), filled(normal(5 * 3, 2)), out, 9, 5, 3);
    const finite = [...kernels.download(out)].map(Number.isFinite);
    expect(finite).toEqual(Array.from({ length: 27 }, (_, i) => ![2, 8].includes(Math.floor(i / 3))));
  });

  it('refuses a product that reaches over the end of an array', () => {
    kernels.freeAll();
    const array = kernels.allocate(6);
    expect(() => kernels.matmul(array, array, kernels.allocate(9), 2, 4, 3)).toThrow(RangeError);
    expect(() => kernels.matmul(array, array, kernels.allocate(8), 3, 2, 3)).toThrow(RangeError);
  });

  it('has the loss and the gradient of a softmax, weighted and with an offset', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9 }),
        fc.oneof(fc.integer({ min: 2, max: 25 }), fc.constant(1000)),
        fc.constantFrom(0.1, 3, 1000),
        fc.boolean(),
        fc.boolean(),
        fc.integer(),
        (rows, classCount, deviation, hasOffset, hasWeights, seed) => {
          kernels.freeAll();
          const logits = normal(rows * classCount, seed, deviation);
          const offset = normal(rows * classCount, seed + 1, deviation);
          const random = Random.stream(seed, 'labels');
          const labels = Int32Array.from({ length: rows }, () => Math.floor(random.uniform() * classCount));
          const weights = Float32Array.from({ length: rows }, (_, i) => (i % 3 === 0 ? 0 : random.uniform()));
          const gradient = filled(logits);
          const loss = kernels.softmaxCrossEntropyGradient(
            gradient,
            filled(labels),
            classCount,
            hasOffset ? filled(offset) : null,
            hasWeights ? filled(weights) : null,
          );
          const sums = logits.map((value, i) => (hasOffset ? value + offset[i] : value));
          const probabilities = softmax(sums, classCount);
          let expectedLoss = 0;
          let worst = 0;
          const values = kernels.download(gradient);
          labels.forEach((label, i) => {
            const weight = hasWeights ? weights[i] : 1;
            const row = sums.subarray(i * classCount, (i + 1) * classCount);
            expectedLoss += weight * crossEntropy(row, Int32Array.of(label), classCount);
            for (let c = 0; c < classCount; c++) {
              const p = probabilities[i * classCount + c] - (c === label ? 1 : 0);
              worst = Math.max(worst, Math.abs(values[i * classCount + c] - weight * p));
            }
          });
          expect(worst).toBeLessThan(1e-6);
          expect(Math.abs(loss - expectedLoss)).toBeLessThan(1e-5 * (1 + expectedLoss));
        },
      ),
      { numRuns: 100 },
    );
  });

  it('reuses the memory of what is freed', () => {
    const fresh = new Float32Kernels();
    const rounds = Array.from({ length: 1000 }, () => {
      const mark = fresh.mark();
      const [a, b, out] = [0, 1, 2].map(() => fresh.allocate(50_000));
      fresh.matmul(a, b, out, 10, 10, 10);
      fresh.freeSince(mark);
      return fresh.memoryBytes;
    });
    expect(rounds[999]).toBe(rounds[0]);
  });
});

function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(matrix.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result[j * rows + i] = matrix[i * columns + j];
  return result;
}
