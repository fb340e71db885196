import { type CmaStrategy, cmaStrategy, sumOf } from './cma-strategy.js';
import { FactoredCovariance } from './covariance.js';
import { NonFiniteFitnessError, TrainerStateError } from './errors.js';
import { triangleLength } from './kernels.js';
import { RANDOM_STATE_LENGTH, Random } from './random.js';
import { applyBound } from './search-bounds.js';

const MAX_DIMENSION = 2000;

export interface CmaEsOptions {
  /** n, 1 to {@link MAX_DIMENSION}. */
  dimension: number;
  /** λ, at least 4. */
  populationSize: number;
  /** σ0. */
  initialStepSize: number;
  /** Starting point, [n]; the origin where absent. */
  initialMean?: Float64Array;
  /** Candidates stay within [-bound, bound] on every coordinate; null or absent: no bounds. */
  bound?: number | null;
  seed: number;
}

/** Everything that changes while the search runs, as typed arrays. */
export interface CmaEsState {
  /** m, [n], before the bound transformation. */
  mean: Float64Array;
  /** p_c, [n]. */
  covariancePath: Float64Array;
  /** p_σ, [n]. */
  stepSizePath: Float64Array;
  /** C, packed lower triangle, [n(n + 1)/2]. */
  covariance: Float64Array;
  /** A with C ≈ A·Aᵀ, packed lower triangle, [n(n + 1)/2]. */
  factor: Float64Array;
  /** generation, σ, generations since A was refreshed, then the state of the random numbers. */
  scalars: Float64Array;
}

/**
 * CMA-ES with active covariance update, as an ask-and-tell object that minimises. Equation numbers are those of
 * Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772.
 *
 * It differs from the tutorial in one point, which makes it cheap in hundreds of dimensions: samples are drawn through
 * a Cholesky factor A of the covariance, refreshed only every few generations, instead of an eigendecomposition. The
 * step-size path then takes the samples before A, whose length has the same distribution as C^(-1/2)·y.
 */
export class CmaEs {
  readonly dimension: number;
  readonly populationSize: number;
  private readonly bound: number | null;
  private readonly strategy: CmaStrategy;
  /** Generations between two refreshes of the factor (tutorial, section B.2). */
  private readonly factorGap: number;
  private readonly random: Random;
  private readonly mean: Float64Array;
  private readonly covariancePath: Float64Array;
  private readonly stepSizePath: Float64Array;
  private readonly distribution: FactoredCovariance;
  private sigma: number;
  private generations: number;
  private factorAge: number;
  /** z and y of the generation that was asked for and not yet told, each [λ, n]. */
  private pending: { z: Float64Array; y: Float64Array } | null = null;

  constructor(options: CmaEsOptions, state?: CmaEsState) {
    const { dimension: n, populationSize: lambda, initialStepSize, bound = null } = options;
    if (!Number.isInteger(n) || n < 1 || n > MAX_DIMENSION) {
      throw new RangeError(`The dimension must be an integer from 1 to ${MAX_DIMENSION}, not ${n}.`);
    }
    if (!Number.isInteger(lambda) || lambda < 4) {
      throw new RangeError(`The population size must be an integer of at least 4, not ${lambda}.`);
    }
    if (!(initialStepSize > 0 && initialStepSize < Infinity)) {
      throw new RangeError(`The initial step size must be a positive number, not ${initialStepSize}.`);
    }
    if (bound !== null && !(bound > 0 && bound < Infinity)) {
      throw new RangeError(`The bound must be a positive number or null, not ${bound}.`);
    }
    this.dimension = n;
    this.populationSize = lambda;
    this.bound = bound;
    this.strategy = cmaStrategy(n, lambda);
    this.factorGap = 1 / ((this.strategy.c1 + this.strategy.cMu) * n * 10);
    this.distribution = new FactoredCovariance(n, lambda);
    if (state === undefined) {
      this.mean = options.initialMean ? fitted(options.initialMean, n, 'initial mean') : new Float64Array(n);
      this.covariancePath = new Float64Array(n);
      this.stepSizePath = new Float64Array(n);
      this.random = Random.stream(options.seed, 'cma-es');
      this.sigma = initialStepSize;
      this.generations = 0;
      this.factorAge = 0;
    } else {
      this.mean = fitted(state.mean, n, 'mean');
      this.covariancePath = fitted(state.covariancePath, n, 'covariance path');
      this.stepSizePath = fitted(state.stepSizePath, n, 'step-size path');
      this.distribution.covariance.set(checked(state.covariance, triangleLength(n), 'covariance'));
      this.distribution.factor.set(checked(state.factor, triangleLength(n), 'factor'));
      const scalars = fitted(state.scalars, 3 + RANDOM_STATE_LENGTH, 'scalars');
      [this.generations, this.sigma, this.factorAge] = scalars;
      if (!(this.sigma > 0) || !Number.isInteger(this.generations) || this.generations < 0) {
        throw new RangeError('The stored state of CMA-ES is not valid.');
      }
      this.random = Random.fromState(scalars.subarray(3));
    }
  }

