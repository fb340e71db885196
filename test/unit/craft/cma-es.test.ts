import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CmaEs, type CmaEsOptions } from '../../../src/craft/cma-es.js';
import { NonFiniteFitnessError, TrainerStateError } from '../../../src/craft/errors.js';

interface ReferenceRow {
  function: keyof typeof functions;
  n: number;
  x0: number;
  sigma0: number;
  popsize: number;
  target: number;
  seeds: number;
  succeeded: number;
  median: number;
}

const reference = JSON.parse(readFileSync(new URL('fixtures/cma-es-reference.json', import.meta.url), 'utf8')) as {
  rows: ReferenceRow[];
};

const functions = {
  sphere: (x: Float64Array) => x.reduce((sum, v) => sum + v * v, 0),
  ellipsoid: (x: Float64Array) => x.reduce((sum, v, i) => sum + 10 ** ((6 * i) / (x.length - 1)) * v * v, 0),
  rosenbrock: (x: Float64Array) => {
    let sum = 0;
    for (let i = 0; i + 1 < x.length; i++) sum += 100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2;
    return sum;
  },
  rastrigin: (x: Float64Array) => x.reduce((sum, v) => sum + 10 * (1 - Math.cos(2 * Math.PI * v)) + v * v, 0),
};

function losses(candidates: Float64Array, n: number, f: (x: Float64Array) => number): Float64Array {
  return Float64Array.from({ length: candidates.length / n }, (_, p) => f(candidates.subarray(p * n, (p + 1) * n)));
}

/** Evaluations until f reaches the target, or null. */
function evaluationsToTarget(row: ReferenceRow, seed: number): number | null {
  const search = new CmaEs({
    dimension: row.n,
    populationSize: row.popsize,
    initialStepSize: row.sigma0,
    initialMean: new Float64Array(row.n).fill(row.x0),
    seed,
  });
  for (let evaluations = 0; evaluations < 1.6 * row.median; evaluations += row.popsize) {
    const values = losses(search.ask(), row.n, functions[row.function]);
    const hit = values.findIndex((value) => value <= row.target);
    if (hit >= 0) return evaluations + hit + 1;
    search.tell(values);
  }
  return null;
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2;
}

describe('CMA-ES against the reference', () => {
  it.each(reference.rows)('needs as many evaluations on $function, n = $n', (row) => {
    const results = Array.from({ length: row.seeds }, (_, seed) => evaluationsToTarget(row, seed + 1));
    const successes = results.filter((result) => result !== null);
    // Rosenbrock and Rastrigin have local optima, where a seed may rightly end.
    expect(successes.length).toBeGreaterThanOrEqual(row.succeeded - (row.succeeded === row.seeds ? 0 : 3));
    const ratio = median(successes) / row.median;
    expect(ratio).toBeGreaterThan(0.85);
    expect(ratio).toBeLessThan(1.15);
  });
});

