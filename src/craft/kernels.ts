/**
 * Dense kernels on plain typed arrays. They compute several rows at once so that each number loaded is used more than
 * once; the loops are written out because that is what makes V8 keep the sums in registers.
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

/**
 * The Cholesky factor of a symmetric positive definite matrix.
 * @param matrix packed lower triangle of the n × n matrix
 * @param factor receives the packed lower triangle L with L·Lᵀ = matrix; its content is undefined on failure
 * @returns false where the matrix is not numerically positive definite
 */
export function cholesky(matrix: Float64Array, n: number, factor: Float64Array): boolean {
  for (let i = 0; i < n; i += 2) {
    const row0 = triangleLength(i);
    const row1 = row0 + i + 1;
    const paired = i + 1 < n;
    // Two rows against four earlier ones at a time.
    let j = 0;
    for (; j + 4 <= i && paired; j += 4) {
      const c0 = triangleLength(j);
      const c1 = c0 + j + 1;
      const c2 = c1 + j + 2;
      const c3 = c2 + j + 3;
      let s00 = matrix[row0 + j];
      let s01 = matrix[row0 + j + 1];
      let s02 = matrix[row0 + j + 2];
      let s03 = matrix[row0 + j + 3];
      let s10 = matrix[row1 + j];
      let s11 = matrix[row1 + j + 1];
      let s12 = matrix[row1 + j + 2];
      let s13 = matrix[row1 + j + 3];
      for (let k = 0; k < j; k++) {
        const a0 = factor[row0 + k];
        const a1 = factor[row1 + k];
        const b0 = factor[c0 + k];
        const b1 = factor[c1 + k];
        const b2 = factor[c2 + k];
        const b3 = factor[c3 + k];
        s00 -= a0 * b0;
        s01 -= a0 * b1;
        s02 -= a0 * b2;
        s03 -= a0 * b3;
        s10 -= a1 * b0;
        s11 -= a1 * b1;
        s12 -= a1 * b2;
        s13 -= a1 * b3;
      }
      const d0 = factor[c0 + j];
      const l10 = factor[c1 + j];
      const d1 = factor[c1 + j + 1];
      const l20 = factor[c2 + j];
      const l21 = factor[c2 + j + 1];
      const d2 = factor[c2 + j + 2];
      const l30 = factor[c3 + j];
      const l31 = factor[c3 + j + 1];
      const l32 = factor[c3 + j + 2];
      const d3 = factor[c3 + j + 3];
      s00 /= d0;
      s01 = (s01 - s00 * l10) / d1;
      s02 = (s02 - s00 * l20 - s01 * l21) / d2;
      s03 = (s03 - s00 * l30 - s01 * l31 - s02 * l32) / d3;
      s10 /= d0;
      s11 = (s11 - s10 * l10) / d1;
      s12 = (s12 - s10 * l20 - s11 * l21) / d2;
      s13 = (s13 - s10 * l30 - s11 * l31 - s12 * l32) / d3;
      factor[row0 + j] = s00;
      factor[row0 + j + 1] = s01;
      factor[row0 + j + 2] = s02;
      factor[row0 + j + 3] = s03;
      factor[row1 + j] = s10;
      factor[row1 + j + 1] = s11;
      factor[row1 + j + 2] = s12;
      factor[row1 + j + 3] = s13;
    }
    for (let row = i; row < Math.min(i + 2, n); row++) {
      const start = triangleLength(row);
      for (let column = j; column <= row; column++) {
        const other = triangleLength(column);
        const rest = matrix[start + column] - dot(factor, start, factor, other, column);
        if (column < row) {
          factor[start + column] = rest / factor[other + column];
        } else {
          if (!(rest > 0 && rest < Infinity)) return false;
          factor[start + column] = Math.sqrt(rest);
        }
      }
    }
  }
  return true;
}

/** matrix := factor·factorᵀ, both packed lower triangles. */
export function multiplyByOwnTranspose(factor: Float64Array, n: number, matrix: Float64Array): void {
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      matrix[triangleLength(i) + j] = dot(factor, triangleLength(i), factor, triangleLength(j), j + 1);
    }
  }
}

/**
 * output[p, i] := Σ_{j <= i} factor[i, j] · vectors[p, j]
 * @param factor packed lower triangle, n × n
 * @param vectors [count, n]
 * @param output [count, n]
 */
export function multiplyTriangle(
  factor: Float64Array,
  n: number,
  vectors: Float64Array,
  count: number,
  output: Float64Array,
): void {
  for (let i = 0; i < n; i += 2) {
    const row0 = triangleLength(i);
    const row1 = row0 + i + 1;
    const paired = i + 1 < n;
    const length = i + 1;
    let p = 0;
    for (; p + 4 <= count && paired; p += 4) {
      const v0 = p * n;
      const v1 = v0 + n;
      const v2 = v1 + n;
      const v3 = v2 + n;
      let s00 = 0;
      let s01 = 0;
      let s02 = 0;
      let s03 = 0;
      let s10 = 0;
      let s11 = 0;
      let s12 = 0;
      let s13 = 0;
      for (let k = 0; k < length; k++) {
        const a0 = factor[row0 + k];
        const a1 = factor[row1 + k];
        const b0 = vectors[v0 + k];
        const b1 = vectors[v1 + k];
        const b2 = vectors[v2 + k];
        const b3 = vectors[v3 + k];
        s00 += a0 * b0;
        s01 += a0 * b1;
        s02 += a0 * b2;
        s03 += a0 * b3;
        s10 += a1 * b0;
        s11 += a1 * b1;
        s12 += a1 * b2;
        s13 += a1 * b3;
      }
      const diagonal = factor[row1 + length];
      output[v0 + i] = s00;
      output[v1 + i] = s01;
      output[v2 + i] = s02;
      output[v3 + i] = s03;
      output[v0 + i + 1] = s10 + diagonal * vectors[v0 + length];
      output[v1 + i + 1] = s11 + diagonal * vectors[v1 + length];
      output[v2 + i + 1] = s12 + diagonal * vectors[v2 + length];
      output[v3 + i + 1] = s13 + diagonal * vectors[v3 + length];
    }
    for (; p < count; p++) {
      output[p * n + i] = dot(factor, row0, vectors, p * n, length);
      if (paired) output[p * n + i + 1] = dot(factor, row1, vectors, p * n, length + 1);
    }
  }
}