  /** Generations told so far. */
  get generation(): number {
    return this.generations;
  }

  /** σ. */
  get stepSize(): number {
    return this.sigma;
  }

  /** The centre of the search distribution, within the bounds, [n]. */
  get centre(): Float64Array {
    const centre = this.mean.slice();
    applyBound(centre, this.bound);
    return centre;
  }

  /**
   * Draws a generation.
   * @returns candidates within the bounds, [λ, n]
   * @throws TrainerStateError if the last generation was not told
   */
  ask(): Float64Array {
    if (this.pending) throw new TrainerStateError('CMA-ES was asked twice; tell it the last generation first.');
    const { dimension: n, populationSize: lambda, mean, sigma } = this;
    const z = this.random.fillNormal(new Float64Array(lambda * n)); // eq. 38
    const y = this.distribution.multiply(z); // eq. 39
    const candidates = new Float64Array(lambda * n);
    for (let p = 0; p < lambda; p++) {
      for (let i = 0; i < n; i++) candidates[p * n + i] = mean[i] + sigma * y[p * n + i]; // eq. 40
    }
    applyBound(candidates, this.bound);
    this.pending = { z, y };
    return candidates;
  }

  /**
   * Learns from the losses of the last generation, in the order of its candidates; smaller is better.
   * @param losses [λ]
   * @throws NonFiniteFitnessError on NaN or infinity; the generation then still waits to be told
   */
  tell(losses: ArrayLike<number>): void {
    if (!this.pending) throw new TrainerStateError('CMA-ES was told a generation that it had not been asked for.');
    if (losses.length !== this.populationSize) {
      throw new RangeError(`A generation has ${this.populationSize} losses, not ${losses.length}.`);
    }
    for (let p = 0; p < losses.length; p++) {
      if (!Number.isFinite(losses[p])) throw new NonFiniteFitnessError(`The loss of candidate ${p} is ${losses[p]}.`);
    }
    const { z, y } = this.pending;
    // Ties keep the order of the candidates, so that the outcome does not depend on the sorting algorithm.
    const order = Array.from({ length: this.populationSize }, (_, p) => p).sort(
      (a, b) => losses[a] - losses[b] || a - b,
    );
    const { strategy, dimension: n } = this;
    this.generations++;
    this.factorAge++;

    const mu = Math.floor(this.populationSize / 2);
    const yMean = this.recombine(y, order, mu); // eq. 41
    for (let i = 0; i < n; i++) this.mean[i] += this.sigma * yMean[i]; // eq. 42, c_m = 1

    const zMean = this.recombine(z, order, mu);
    const pathNorm = this.followStepSizePath(zMean);
    const stalled = this.isStalled(pathNorm);
    const cC = strategy.cC;
    const gain = stalled ? 0 : Math.sqrt(cC * (2 - cC) * strategy.muEff);
    for (let i = 0; i < n; i++) this.covariancePath[i] = (1 - cC) * this.covariancePath[i] + gain * yMean[i]; // eq. 45
    this.updateCovariance(z, y, order, stalled);

    const change = (strategy.cSigma / strategy.dSigma) * (pathNorm / strategy.expectedNorm - 1);
    // The cap on growth is pycma's. The limits keep products with σ finite on losses that never improve.
    this.sigma = Math.min(1e100, Math.max(1e-100, this.sigma * Math.exp(Math.min(1, change)))); // eq. 44
    if (this.factorAge > this.factorGap) {
      this.distribution.refresh();
      this.factorAge = 0;
    }
    this.pending = null;
  }

