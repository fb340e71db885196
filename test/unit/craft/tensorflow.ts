import {
  type Compute,
  selectCompute,
  type TensorFlowCompute,
  type TensorFlowName,
} from '../../../src/craft/compute.js';

/** A backend of TensorFlow.js. */
export async function tensorFlow(name: TensorFlowName): Promise<TensorFlowCompute> {
  const compute = await selectCompute(name);
  if (compute.name === 'simd') throw new Error('simd is not of TensorFlow.js.');
  return compute;
}

/** How many tensors TensorFlow.js holds for a backend; the own kernels have none. */
export function tensorsHeld(compute: Compute): number {
  return compute.name === 'simd' ? 0 : compute.tf.memory().numTensors;
}
