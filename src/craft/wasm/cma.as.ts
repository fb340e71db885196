// AssemblyScript: compiled to WebAssembly with SIMD by scripts/generate-kernels.mjs. Pointers are byte offsets in linear
// memory. Numbers are float64. A lower triangle is packed by rows: entry (i, j), j <= i, lies at i(i + 1)/2 + j.
//
// Vectors run over results that do not depend on each other, so that each result is summed in the order in which a plain
// loop would sum it, and is the same bits.

@inline
function triangle(n: i32): usize {
  return (<usize>n * (<usize>n + 1)) << 2;
}

@inline
function at(base: usize, index: i32): usize {
  return base + (<usize>index << 3);
}

/**
 * out [n, count] := factor · vectors [n, count], one vector a column.
 * @param count a multiple of 4
 */
export function multiplyTriangle(factor: usize, n: i32, vectors: usize, count: i32, out: usize): void {
  const stride = <usize>count << 3;
  for (let i = 0; i < n; i += 2) {
    const row0 = factor + triangle(i);
    const paired = i + 1 < n;
    // Where there is no second row it is the first one again, and nothing of it is stored.
    const row1 = paired ? at(row0, i + 1) : row0;
    for (let p = 0; p < count; p += 4) {
      let s00 = f64x2.splat(0);
      let s01 = f64x2.splat(0);
      let s10 = f64x2.splat(0);
      let s11 = f64x2.splat(0);
      let column = at(vectors, p);
      for (let k = 0; k <= i; k++) {
        const a0 = v128.load64_splat(at(row0, k));
        const a1 = v128.load64_splat(at(row1, k));
        const b0 = v128.load(column);
        const b1 = v128.load(column, 16);
        s00 = f64x2.add(s00, f64x2.mul(a0, b0));
        s01 = f64x2.add(s01, f64x2.mul(a0, b1));
        s10 = f64x2.add(s10, f64x2.mul(a1, b0));
        s11 = f64x2.add(s11, f64x2.mul(a1, b1));
        column += stride;
      }
      const target = at(out + <usize>i * stride, p);
      v128.store(target, s00);
      v128.store(target, s01, 16);
      if (paired) {
        const diagonal = v128.load64_splat(at(row1, i + 1));
        v128.store(target + stride, f64x2.add(s10, f64x2.mul(diagonal, v128.load(column))));
        v128.store(target + stride, f64x2.add(s11, f64x2.mul(diagonal, v128.load(column, 16))), 16);
      }
    }
  }
}

/**
 * matrix := decay · matrix + Σ_k weights[k] · rows[k] · rows[k]ᵀ on a packed lower triangle.
 * @param rows [rank, n]
 * @param weighted room for 2 · rank numbers
 */
