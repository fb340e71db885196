import { type Compute, isGpu, type TensorFlowCompute } from '../compute.js';
import type { HeadArithmetic } from './arithmetic.js';
import { simdArithmetic } from './simd-arithmetic.js';
import { tensorflowArithmetic } from './tensorflow-arithmetic.js';

/** Numbers of a product from which on it is worth its way to a GPU and back, a millisecond or two. */
const LEAST_WORK = 1e7;

/** On a GPU where there is one and the regression is large; by its size alone, so that a resumed training does the same. */
export function arithmeticFor(compute: Compute): HeadArithmetic {
  if (!isGpu(compute.name)) return simdArithmetic;
  const { tf, activate } = compute as TensorFlowCompute;
  const large = tensorflowArithmetic(tf, activate);
  return {
    regression: (problem) => {
      const work = problem.inputs.length * problem.classCount;
      return (work < LEAST_WORK ? simdArithmetic : large).regression(problem);
    },
  };
}