describe('CMA-ES', () => {
  const options: CmaEsOptions = { dimension: 7, populationSize: 9, initialStepSize: 0.7, bound: 1.5, seed: 5 };
  const run = (search: CmaEs, generations: number, f = functions.rosenbrock) => {
    const asked: number[][] = [];
    for (let g = 0; g < generations; g++) {
      const candidates = search.ask();
      asked.push([...candidates]);
      search.tell(losses(candidates, search.dimension, f));
    }
    return asked;
  };

  it('repeats itself with the same seed only', () => {
    expect(run(new CmaEs(options), 20)).toEqual(run(new CmaEs(options), 20));
    expect(run(new CmaEs({ ...options, seed: 6 }), 1)).not.toEqual(run(new CmaEs(options), 1));
  });

  it('goes on from its state bit for bit', () => {
    const search = new CmaEs(options);
    run(search, 13);
    const resumed = new CmaEs(options, structuredClone(search.state()));
    expect(run(resumed, 20)).toEqual(run(search, 20));
    expect(resumed.generation).toBe(33);
  });

  it('does not share memory with the state it gave', () => {
    const search = new CmaEs(options);
    const state = search.state();
    run(search, 3);
    expect(state).toEqual(new CmaEs(options).state());
  });

  it('learns from its first generation what the tutorial says (equations 41 to 47 and 49 to 58)', () => {
    const [n, lambda, mu] = [3, 6, 3];
    const search = new CmaEs({ dimension: n, populationSize: lambda, initialStepSize: 1, seed: 1 });
    // At the start m = 0, σ = 1 and C = I, so that x = y = z. The losses rank the candidates as they come.
    const z = search.ask();
    const row = (k: number) => [...z.subarray(k * n, (k + 1) * n)];
    search.tell(Array.from({ length: lambda }, (_, k) => k));

    const raw = Array.from({ length: lambda }, (_, i) => Math.log((lambda + 1) / 2) - Math.log(i + 1));
    const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
    const mass = (values: number[]) => sum(values) ** 2 / sum(values.map((value) => value ** 2));
    const [good, bad] = [raw.slice(0, mu), raw.slice(mu)];
    const muEff = mass(good);
    const c1 = 2 / ((n + 1.3) ** 2 + muEff);
    const cMu = Math.min(1 - c1, (2 * (0.25 + muEff + 1 / muEff - 2)) / ((n + 2) ** 2 + muEff));
    const negative = Math.min(1 + c1 / cMu, 1 + (2 * mass(bad)) / (muEff + 2), (1 - c1 - cMu) / (n * cMu));
    const weights = [...good.map((w) => w / sum(good)), ...bad.map((w) => (-negative * w) / sum(bad))];
    const mean = [0, 1, 2].map((i) => sum(good.map((_, k) => weights[k] * row(k)[i])));

    const cSigma = (muEff + 2) / (n + muEff + 5);
    const dSigma = 1 + 2 * Math.max(0, Math.sqrt((muEff - 1) / (n + 1)) - 1) + cSigma;
    const cC = (4 + muEff / n) / (n + 4 + (2 * muEff) / n);
    const stepSizePath = mean.map((value) => Math.sqrt(cSigma * (2 - cSigma) * muEff) * value);
    const covariancePath = mean.map((value) => Math.sqrt(cC * (2 - cC) * muEff) * value);
    const expectedNorm = Math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n));
    const sigma = Math.exp((cSigma / dSigma) * (Math.hypot(...stepSizePath) / expectedNorm - 1));
    const covariance: number[] = [];
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) {
        const outer = weights.map((w, k) => {
          const scale = w >= 0 ? 1 : n / Math.hypot(...row(k)) ** 2;
          return w * scale * row(k)[i] * row(k)[j];
        });
        const kept = i === j ? 1 - c1 - cMu * sum(weights) : 0;
        covariance.push(kept + c1 * covariancePath[i] * covariancePath[j] + cMu * sum(outer));
      }
    }
    const state = search.state();
    expect(state.scalars[1]).toBeCloseTo(sigma, 12);
    for (const [actual, expected] of [
      [state.mean, mean],
      [state.stepSizePath, stepSizePath],
      [state.covariancePath, covariancePath],
      [state.covariance, covariance],
    ]) {
      expected.forEach((value, i) => {
        expect(actual[i]).toBeCloseTo(value, 12);
      });
    }
  });

  it('finds an optimum on the bound and never leaves the box', () => {
    const search = new CmaEs({ ...options, seed: 2 });
    const asked = run(search, 300, (x) => x.reduce((sum, v) => sum + (v - 3) ** 2, 0));
    expect(asked.flat().every((value) => Math.abs(value) <= 1.5)).toBe(true);
    for (const value of search.centre) expect(value).toBeCloseTo(1.5, 4);
  });

  it('searches beyond any box without bounds', () => {
    const search = new CmaEs({ ...options, bound: null });
    run(search, 300, (x) => x.reduce((sum, v) => sum + (v - 30) ** 2, 0));
    for (const value of search.centre) expect(value).toBeCloseTo(30, 3);
  });

  it('takes ties and flat losses in its stride', () => {
    const search = new CmaEs(options);
    run(search, 2000, () => 1);
    expect(search.centre.every(Number.isFinite)).toBe(true);
    expect(search.stepSize).toBeGreaterThan(0);
    expect(Number.isFinite(search.stepSize)).toBe(true);
  });

  it('works in one dimension', () => {
    const search = new CmaEs({ dimension: 1, populationSize: 4, initialStepSize: 1, seed: 1 });
    run(search, 100, (x) => (x[0] - 2) ** 2);
    expect(search.centre[0]).toBeCloseTo(2, 5);
  });

  it('recovers from a covariance that is not positive definite', () => {
    const search = new CmaEs(options);
    run(search, 5);
    const state = search.state();
    state.covariance[0] = -1e6;
    const broken = new CmaEs(options, state);
    run(broken, 400);
    expect(broken.state().covariance[0]).toBeGreaterThan(0);
    expect(functions.rosenbrock(broken.centre)).toBeLessThan(1e-6);
  });

  it.each([NaN, Infinity, -Infinity])('rejects the loss %s and can be told again', (bad) => {
    const search = new CmaEs(options);
    const values = losses(search.ask(), 7, functions.sphere);
    const damaged = values.slice();
    damaged[4] = bad;
    expect(() => search.tell(damaged)).toThrow(NonFiniteFitnessError);
    expect(() => search.tell(damaged)).toThrow(/candidate 4/);
    search.tell(values);
    const straight = new CmaEs(options);
    run(straight, 1, functions.sphere);
    expect(search.state()).toEqual(straight.state());
  });

  it('insists on ask, then tell', () => {
    const search = new CmaEs(options);
    expect(() => search.tell(new Float64Array(9))).toThrow(TrainerStateError);
    search.ask();
    expect(() => search.ask()).toThrow(TrainerStateError);
    expect(() => search.state()).toThrow(TrainerStateError);
    expect(() => search.tell(new Float64Array(8))).toThrow(RangeError);
  });

  it.each([
    { dimension: 0 },
    { dimension: 2001 },
    { dimension: 1.5 },
    { populationSize: 3 },
    { initialStepSize: 0 },
    { initialStepSize: NaN },
    { bound: 0 },
    { bound: Infinity },
    { initialMean: new Float64Array(6) },
    { initialMean: new Float64Array(7).fill(NaN) },
  ])('rejects %j', (change) => {
    expect(() => new CmaEs({ ...options, ...change })).toThrow(RangeError);
  });

  it('rejects a state of another dimension', () => {
    expect(() => new CmaEs({ ...options, dimension: 8 }, new CmaEs(options).state())).toThrow(RangeError);
  });
});