  /** @throws TrainerStateError between ask and tell */
  state(): CmaEsState {
    if (this.pending) throw new TrainerStateError('The state of CMA-ES can be taken only between generations.');
    return {
      mean: this.mean.slice(),
      covariancePath: this.covariancePath.slice(),
      stepSizePath: this.stepSizePath.slice(),
      covariance: this.distribution.covariance.slice(),
      factor: this.distribution.factor.slice(),
      scalars: Float64Array.of(this.generations, this.sigma, this.factorAge, ...this.random.state()),
    };
  }

  /** Σ_{i <= μ} w_i v_(i) over the best μ rows of `vectors`. */
  private recombine(vectors: Float64Array, order: number[], mu: number): Float64Array {
    const n = this.dimension;
    const sum = new Float64Array(n);
    for (let rank = 0; rank < mu; rank++) {
      const weight = this.strategy.weights[rank];
      const start = order[rank] * n;
      for (let i = 0; i < n; i++) sum[i] += weight * vectors[start + i];
    }
    return sum;
  }

  /** Moves p_σ (eq. 43) and returns its length. */
  private followStepSizePath(zMean: Float64Array): number {
    const { cSigma, muEff } = this.strategy;
    const gain = Math.sqrt(cSigma * (2 - cSigma) * muEff);
    let square = 0;
    for (let i = 0; i < this.dimension; i++) {
      const value = (1 - cSigma) * this.stepSizePath[i] + gain * zMean[i];
      this.stepSizePath[i] = value;
      square += value * value;
    }
    return Math.sqrt(square);
  }

  /** h_σ = 0: the step-size path is so long that the covariance path must not grow too. */
  private isStalled(pathNorm: number): boolean {
    const { cSigma, expectedNorm } = this.strategy;
    const unbiased = pathNorm / Math.sqrt(1 - (1 - cSigma) ** (2 * this.generations));
    return unbiased >= (1.4 + 2 / (this.dimension + 1)) * expectedNorm;
  }

  private updateCovariance(z: Float64Array, y: Float64Array, order: number[], stalled: boolean): void {
    const { dimension: n, populationSize: lambda, strategy } = this;
    const { c1, cMu, cC, weights } = strategy;
    const rows: Float64Array[] = [];
    const coefficients = new Float64Array(lambda + 1);
    for (let k = 0; k < lambda; k++) {
      const start = order[k] * n;
      rows.push(y.subarray(start, start + n));
      let square = 0;
      for (let i = 0; i < n; i++) square += z[start + i] * z[start + i];
      const scale = weights[k] >= 0 ? 1 : n / (square + 1e-300); // eq. 46; ‖C^(-1/2)·y‖ = ‖z‖
      coefficients[k] = cMu * weights[k] * scale;
    }
    rows.push(this.covariancePath);
    coefficients[lambda] = c1;
    const lost = stalled ? cC * (2 - cC) : 0;
    const decay = 1 + c1 * lost - c1 - cMu * sumOf(weights);
    this.distribution.update(decay, rows, coefficients); // eq. 47
  }
}

/** A copy of `values`, checked for length and finiteness. */
function fitted(values: Float64Array, length: number, what: string): Float64Array {
  return checked(values, length, what).slice();
}

function checked(values: Float64Array, length: number, what: string): Float64Array {
  if (values.length !== length) throw new RangeError(`The ${what} has ${values.length} entries, not ${length}.`);
  if (!values.every(Number.isFinite)) throw new RangeError(`The ${what} has an entry that is not finite.`);
  return values;
}
