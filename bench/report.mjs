// How every benchmark tells its figures: a table on the console, and with --json FILE the rows for `npm run bench`, which
// makes docs/performance.md of them.
import { writeFileSync } from 'node:fs';

/**
 * @typedef {object} Row
 * @property {string} name what was measured
 * @property {number} value the median of its repeats
 * @property {string} unit such as "ms" or "req/s"
 * @property {string} [reference] what it is divided by, in words; absent where there is nothing to divide by
 * @property {number} [referenceValue] in the same unit
 * @property {string} [target] such as "≤ 1.5"; of the ratio, or of the value where there is no reference or it has a unit
 * @property {boolean} [met]
 */

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Three significant digits. */
export function figure(value) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en') : Number(value.toPrecision(3)).toString();
}

/** @returns {[string, ...string[]][]} name, value, reference, ratio, target of each row, for people */
export function cells(rows) {
  return rows.map((row) => [
    row.name,
    `${figure(row.value)} ${row.unit}`,
    row.reference === undefined ? '' : `${figure(row.referenceValue)} ${row.unit} (${row.reference})`,
    row.reference === undefined ? '' : figure(row.value / row.referenceValue),
    row.target === undefined ? '' : `${row.target} ${row.met ? '✓' : '✗'}`,
  ]);
}

/**
 * @param {string} title
 * @param {Row[]} rows
 * @param {string | undefined} json file for the rows
 */
export function report(title, rows, json) {
  const table = [['', 'median', 'reference', 'ratio', 'target'], ...cells(rows)];
  const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)));
  console.log(`\n${title}`);
  for (const row of table)
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column]))
        .join('  ')
        .trimEnd(),
    );
  if (json) writeFileSync(json, `${JSON.stringify({ title, rows }, null, 2)}\n`);
}
