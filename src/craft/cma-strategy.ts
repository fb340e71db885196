/** The constants of CMA-ES, with the names of Table 1 of Hansen's tutorial, arXiv 1604.00772. */
export interface CmaStrategy {
  weights: Float64Array;
  muEff: number;
  cSigma: number;
  dSigma: number;
  cC: number;
  c1: number;
  cMu: number;
  expectedNorm: number;
}

/** In the order of the array: its rounding is part of the result. */
export function sumOf(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}

function effectiveMass(weights: Float64Array): number {
  const squares = weights.reduce((sum, value) => sum + value * value, 0);
  return squares === 0 ? 0 : sumOf(weights) ** 2 / squares;
}

/**
 * The default constants, which depend on the dimension n and the population size λ alone. The weights beyond the best
 * half are negative: the worse half of a generation is learned from too (active update).
 */
export function cmaStrategy(n: number, lambda: number): CmaStrategy {
  const raw = Float64Array.from({ length: lambda }, (_, i) => Math.log((lambda + 1) / 2) - Math.log(i + 1)); // eq. 49
  const mu = Math.floor(lambda / 2);
  const muEff = effectiveMass(raw.subarray(0, mu));
  const muEffNegative = effectiveMass(raw.subarray(mu));
  const c1 = 2 / ((n + 1.3) ** 2 + muEff); // eq. 57
  const cMu = Math.min(1 - c1, (2 * (0.25 + muEff + 1 / muEff - 2)) / ((n + 2) ** 2 + muEff)); // eq. 58
  const negativeMass = Math.min(
    1 + c1 / cMu, // eq. 50
    1 + (2 * muEffNegative) / (muEff + 2), // eq. 51
    (1 - c1 - cMu) / (n * cMu), // eq. 52
  );
  const positiveSum = raw.reduce((sum, value) => sum + Math.max(0, value), 0);
  const negativeSum = raw.reduce((sum, value) => sum + Math.max(0, -value), 0);
  const weights = raw.map((value) => (value >= 0 ? value / positiveSum : (negativeMass * value) / negativeSum)); // eq. 53
  const cSigma = (muEff + 2) / (n + muEff + 5); // eq. 55
  return {
    weights,
    muEff,
    cSigma,
    dSigma: 1 + 2 * Math.max(0, Math.sqrt((muEff - 1) / (n + 1)) - 1) + cSigma, // eq. 55
    cC: (4 + muEff / n) / (n + 4 + (2 * muEff) / n), // eq. 56
    c1,
    cMu,
    expectedNorm: Math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n)),
  };
}
