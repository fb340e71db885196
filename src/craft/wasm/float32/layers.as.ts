// What the layers of the refinement head do beside their matrix products.

import { addRow } from './rows.as';

/** Adds a bias [columns] to each row of a matrix and cuts off what is negative then; NaN stays. */
export function addBiasAndRectify(matrix: usize, bias: usize, rows: i32, columns: i32): void {
  const zero = f32x4.splat(0);
  const whole = columns & ~3;
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < whole; j += 4) {
      const at = <usize>j << 2;
      v128.store(matrix + at, f32x4.pmax(f32x4.add(v128.load(matrix + at), v128.load(bias + at)), zero));
    }
    for (let j = whole; j < columns; j++) {
      const at = <usize>j << 2;
      const x = load<f32>(matrix + at) + load<f32>(bias + at);
      store<f32>(matrix + at, x < 0 ? 0 : x);
    }
    matrix += <usize>columns << 2;
  }
}

/** out = matrix [rows, columns] with a bias [columns] added to each row */
export function addBias(matrix: usize, bias: usize, rows: i32, columns: i32, out: usize): void {
  const rowBytes = <usize>columns << 2;
  memory.copy(out, matrix, <usize>rows * rowBytes);
  for (let i = 0; i < rows; i++) {
    addRow(out, bias, columns);
    out += rowBytes;
  }
}

/** The way back through {@link addBiasAndRectify}: zeroes the gradient where nothing was let through. */
export function maskRectified(gradient: usize, activation: usize, length: i32): void {
  const zero = f32x4.splat(0);
  const whole = length & ~3;
  for (let i = 0; i < whole; i += 4) {
    const at = <usize>i << 2;
    const open = f32x4.gt(v128.load(activation + at), zero);
    v128.store(gradient + at, v128.and(v128.load(gradient + at), open));
  }
  for (let i = whole; i < length; i++) {
    const at = <usize>i << 2;
    if (!(load<f32>(activation + at) > 0)) store<f32>(gradient + at, 0);
  }
}

/** out [columns] = the sum of the rows, in order */
export function sumRows(matrix: usize, rows: i32, columns: i32, out: usize): void {
  memory.fill(out, 0, <usize>columns << 2);
  for (let i = 0; i < rows; i++) {
    addRow(out, matrix, columns);
    matrix += <usize>columns << 2;
  }
}
