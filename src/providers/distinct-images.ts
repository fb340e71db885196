/**
 * Each of some images once, byte for byte, in the order of their first appearance.
 * @returns `rows`: for every image, which of the distinct ones it is
 */
export function distinctImages<Image extends { sha256: string }>(
  images: Image[],
): { distinct: Image[]; rows: number[] } {
  const rowOf = new Map<string, number>();
  const distinct: Image[] = [];
  const rows = images.map((image) => {
    const known = rowOf.get(image.sha256);
    if (known !== undefined) return known;
    rowOf.set(image.sha256, distinct.length);
    return distinct.push(image) - 1;
  });
  return { distinct, rows };
}

/** @param values [count, width] @returns the rows named [rows, width] */
export function pickRows(values: Float32Array, rows: number[], count: number): Float32Array<ArrayBuffer> {
  const width = values.length / count;
  const picked = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) picked.set(values.subarray(row * width, (row + 1) * width), i * width);
  return picked;
}