/**
 * matrix := decay·matrix + Σ_k weights[k] · columns[:, k] · columns[:, k]ᵀ on the packed lower triangle.
 * @param columns [n, rank], one row per coordinate
 */
export function rankUpdate(
  matrix: Float64Array,
  n: number,
  decay: number,
  columns: Float64Array,
  weights: Float64Array,
): void {
  const rank = weights.length;
  const weighted = new Float64Array(2 * rank);
  for (let i = 0; i < n; i += 2) {
    const row0 = triangleLength(i);
    const row1 = row0 + i + 1;
    const paired = i + 1 < n;
    for (let k = 0; k < rank; k++) {
      weighted[k] = weights[k] * columns[i * rank + k];
      weighted[rank + k] = paired ? weights[k] * columns[(i + 1) * rank + k] : 0;
    }
    let j = 0;
    for (; j + 4 <= i + 1 && paired; j += 4) {
      const c0 = j * rank;
      const c1 = c0 + rank;
      const c2 = c1 + rank;
      const c3 = c2 + rank;
      let s00 = 0;
      let s01 = 0;
      let s02 = 0;
      let s03 = 0;
      let s10 = 0;
      let s11 = 0;
      let s12 = 0;
      let s13 = 0;
      for (let k = 0; k < rank; k++) {
        const a0 = weighted[k];
        const a1 = weighted[rank + k];
        const b0 = columns[c0 + k];
        const b1 = columns[c1 + k];
        const b2 = columns[c2 + k];
        const b3 = columns[c3 + k];
        s00 += a0 * b0;
        s01 += a0 * b1;
        s02 += a0 * b2;
        s03 += a0 * b3;
        s10 += a1 * b0;
        s11 += a1 * b1;
        s12 += a1 * b2;
        s13 += a1 * b3;
      }
      matrix[row0 + j] = decay * matrix[row0 + j] + s00;
      matrix[row0 + j + 1] = decay * matrix[row0 + j + 1] + s01;
      matrix[row0 + j + 2] = decay * matrix[row0 + j + 2] + s02;
      matrix[row0 + j + 3] = decay * matrix[row0 + j + 3] + s03;
      matrix[row1 + j] = decay * matrix[row1 + j] + s10;
      matrix[row1 + j + 1] = decay * matrix[row1 + j + 1] + s11;
      matrix[row1 + j + 2] = decay * matrix[row1 + j + 2] + s12;
      matrix[row1 + j + 3] = decay * matrix[row1 + j + 3] + s13;
    }
    for (let column = j; column <= i; column++) {
      matrix[row0 + column] = decay * matrix[row0 + column] + dot(weighted, 0, columns, column * rank, rank);
    }
    for (let column = j; paired && column <= i + 1; column++) {
      matrix[row1 + column] = decay * matrix[row1 + column] + dot(weighted, rank, columns, column * rank, rank);
    }
  }
}

/**
 * output[p, i] := offset[i] + Σ_k matrix[i, k] · vectors[p, k], summed in double precision.
 * @param matrix [rows, inner]
 * @param vectors [count, inner]
 * @param output [count, rows]
 */
export function affineRows(
  matrix: Float32Array,
  inner: number,
  offset: Float32Array,
  vectors: Float64Array,
  count: number,
  output: Float32Array,
): void {
  const rows = offset.length;
  for (let i = 0; i < rows; i++) {
    const row = i * inner;
    let p = 0;
    for (; p + 4 <= count; p += 4) {
      const v0 = p * inner;
      const v1 = v0 + inner;
      const v2 = v1 + inner;
      const v3 = v2 + inner;
      let s0 = offset[i];
      let s1 = s0;
      let s2 = s0;
      let s3 = s0;
      for (let k = 0; k < inner; k++) {
        const a = matrix[row + k];
        s0 += a * vectors[v0 + k];
        s1 += a * vectors[v1 + k];
        s2 += a * vectors[v2 + k];
        s3 += a * vectors[v3 + k];
      }
      output[p * rows + i] = s0;
      output[(p + 1) * rows + i] = s1;
      output[(p + 2) * rows + i] = s2;
      output[(p + 3) * rows + i] = s3;
    }
    for (; p < count; p++) {
      let sum = offset[i];
      for (let k = 0; k < inner; k++) sum += matrix[row + k] * vectors[p * inner + k];
      output[p * rows + i] = sum;
    }
  }
}
