import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import type { LabelledViews, Row } from '../../../../src/craft/economy/fit-inputs.js';
import type { KernelPart } from '../../../../src/craft/economy/head-grid.js';
import { answerWidthOf } from '../../../../src/craft/economy/head-inputs.js';

/** The inputs of an image in some transforms, as they are defined: scores less their mean, or an embedding. */
function plainInputs({ inputs, classCount, views }: LabelledViews, { view, image }: Row, transforms: number[]) {
  const width = answerWidthOf(inputs, classCount);
  const each = transforms.map((transform) => {
    const row = [...views[view][transform].subarray(image * width, (image + 1) * width)];
    if (inputs.kind === 'embedding') return row.slice(classCount);
    const mean = row.reduce((sum, value) => sum + value, 0) / width;
    return row.map((value) => value - mean);
  });
  return each[0].map((_, j) => each.reduce((sum, row) => sum + row[j], 0) / each.length);
}

/** Likeness of rows by 1 / (1 + 2·dᵀΣ⁻ᵖd / tr(Σ¹⁻ᵖ)), with Σ the covariance of the rows that decide: by matrices, no axes. */
export function plainKernel(data: LabelledViews, part: KernelPart, deciding: Row[]): (one: Row, other: Row) => number {
  const all = Array.from({ length: data.inputs.transforms }, (_, transform) => transform);
  const groups = { first: [[0]], mean: [all], apart: all.map((transform) => [transform]) }[part.transforms];
  const kernels = groups.map((transforms) => {
    const read = (row: Row) => plainInputs(data, row, transforms);
    const rows = new Matrix(deciding.map(read));
    const centred = rows.clone().subRowVector(rows.mean('column'));
    const covariance = centred.transpose().mmul(centred).div(deciding.length);
    const decomposition = new EigenvalueDecomposition(covariance, { assumeSymmetric: true });
    const vectors = decomposition.eigenvectorMatrix;
    const values = decomposition.realEigenvalues;
    const most = Math.max(...values);
    const kept = values.map((value) => (value > 1e-6 * most ? value : 0));
    const powerOf = (exponent: number) => {
      const powers = kept.map((value) => (value === 0 ? 0 : value ** exponent));
      return vectors.mmul(Matrix.diag(powers)).mmul(vectors.transpose());
    };
    const metric = powerOf(-part.power).mul(2 / powerOf(1 - part.power).trace());
    return (one: Row, other: Row) => {
      const difference = Matrix.columnVector(read(one)).sub(Matrix.columnVector(read(other)));
      return 1 / (1 + difference.transpose().mmul(metric).mmul(difference).get(0, 0));
    };
  });
  return (one, other) => kernels.reduce((sum, kernel) => sum + kernel(one, other), 0) / kernels.length;
}
