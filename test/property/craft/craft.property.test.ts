import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CmaEs } from '../../../src/craft/cma-es.js';
import { crossEntropy, headLoss, promptLoss, softmax } from '../../../src/craft/losses.js';
import { Random } from '../../../src/craft/random.js';
import { applyBound } from '../../../src/craft/search-bounds.js';
import { readSafetensors, SafetensorsError, writeSafetensors } from '../../../src/formats/safetensors.js';

const SETTINGS = { seed: 20260101, numRuns: 200 };
const seeds = fc.integer({ min: -(2 ** 31), max: 2 ** 31 });

describe('properties of the random numbers', () => {
  it('a stream goes on from its state wherever it is cut', () => {
    const property = fc.property(seeds, fc.string(), fc.nat({ max: 50 }), (seed, label, steps) => {
      const random = Random.stream(seed, label);
      for (let i = 0; i < steps; i++) random.normal();
      const copy = Random.fromState(random.state());
      expect([copy.normal(), copy.uniform(), copy.normal()]).toEqual([
        random.normal(),
        random.uniform(),
        random.normal(),
      ]);
    });
    fc.assert(property, SETTINGS);
  });

  it('a permutation has each number once', () => {
    const property = fc.property(seeds, fc.nat({ max: 300 }), (seed, length) => {
      const order = Random.stream(seed, 'permutation').permutation(length);
      expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length }, (_, i) => i));
    });
    fc.assert(property, SETTINGS);
  });
});

describe('properties of the bounds', () => {
  const values = fc.double({ min: -1e6, max: 1e6, noNaN: true });
  const bounds = fc.double({ min: 1e-3, max: 1e4, noNaN: true });
  const bounded = (value: number, bound: number) => {
    const points = Float64Array.of(value);
    applyBound(points, bound);
    return points[0];
  };

  it('every point lands within them, odd in sign and without jumps', () => {
    const property = fc.property(values, bounds, (value, bound) => {
      const image = bounded(value, bound);
      expect(Math.abs(image)).toBeLessThanOrEqual(bound);
      expect(bounded(-value, bound)).toBeCloseTo(-image, 9);
      const step = 1e-6;
      expect(Math.abs(bounded(value + step, bound) - image)).toBeLessThan(1.01 * step + 1e-9);
    });
    fc.assert(property, SETTINGS);
  });
});

describe('properties of the losses', () => {
  const rows = fc.integer({ min: 2, max: 6 }).chain((classCount) => {
    const logit = fc.oneof(fc.double({ min: -1e4, max: 1e4, noNaN: true }), fc.constant(Number.NEGATIVE_INFINITY));
    const row = fc.array(logit, { minLength: classCount, maxLength: classCount });
    return fc.tuple(row, row, fc.nat({ max: classCount - 1 }), fc.double({ min: 0, max: 10, noNaN: true }));
  });

  it('are finite, not negative, and grow with the weight of consistency', () => {
    const property = fc.property(rows, ([s, r, label, weight]) => {
      const labels = Int32Array.of(label);
      const plain = crossEntropy(s, labels, s.length);
      expect(plain).toBeGreaterThanOrEqual(0);
      for (const loss of [promptLoss, headLoss]) {
        const value = loss(s, r, labels, s.length, weight);
        expect(Number.isFinite(value)).toBe(true);
        expect(value).toBeGreaterThanOrEqual(loss(s, r, labels, s.length, 0) * (1 - 1e-9) - 1e-9);
      }
      expect(promptLoss(s, s, labels, s.length, weight)).toBeCloseTo(plain, 6);
    });
    fc.assert(property, SETTINGS);
  });

  it('softmax is a distribution', () => {
    const property = fc.property(rows, ([s]) => {
      const total = softmax(s, s.length).reduce((sum, value) => sum + value, 0);
      expect(total).toBeCloseTo(1, 5);
    });
    fc.assert(property, SETTINGS);
  });
});

describe('properties of CMA-ES', () => {
  it('any losses keep its state finite and its candidates within bounds, and its state resumes it', () => {
    const options = fc.record({
      dimension: fc.integer({ min: 1, max: 12 }),
      populationSize: fc.integer({ min: 4, max: 20 }),
      initialStepSize: fc.double({ min: 1e-3, max: 100, noNaN: true }),
      bound: fc.option(fc.double({ min: 0.1, max: 10, noNaN: true })),
      seed: seeds,
    });
    const property = fc.property(options, fc.integer({ min: 1, max: 30 }), (settings, generations) => {
      const search = new CmaEs(settings);
      const random = Random.stream(settings.seed, 'losses');
      for (let g = 0; g < generations; g++) {
        const candidates = search.ask();
        const limit = settings.bound ?? Number.MAX_VALUE;
        expect(candidates.every((value) => Math.abs(value) <= limit)).toBe(true);
        search.tell(random.fillNormal(new Float64Array(settings.populationSize), 1e6));
      }
      for (const values of Object.values(search.state())) expect(values.every(Number.isFinite)).toBe(true);
      expect(new CmaEs(settings, search.state()).ask()).toEqual(search.ask());
    });
    fc.assert(property, { ...SETTINGS, numRuns: 60 });
  });

  it('only the ranking of the losses matters', () => {
    const property = fc.property(seeds, (seed) => {
      const make = () => new CmaEs({ dimension: 5, populationSize: 8, initialStepSize: 1, seed });
      const [plain, stretched] = [make(), make()];
      for (let g = 0; g < 5; g++) {
        const losses = plain.ask().filter((_, i) => i % 5 === 0);
        stretched.ask();
        plain.tell(losses);
        stretched.tell(losses.map((value) => Math.exp(value) * 1e3));
      }
      expect(stretched.state()).toEqual(plain.state());
    });
    fc.assert(property, { ...SETTINGS, numRuns: 50 });
  });
});

describe('properties of safetensors', () => {
  const tensor = fc.array(fc.float({ noNaN: true }), { maxLength: 20 }).map((values) => {
    return { dtype: 'F32' as const, shape: [values.length], data: Float32Array.from(values) };
  });
  const names = fc.string().filter((name) => name !== '__metadata__');
  const files = fc.array(fc.tuple(names, tensor), { maxLength: 8 }).map((entries) => new Map(entries));

  it('every file comes back', () => {
    const property = fc.property(files, fc.dictionary(fc.string(), fc.string()), (tensors, metadata) => {
      const file = readSafetensors(writeSafetensors(tensors, metadata));
      expect(new Map([...file.tensors].sort())).toEqual(new Map([...tensors].sort()));
      expect({ ...file.metadata }).toEqual({ ...metadata });
    });
    fc.assert(property, SETTINGS);
  });

  it('damaged bytes are read or refused, never anything else', () => {
    const damage = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 4 });
    const property = fc.property(files, damage, fc.nat({ max: 8 }), (tensors, changes, cut) => {
      const bytes = writeSafetensors(tensors);
      for (const [position, value] of changes) bytes[position % bytes.length] = value;
      try {
        readSafetensors(bytes.subarray(0, bytes.length - cut));
      } catch (error) {
        expect(error).toBeInstanceOf(SafetensorsError);
      }
    });
    fc.assert(property, { ...SETTINGS, numRuns: 1000 });
  });
});
