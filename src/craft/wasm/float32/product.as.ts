// Matrix products by the scheme of Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", 2008): blocks
// of both matrices are copied into panels that the inner loop reads from one end to the other, whichever way the
// matrices lie.

/** A tile of the result: as many accumulators as 16 vector registers leave room for. */
const TILE_ROWS = 4;
const TILE_COLUMNS = 8;
/** Blocks: an 8-column panel of b stays in the first-level cache, the block of a in the second-level cache. */
const BLOCK_ROWS = 128;
const BLOCK_COLUMNS = 512;
const BLOCK_INNER = 256;

let panelsOfA: usize = 0;
let panelsOfB: usize = 0;
let edge: usize = 0;

/** Bytes that {@link useScratch} is to be given. */
export function scratchBytes(): i32 {
  return (BLOCK_ROWS * BLOCK_INNER + BLOCK_COLUMNS * BLOCK_INNER + TILE_ROWS * TILE_COLUMNS) << 2;
}

/** Where products keep their panels. */
export function useScratch(offset: usize): void {
  panelsOfA = offset;
  panelsOfB = panelsOfA + ((BLOCK_ROWS * BLOCK_INNER) << 2);
  edge = panelsOfB + ((BLOCK_COLUMNS * BLOCK_INNER) << 2);
}

/**
 * out [m, n] = (accumulate ? out : 0) + a · b, with a [m, k], or stored as [k, m] where it is transposed, and b [k, n], or
 * stored as [n, k]. Each element is summed over k in order within blocks of 256, and these sums in order: what a row comes to
 * depends on no other row.
 */
export function product(
  a: usize,
  transposedA: bool,
  b: usize,
  transposedB: bool,
  out: usize,
  m: i32,
  k: i32,
  n: i32,
  accumulate: bool,
): void {
  const alongA: usize = transposedA ? <usize>m << 2 : 4;
  const acrossA: usize = transposedA ? 4 : <usize>k << 2;
  const alongB: usize = transposedB ? 4 : <usize>n << 2;
  const acrossB: usize = transposedB ? <usize>k << 2 : 4;
  const outStride = <usize>n << 2;
  if (k == 0 && !accumulate) memory.fill(out, 0, <usize>m * outStride);
  for (let column = 0; column < n; column += BLOCK_COLUMNS) {
    const columns = min(BLOCK_COLUMNS, n - column);
    for (let inner = 0; inner < k; inner += BLOCK_INNER) {
      const length = min(BLOCK_INNER, k - inner);
      pack(b + <usize>inner * alongB + <usize>column * acrossB, alongB, acrossB, length, columns, 2, panelsOfB);
      for (let row = 0; row < m; row += BLOCK_ROWS) {
        const rows = min(BLOCK_ROWS, m - row);
        pack(a + <usize>inner * alongA + <usize>row * acrossA, alongA, acrossA, length, rows, 1, panelsOfA);
        const target = out + <usize>row * outStride + (<usize>column << 2);
        block(target, outStride, rows, columns, (length + 1) & ~1, accumulate || inner > 0);
      }
    }
  }
}

/** One block of a times one block of b, both in panels. */
function block(out: usize, outStride: usize, rows: i32, columns: i32, length: i32, accumulate: bool): void {
  const panelA = <usize>(length * TILE_ROWS) << 2;
  const panelB = <usize>(length * TILE_COLUMNS) << 2;
  let b = panelsOfB;
  for (let j = 0; j < columns; j += TILE_COLUMNS) {
    let a = panelsOfA;
    for (let i = 0; i < rows; i += TILE_ROWS) {
      const target = out + <usize>i * outStride + (<usize>j << 2);
      if (i + TILE_ROWS <= rows && j + TILE_COLUMNS <= columns) {
        tile(a, b, length, target, outStride, accumulate);
      } else {
        tile(a, b, length, edge, TILE_COLUMNS << 2, false);
        copyEdge(target, outStride, min(TILE_ROWS, rows - i), min(TILE_COLUMNS, columns - j), accumulate);
      }
      a += panelA;
    }
    b += panelB;
  }
}

function copyEdge(out: usize, outStride: usize, rows: i32, columns: i32, accumulate: bool): void {
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const at = out + <usize>i * outStride + (<usize>j << 2);
      const value = load<f32>(edge + (<usize>(i * TILE_COLUMNS + j) << 2));
      store<f32>(at, accumulate ? load<f32>(at) + value : value);
    }
  }
}

/**
 * out [4, 8] = (accumulate ? out : 0) + the product of two panels of an even length. Exported so that it stays a function of
 * its own: engines optimise functions when they are entered, not while they run.
 */
