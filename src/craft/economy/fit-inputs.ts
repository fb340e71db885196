import type { FitPart } from './head-grid.js';
import { type HeadInputs, inputWidthOf, readInputs } from './linear-head.js';
import {
  alongAxes,
  axisScales,
  type InputRows,
  onInputs,
  type PrincipalAxes,
  principalAxes,
  unitScale,
} from './principal-axes.js';

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

/** Inputs that are scaled together. */
interface Block {
  transforms: number[];
  axes: PrincipalAxes;
  /** What the inputs along the axes are multiplied by. */
  unit: number;
}

/** The inputs of a head along their principal axes, on which it is fitted, and the way back. */
export class FitInputs {
  private readonly blocks: Block[];

  /** @param rows those whose spread decides the axes, one at least */
  constructor(
    private readonly data: Pick<LabelledViews, 'inputs' | 'classCount' | 'views'>,
    private readonly part: FitPart,
    rows: Row[],
  ) {
    const transforms = [...data.views[0].keys()];
    const groups = part.transforms === 'apart' ? transforms.map((transform) => [transform]) : [transforms];
    this.blocks = groups.map((group) => {
      const axes = principalAxes(this.inputsOf(rows, group));
      return { transforms: group, axes, unit: unitScale(axes) };
    });
  }

  /** L, of one transform. */
  private get width(): number {
    const { inputs, classCount } = this.data;
    return this.part.labels === 'classes' ? classCount : inputWidthOf(inputs, classCount);
  }

  private inputsOf(rows: Row[], transforms: number[]): InputRows {
    const { width } = this;
    const { inputs, classCount, views } = this.data;
    const last = this.part.labels === 'classes' ? classCount : undefined;
    return {
      count: rows.length,
      width: width * transforms.length,
      read: (row, into) => {
        const { view, image } = rows[row];
        transforms.forEach((transform, index) => {
          readInputs(inputs, views[view][transform], image, classCount, into, index * width, last);
        });
      },
    };
  }

  /** K, the axes of all blocks. */
  get axisCount(): number {
    return this.blocks.reduce((sum, { axes }) => sum + axes.variances.length, 0);
  }

  /** Along the axes, in units of their mean deviation, with an input of 1 for the bias, [rows, K + 1]. */
  along(rows: Row[]): Float32Array {
    const width = this.axisCount + 1;
    const values = new Float32Array(rows.length * width);
    let first = 0;
    for (const { axes, transforms, unit } of this.blocks) {
      const inputs = this.inputsOf(rows, transforms);
      const row = new Float64Array(inputs.width);
      const coordinates = new Float64Array(axes.variances.length);
      for (let i = 0; i < rows.length; i++) {
        inputs.read(i, row);
        alongAxes(row, axes, coordinates);
        const at = i * width + first;
        for (let k = 0; k < coordinates.length; k++) values[at + k] = unit * coordinates[k];
      }
      first += coordinates.length;
    }
    for (let i = 0; i < rows.length; i++) values[i * width + width - 1] = 1;
    return values;
  }

  /** How much the axes of {@link along} count with some power, [K]. Blocks share the strength that holds a head back. */
  scales(power: number): Float64Array {
    const share = Math.sqrt(1 / this.blocks.length);
    return this.perAxis((axes) => axisScales(axes, power).map((scale) => scale * share));
  }

  /** Of the inputs of {@link along}, over the rows that decided the axes, [K]. */
  get variances(): Float64Array {
    return this.perAxis(({ variances }, unit) => variances.map((variance) => variance * unit * unit));
  }

  private perAxis(of: (axes: PrincipalAxes, unit: number) => Float64Array): Float64Array {
    const all = new Float64Array(this.axisCount);
    let first = 0;
    for (const { axes, unit } of this.blocks) {
      all.set(of(axes, unit), first);
      first += axes.variances.length;
    }
    return all;
  }

  /**
   * Adds a head on the inputs of {@link along} to one on the answers themselves.
   * @param parameters [K + 1, C], the bias last
   * @param weight [T·L, C]
   * @param bias [C]
   */
  addTo(weight: Float64Array, bias: Float64Array, parameters: Float64Array, share: number): void {
    const { inputs, classCount } = this.data;
    let first = 0;
    for (const { axes, transforms, unit } of this.blocks) {
      const last = first + axes.variances.length * classCount;
      const own = onInputs(parameters.subarray(first, last), axes, unit, classCount);
      const { width } = this;
      for (const [index, transform] of transforms.entries()) {
        const rows = own.weight.subarray(index * width * classCount, (index + 1) * width * classCount);
        if (this.part.labels === 'classes') centreColumns(rows, classCount);
        const at = transform * inputWidthOf(inputs, classCount) * classCount;
        for (let i = 0; i < rows.length; i++) weight[at + i] += share * rows[i];
      }
      for (let c = 0; c < classCount; c++) bias[c] += share * own.bias[c];
      first = last;
    }
    for (let c = 0; c < classCount; c++) bias[c] += share * parameters[first + c];
  }
}

/** Scores that are centred over the classes alone: the same weights for scores that are centred over all labels. */
function centreColumns(weight: Float64Array, classCount: number): void {
  for (let c = 0; c < classCount; c++) {
    let mean = 0;
    for (let j = 0; j < classCount; j++) mean += weight[j * classCount + c] / classCount;
    for (let j = 0; j < classCount; j++) weight[j * classCount + c] -= mean;
  }
}
