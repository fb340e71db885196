import type { Random } from '../random.js';

/**
 * Stratified folds: the images of each class are spread as evenly as can be, and so are the classes that have fewer
 * images than there are folds.
 * @param labels class of each image, [N]
 * @returns fold of each image, [N]
 */
export function stratifiedFolds(labels: Int32Array, classCount: number, folds: number, random: Random): Int32Array {
  const foldOf = new Int32Array(labels.length);
  const byClass: number[][] = Array.from({ length: classCount }, () => []);
  for (const image of random.permutation(labels.length)) byClass[labels[image]].push(image);
  let next = 0;
  for (const images of byClass) {
    for (const image of images) foldOf[image] = next++ % folds;
  }
  return foldOf;
}
