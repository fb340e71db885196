import { type FitInputs, inputRows, type LabelledViews, type Row } from './fit-inputs.js';
import type { LinearPart } from './head-grid.js';
import { inputWidthOf } from './head-inputs.js';
import type { HeadSum } from './head-sum.js';
import type { InputAxes } from './input-axes.js';
import { alongAxes, axisScales, onInputs, type PrincipalAxes, unitScale } from './principal-axes.js';

/** The inputs of a linear head along their principal axes, in units of their mean deviation. */
export class LinearInputs implements FitInputs {
  readonly count: number;
  readonly scales: Float64Array;
  private readonly transforms: number[];
  private readonly axes: PrincipalAxes;
  /** What the inputs along the axes are multiplied by. */
  private readonly unit: number;

  /** @param views the first so many of them decide the axes */
  constructor(
    private readonly data: LabelledViews,
    part: LinearPart,
    views: number,
    axes: InputAxes,
  ) {
    this.transforms = part.transforms === 'first' ? [0] : [...data.views[0].keys()];
    this.axes = axes.of(views, this.transforms, 'joint');
    this.unit = unitScale(this.axes);
    this.count = this.axes.variances.length;
    this.scales = axisScales(this.axes, part.power);
  }

  of(rows: Row[]): Float32Array {
    const { axes, unit, count } = this;
    const inputs = inputRows(this.data, rows, this.transforms, 'joint');
    const values = new Float32Array(rows.length * (count + 1));
    const row = new Float64Array(inputs.width);
    const coordinates = new Float64Array(count);
    for (let i = 0, at = 0; i < rows.length; i++) {
      inputs.read(i, row);
      alongAxes(row, axes, coordinates);
      for (let k = 0; k < count; k++) values[at++] = unit * coordinates[k];
      values[at++] = 1;
    }
    return values;
  }

  addTo(sum: HeadSum, parameters: Float64Array): void {
    const { classCount, inputs } = this.data;
    const last = this.count * classCount;
    const own = onInputs(parameters.subarray(0, last), this.axes, this.unit, classCount);
    const block = inputWidthOf(inputs, classCount) * classCount;
    for (const [index, transform] of this.transforms.entries()) {
      sum.addWeight(transform * block, own.weight.subarray(index * block, (index + 1) * block));
    }
    sum.addBias(own.bias);
    sum.addBias(parameters.subarray(last));
  }
}
