/**
 * The cross-entropy of every image, in nats.
 * @param logits [N, C]
 * @param labels [N]
 * @returns [N]
 */
export function crossEntropies(logits: ArrayLike<number>, labels: Int32Array, classCount: number): Float64Array {
  return Float64Array.from(labels, (label, image) => {
    const at = image * classCount;
    let most = Number.NEGATIVE_INFINITY;
    for (let c = 0; c < classCount; c++) most = Math.max(most, logits[at + c]);
    let sum = 0;
    for (let c = 0; c < classCount; c++) sum += Math.exp(logits[at + c] - most);
    return Math.log(sum) + most - logits[at + label];
  });
}
