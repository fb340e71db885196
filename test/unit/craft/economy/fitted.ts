import type { EconomyHead } from '../../../../src/craft/economy/economy-head.js';
import type { LabelledViews } from '../../../../src/craft/economy/fit-inputs.js';
import { HeadFit } from '../../../../src/craft/economy/head-fit.js';
import type { FitPart, FitSetting } from '../../../../src/craft/economy/head-grid.js';
import { HeadSum } from '../../../../src/craft/economy/head-sum.js';
import { InputAxes } from '../../../../src/craft/economy/input-axes.js';
import { simdArithmetic } from '../../../../src/craft/economy/simd-arithmetic.js';

export interface Fitted {
  head: EconomyHead;
  /** Of the images that do not count, along what the head was fitted to, [images held out, C]. */
  residuals: Float32Array;
}

/** A head on the answers themselves, made of given or fitted parameters, and what the fit says of images held out. */
export async function fitted(
  data: LabelledViews,
  part: FitPart,
  images: number[],
  how: (FitSetting & { tolerance?: number }) | { parameters: (count: number) => Float64Array },
): Promise<Fitted> {
  const heads = new HeadFit(data, part, new InputAxes(data, images), simdArithmetic);
  const given = 'parameters' in how;
  const parameters = given ? how.parameters(heads.parameterCount) : new Float64Array(heads.parameterCount);
  if (!given) await heads.minimise(parameters, how, how.tolerance ?? 1e-6);
  const residuals = await heads.residuals(parameters);
  const sum = new HeadSum(data.inputs, data.classCount);
  heads.addTo(sum, parameters, 1);
  heads.dispose();
  return { head: sum.toHead(), residuals };
}

/** Images 0, 1, … but every so many-th. */
export function allBut(every: number, count: number): { counted: number[]; held: number[] } {
  const images = Array.from({ length: count }, (_, image) => image);
  return {
    counted: images.filter((image) => image % every !== 0),
    held: images.filter((image) => image % every === 0),
  };
}
