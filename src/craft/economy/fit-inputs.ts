import { type HeadInputs, inputWidthOf, readInputs } from './head-inputs.js';
import type { HeadSum } from './head-sum.js';
import type { InputRows } from './principal-axes.js';

/** What the black box answered to views of the same images, to each in several transforms. */
export interface LabelledViews {
  inputs: HeadInputs;
  classCount: number;
  /** Class of each image, [N]. */
  labels: Int32Array;
  /** Of each view, and of each of its transforms, the answers to all images, [N, answer width]. */
  views: Float32Array[][];
}

/** A view of an image. */
export interface Row {
  view: number;
  image: number;
}

/** How the inputs of several transforms become those of one row: side by side, or their mean. */
export type Combined = 'joint' | 'mean';

/** What a head is fitted to in place of the inputs themselves, and the way back. */
export interface FitInputs {
  /** K */
  readonly count: number;
  /** With an input of 1 for the bias, [rows, K + 1]. */
  of(rows: Row[]): Float32Array;
  /** How much each counts, [K]. */
  readonly scales: Float64Array;
  /**
   * Adds a head on these inputs to a sum of heads.
   * @param parameters [K + 1, C], the bias last
   */
  addTo(sum: HeadSum, parameters: Float64Array): void;
}

/** The inputs of some rows, of some transforms. */
export function inputRows(data: LabelledViews, rows: Row[], transforms: number[], combined: Combined): InputRows {
  const { inputs, classCount, views } = data;
  const width = inputWidthOf(inputs, classCount);
  const share = 1 / transforms.length;
  const one = new Float64Array(width);
  return {
    count: rows.length,
    width: combined === 'joint' ? width * transforms.length : width,
    read: (row, into) => {
      const { view, image } = rows[row];
      if (combined === 'joint' || transforms.length === 1) {
        for (const [index, transform] of transforms.entries()) {
          readInputs(inputs, views[view][transform], image, classCount, into, index * width);
        }
        return;
      }
      into.fill(0);
      for (const transform of transforms) {
        readInputs(inputs, views[view][transform], image, classCount, one, 0);
        for (let j = 0; j < width; j++) into[j] += share * one[j];
      }
    },
  };
}
