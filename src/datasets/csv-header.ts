import { parse } from 'csv-parse/sync';
import { IMAGE_COLUMNS, LABEL_COLUMNS } from './listed-image.js';

/** Where a CSV has what, by its first line. */
export interface CsvHeader {
  delimiter: string;
  /** As written. */
  names: string[];
  /** Index of each column; -1 where there is none. */
  image: number;
  label: number;
  split: number;
  description: number;
}

const DELIMITERS = [',', ';', '\t'];

/** Reads the first line of a CSV, with the delimiter under which most of its columns have a known name. */
export function readCsvHeader(line: string): CsvHeader {
  const readings = DELIMITERS.map((delimiter) => readWith(delimiter, line));
  return readings.reduce((best, reading) => (rank(reading) > rank(best) ? reading : best));
}

function readWith(delimiter: string, line: string): CsvHeader {
  const names = namesIn(delimiter, line);
  const plain = names.map((name) =>
    name
      .trim()
      .toLowerCase()
      .replace(/[\s-]+/g, '_'),
  );
  const first = (wanted: string[]) => wanted.map((name) => plain.indexOf(name)).find((index) => index >= 0) ?? -1;
  return {
    delimiter,
    names,
    image: first(IMAGE_COLUMNS),
    label: first(LABEL_COLUMNS),
    split: first(['split']),
    description: first(['description']),
  };
}

function namesIn(delimiter: string, line: string): string[] {
  try {
    return (parse(line, { bom: true, delimiter, to: 1, skip_empty_lines: true }) as string[][])[0] ?? [];
  } catch {
    return [];
  }
}

function rank({ image, label, names }: CsvHeader): number {
  return Number(image >= 0) * 2 + Number(label >= 0) * 2 + Number(names.length > 1);
}
