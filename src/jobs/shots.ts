import { Random } from '../craft/random.js';

/**
 * Draws `shots` images of each class without replacement; a class that has fewer gives all it has.
 * @returns the chosen ones in the order they were given in
 */
export function takeShots<Image extends { classIndex: number }>(
  images: readonly Image[],
  shots: number,
  seed: number,
): Image[] {
  const random = Random.stream(seed, 'shots');
  const chosen = new Set<Image>();
  const byClass = new Map<number, Image[]>();
  for (const image of images) {
    const members = byClass.get(image.classIndex);
    if (members) members.push(image);
    else byClass.set(image.classIndex, [image]);
  }
  for (const [, members] of [...byClass].sort(([a], [b]) => a - b)) {
    for (const index of random.permutation(members.length).subarray(0, shots)) chosen.add(members[index]);
  }
  return images.filter((image) => chosen.has(image));
}