export function rankUpdate(
  matrix: usize,
  n: i32,
  decay: f64,
  rows: usize,
  rank: i32,
  weights: usize,
  weighted: usize,
): void {
  const stride = <usize>n << 3;
  const decays = f64x2.splat(decay);
  for (let i = 0; i < n; i += 2) {
    const row0 = matrix + triangle(i);
    const row1 = at(row0, i + 1);
    const paired = i + 1 < n;
    for (let k = 0; k < rank; k++) {
      const weight = load<f64>(at(weights, k));
      const own = at(rows + <usize>k * stride, i);
      store<f64>(at(weighted, 2 * k), weight * load<f64>(own));
      store<f64>(at(weighted, 2 * k + 1), paired ? weight * load<f64>(own, 8) : 0);
    }
    let j = 0;
    if (paired) {
      for (; j + 8 <= i + 1; j += 8) {
        let s00 = f64x2.splat(0);
        let s01 = f64x2.splat(0);
        let s02 = f64x2.splat(0);
        let s03 = f64x2.splat(0);
        let s10 = f64x2.splat(0);
        let s11 = f64x2.splat(0);
        let s12 = f64x2.splat(0);
        let s13 = f64x2.splat(0);
        let row = at(rows, j);
        for (let k = 0; k < rank; k++) {
          const a0 = v128.load64_splat(at(weighted, 2 * k));
          const a1 = v128.load64_splat(at(weighted, 2 * k + 1));
          const b0 = v128.load(row);
          const b1 = v128.load(row, 16);
          const b2 = v128.load(row, 32);
          const b3 = v128.load(row, 48);
          s00 = f64x2.add(s00, f64x2.mul(a0, b0));
          s01 = f64x2.add(s01, f64x2.mul(a0, b1));
          s02 = f64x2.add(s02, f64x2.mul(a0, b2));
          s03 = f64x2.add(s03, f64x2.mul(a0, b3));
          s10 = f64x2.add(s10, f64x2.mul(a1, b0));
          s11 = f64x2.add(s11, f64x2.mul(a1, b1));
          s12 = f64x2.add(s12, f64x2.mul(a1, b2));
          s13 = f64x2.add(s13, f64x2.mul(a1, b3));
          row += stride;
        }
        const m0 = at(row0, j);
        const m1 = at(row1, j);
        v128.store(m0, f64x2.add(f64x2.mul(decays, v128.load(m0)), s00));
        v128.store(m0, f64x2.add(f64x2.mul(decays, v128.load(m0, 16)), s01), 16);
        v128.store(m0, f64x2.add(f64x2.mul(decays, v128.load(m0, 32)), s02), 32);
        v128.store(m0, f64x2.add(f64x2.mul(decays, v128.load(m0, 48)), s03), 48);
        v128.store(m1, f64x2.add(f64x2.mul(decays, v128.load(m1)), s10));
        v128.store(m1, f64x2.add(f64x2.mul(decays, v128.load(m1, 16)), s11), 16);
        v128.store(m1, f64x2.add(f64x2.mul(decays, v128.load(m1, 32)), s12), 32);
        v128.store(m1, f64x2.add(f64x2.mul(decays, v128.load(m1, 48)), s13), 48);
      }
    }
    const end = paired ? i + 2 : i + 1;
    for (; j < end; j++) {
      let s0: f64 = 0;
      let s1: f64 = 0;
      let other = at(rows, j);
      for (let k = 0; k < rank; k++) {
        const b = load<f64>(other);
        s0 += load<f64>(at(weighted, 2 * k)) * b;
        s1 += load<f64>(at(weighted, 2 * k + 1)) * b;
        other += stride;
      }
      if (j <= i) store<f64>(at(row0, j), decay * load<f64>(at(row0, j)) + s0);
      if (paired) store<f64>(at(row1, j), decay * load<f64>(at(row1, j)) + s1);
    }
  }
}

/** Where column k of a lower triangle packed by columns would begin if it had the rows above its diagonal, too. */
@inline
function columnOf(columns: usize, n: i32, k: i32): usize {
  return columns + ((<usize>k * <usize>(2 * n - k - 1)) << 2);
}

/** Entry (row, column) from all of the columns before it, whose products are summed before they are subtracted. */
@inline
function remainder(matrix: usize, columns: usize, n: i32, row: i32, column: i32): f64 {
  let sum: f64 = 0;
  for (let k = 0; k < column; k++) {
    const start = columnOf(columns, n, k);
    sum += load<f64>(at(start, row)) * load<f64>(at(start, column));
  }
  return load<f64>(at(matrix + triangle(row), column)) - sum;
}

@inline
function pairFrom(matrix: usize, row: i32, column: i32): v128 {
  const lower = at(matrix + triangle(row), column);
  return f64x2.replace_lane(v128.load64_splat(lower), 1, load<f64>(at(matrix + triangle(row + 1), column)));
}

/**
 * The Cholesky factor of a symmetric positive definite matrix, both packed lower triangles. Four columns at a time, each
 * of them for pairs of rows.
 * @param columns room for a packed lower triangle: the factor by columns
 * @returns false where the matrix is not numerically positive definite; `factor` is then as it was
 */