export function tile(a: usize, b: usize, length: i32, out: usize, outStride: usize, accumulate: bool): void {
  let s00 = f32x4.splat(0);
  let s01 = f32x4.splat(0);
  let s10 = f32x4.splat(0);
  let s11 = f32x4.splat(0);
  let s20 = f32x4.splat(0);
  let s21 = f32x4.splat(0);
  let s30 = f32x4.splat(0);
  let s31 = f32x4.splat(0);
  for (let p = 0; p < length; p += 2) {
    let b0 = v128.load(b);
    let b1 = v128.load(b, 16);
    let x = v128.load32_splat(a);
    s00 = f32x4.add(s00, f32x4.mul(x, b0));
    s01 = f32x4.add(s01, f32x4.mul(x, b1));
    x = v128.load32_splat(a, 4);
    s10 = f32x4.add(s10, f32x4.mul(x, b0));
    s11 = f32x4.add(s11, f32x4.mul(x, b1));
    x = v128.load32_splat(a, 8);
    s20 = f32x4.add(s20, f32x4.mul(x, b0));
    s21 = f32x4.add(s21, f32x4.mul(x, b1));
    x = v128.load32_splat(a, 12);
    s30 = f32x4.add(s30, f32x4.mul(x, b0));
    s31 = f32x4.add(s31, f32x4.mul(x, b1));
    b0 = v128.load(b, 32);
    b1 = v128.load(b, 48);
    x = v128.load32_splat(a, 16);
    s00 = f32x4.add(s00, f32x4.mul(x, b0));
    s01 = f32x4.add(s01, f32x4.mul(x, b1));
    x = v128.load32_splat(a, 20);
    s10 = f32x4.add(s10, f32x4.mul(x, b0));
    s11 = f32x4.add(s11, f32x4.mul(x, b1));
    x = v128.load32_splat(a, 24);
    s20 = f32x4.add(s20, f32x4.mul(x, b0));
    s21 = f32x4.add(s21, f32x4.mul(x, b1));
    x = v128.load32_splat(a, 28);
    s30 = f32x4.add(s30, f32x4.mul(x, b0));
    s31 = f32x4.add(s31, f32x4.mul(x, b1));
    a += 32;
    b += 64;
  }
  putRow(out, s00, s01, accumulate);
  putRow(out + outStride, s10, s11, accumulate);
  putRow(out + 2 * outStride, s20, s21, accumulate);
  putRow(out + 3 * outStride, s30, s31, accumulate);
}

@inline
function putRow(out: usize, left: v128, right: v128, accumulate: bool): void {
  if (accumulate) {
    left = f32x4.add(v128.load(out), left);
    right = f32x4.add(v128.load(out, 16), right);
  }
  v128.store(out, left);
  v128.store(out, right, 16);
}

/**
 * Copies `count` lines of `length` numbers into panels of 4·groups lines; within a panel the numbers of all its lines at one
 * position lie side by side. What is missing in the last panel, and an odd length's last position, is filled with zeros.
 * @param along bytes from one number of a line to the next
 * @param across bytes from one line to the next
 */
function pack(
  source: usize,
  along: usize,
  across: usize,
  length: i32,
  count: i32,
  groups: i32,
  target: usize,
): void {
  const positionBytes = <usize>groups << 4;
  const evenLength = (length + 1) & ~1;
  const panelBytes = <usize>evenLength * positionBytes;
  for (let line = 0; line < count; line += groups << 2) {
    for (let group = 0; group < groups; group++) {
      const first = line + (group << 2);
      const lines = max(0, min(4, count - first));
      const from = source + <usize>first * across;
      const to = target + (<usize>group << 4);
      if (lines == 4) {
        if (across == 4) packBeside(from, along, length, to, positionBytes);
        else packAcross(from, across, length, to, positionBytes);
      } else {
        packSome(from, along, across, length, lines, to, positionBytes);
      }
      if (evenLength > length) v128.store(to + <usize>length * positionBytes, f32x4.splat(0));
    }
    target += panelBytes;
  }
}

/** Four lines that lie side by side already. */
function packBeside(source: usize, along: usize, length: i32, target: usize, positionBytes: usize): void {
  for (let p = 0; p < length; p++) {
    v128.store(target, v128.load(source));
    source += along;
    target += positionBytes;
  }
}

/** Four lines whose numbers are contiguous: transposed four by four. */
function packAcross(source: usize, across: usize, length: i32, target: usize, positionBytes: usize): void {
  const second = source + across;
  const third = second + across;
  const fourth = third + across;
  let p = 0;
  for (; p + 4 <= length; p += 4) {
    const at = <usize>p << 2;
    const r0 = v128.load(source + at);
    const r1 = v128.load(second + at);
    const r2 = v128.load(third + at);
    const r3 = v128.load(fourth + at);
    const t0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
    const t1 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
    const t2 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    const t3 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    v128.store(target, v128.shuffle<f32>(t0, t1, 0, 1, 4, 5));
    target += positionBytes;
    v128.store(target, v128.shuffle<f32>(t0, t1, 2, 3, 6, 7));
    target += positionBytes;
    v128.store(target, v128.shuffle<f32>(t2, t3, 0, 1, 4, 5));
    target += positionBytes;
    v128.store(target, v128.shuffle<f32>(t2, t3, 2, 3, 6, 7));
    target += positionBytes;
  }
  packSome(source + (<usize>p << 2), 4, across, length - p, 4, target, positionBytes);
}

function packSome(
  source: usize,
  along: usize,
  across: usize,
  length: i32,
  lines: i32,
  target: usize,
  positionBytes: usize,
): void {
  for (let p = 0; p < length; p++) {
    for (let line = 0; line < 4; line++) {
      store<f32>(target + (<usize>line << 2), line < lines ? load<f32>(source + <usize>line * across) : 0);
    }
    source += along;
    target += positionBytes;
  }
}
