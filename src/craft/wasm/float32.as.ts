// The float32 kernels, as one module: what `float32-kernels.ts` and the refinement head call. AssemblyScript, compiled to
// WebAssembly with SIMD by scripts/generate-kernels.mjs. Pointers are byte offsets in linear memory, matrices are row-major
// float32.
export { scratchBytes, useScratch, product, tile } from './float32/product.as';
export { exponentials } from './float32/exponential.as';
export { headLossGradient, promptLoss, softmaxCrossEntropyGradient } from './float32/softmax.as';
export { addBias, addBiasAndRectify, maskRectified, sumRows } from './float32/layers.as';
export { adam } from './float32/adam.as';

/** Where memory is free from: constants, such as the tables of the logarithm, lie before it. */
export function firstFreeByte(): usize {
  return __heap_base;
}