export function cholesky(matrix: usize, n: i32, columns: usize, factor: usize): bool {
  const pairs = n & ~1;
  for (let j = 0; j < n; j += 4) {
    const end = min(j + 4, n);
    for (let row = j; row < end; row++) {
      for (let column = j; column <= row; column++) {
        const rest = remainder(matrix, columns, n, row, column);
        const own = columnOf(columns, n, column);
        if (column < row) {
          store<f64>(at(own, row), rest / load<f64>(at(own, column)));
        } else {
          if (!(rest > 0 && rest < Infinity)) return false;
          store<f64>(at(own, row), sqrt<f64>(rest));
        }
      }
    }
    if (end === n) break;
    const c0 = columnOf(columns, n, j);
    const c1 = columnOf(columns, n, j + 1);
    const c2 = columnOf(columns, n, j + 2);
    const c3 = columnOf(columns, n, j + 3);
    const d0 = v128.load64_splat(at(c0, j));
    const d1 = v128.load64_splat(at(c1, j + 1));
    const d2 = v128.load64_splat(at(c2, j + 2));
    const d3 = v128.load64_splat(at(c3, j + 3));
    const l10 = v128.load64_splat(at(c0, j + 1));
    const l20 = v128.load64_splat(at(c0, j + 2));
    const l30 = v128.load64_splat(at(c0, j + 3));
    const l21 = v128.load64_splat(at(c1, j + 2));
    const l31 = v128.load64_splat(at(c1, j + 3));
    const l32 = v128.load64_splat(at(c2, j + 3));
    for (let row = j + 4; row < pairs; row += 4) {
      // The last block may have two rows; the other two are then computed beside it and not stored.
      const whole = row + 4 <= pairs;
      const second = whole ? row + 2 : row;
      let s00 = pairFrom(matrix, row, j);
      let s01 = pairFrom(matrix, row, j + 1);
      let s02 = pairFrom(matrix, row, j + 2);
      let s03 = pairFrom(matrix, row, j + 3);
      let s10 = pairFrom(matrix, second, j);
      let s11 = pairFrom(matrix, second, j + 1);
      let s12 = pairFrom(matrix, second, j + 2);
      let s13 = pairFrom(matrix, second, j + 3);
      let start = columns;
      for (let k = 0; k < j; k++) {
        const a0 = v128.load(at(start, row));
        const a1 = v128.load(at(start, second));
        const b0 = v128.load64_splat(at(start, j));
        const b1 = v128.load64_splat(at(start, j), 8);
        const b2 = v128.load64_splat(at(start, j), 16);
        const b3 = v128.load64_splat(at(start, j), 24);
        s00 = f64x2.sub(s00, f64x2.mul(a0, b0));
        s01 = f64x2.sub(s01, f64x2.mul(a0, b1));
        s02 = f64x2.sub(s02, f64x2.mul(a0, b2));
        s03 = f64x2.sub(s03, f64x2.mul(a0, b3));
        s10 = f64x2.sub(s10, f64x2.mul(a1, b0));
        s11 = f64x2.sub(s11, f64x2.mul(a1, b1));
        s12 = f64x2.sub(s12, f64x2.mul(a1, b2));
        s13 = f64x2.sub(s13, f64x2.mul(a1, b3));
        start += <usize>(n - k - 1) << 3;
      }
      s00 = f64x2.div(s00, d0);
      s01 = f64x2.div(f64x2.sub(s01, f64x2.mul(s00, l10)), d1);
      s02 = f64x2.div(f64x2.sub(f64x2.sub(s02, f64x2.mul(s00, l20)), f64x2.mul(s01, l21)), d2);
      s03 = f64x2.sub(f64x2.sub(s03, f64x2.mul(s00, l30)), f64x2.mul(s01, l31));
      s03 = f64x2.div(f64x2.sub(s03, f64x2.mul(s02, l32)), d3);
      v128.store(at(c0, row), s00);
      v128.store(at(c1, row), s01);
      v128.store(at(c2, row), s02);
      v128.store(at(c3, row), s03);
      if (whole) {
        s10 = f64x2.div(s10, d0);
        s11 = f64x2.div(f64x2.sub(s11, f64x2.mul(s10, l10)), d1);
        s12 = f64x2.div(f64x2.sub(f64x2.sub(s12, f64x2.mul(s10, l20)), f64x2.mul(s11, l21)), d2);
        s13 = f64x2.sub(f64x2.sub(s13, f64x2.mul(s10, l30)), f64x2.mul(s11, l31));
        s13 = f64x2.div(f64x2.sub(s13, f64x2.mul(s12, l32)), d3);
        v128.store(at(c0, second), s10);
        v128.store(at(c1, second), s11);
        v128.store(at(c2, second), s12);
        v128.store(at(c3, second), s13);
      }
    }
    if (pairs < n) {
      for (let column = j; column < end; column++) {
        const own = columnOf(columns, n, column);
        store<f64>(at(own, pairs), remainder(matrix, columns, n, pairs, column) / load<f64>(at(own, column)));
      }
    }
  }
  let target = factor;
  for (let row = 0; row < n; row++) {
    let source = at(columns, row);
    for (let column = 0; column <= row; column++) {
      store<f64>(target, load<f64>(source));
      target += 8;
      source += <usize>(n - column - 1) << 3;
    }
  }
  return true;
}
