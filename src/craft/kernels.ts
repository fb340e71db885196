/**
 * What is common to those who work on triangles: the kernels proper are in wasm/.
 *
 * A lower triangle is packed by rows: entry (i, j), j <= i, lies at i(i + 1)/2 + j.
 */

/** Entries in the packed lower triangle of an n × n matrix. */
export function triangleLength(n: number): number {
  return (n * (n + 1)) / 2;
}

/** The packed lower triangle of the n × n identity. */
export function identityTriangle(n: number): Float64Array {
  const triangle = new Float64Array(triangleLength(n));
  for (let i = 0; i < n; i++) triangle[triangleLength(i) + i] = 1;
  return triangle;
}

function dot(a: Float64Array, aStart: number, b: Float64Array, bStart: number, length: number): number {
  let sum = 0;
  for (let k = 0; k < length; k++) sum += a[aStart + k] * b[bStart + k];
  return sum;
}

/** matrix := factor·factorᵀ, both packed lower triangles. */
export function multiplyByOwnTranspose(factor: Float64Array, n: number, matrix: Float64Array): void {
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      matrix[triangleLength(i) + j] = dot(factor, triangleLength(i), factor, triangleLength(j), j + 1);
    }
  }
}
