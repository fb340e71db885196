/** Natural logarithms of the softmax of `logits`. */
export function logSoftmax(logits: Float32Array): number[] {
  const highest = Math.max(...logits);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - highest);
  const logSum = highest + Math.log(sum);
  return Array.from(logits, (logit) => logit - logSum);
}
