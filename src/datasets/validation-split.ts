import { createHash } from 'node:crypto';
import type { DatasetImage } from './manifest.js';
import { compareCodePoints } from './report.js';

/**
 * Sets a share of each class aside for validation: the rounded share of the class, though at least one image stays for
 * training, and copies of a training image stay with it. Which ones depends on the seed and the images' bytes alone,
 * not on names or on the order of upload.
 * @param fraction from 0 (none) to below 1
 * @returns both parts in the order the images were given in
 */
export function splitValidation<Image extends Pick<DatasetImage, 'classIndex' | 'sha256'>>(
  images: readonly Image[],
  fraction: number,
  seed: number | bigint,
): { train: Image[]; validation: Image[] } {
  if (!(fraction >= 0 && fraction < 1)) {
    throw new RangeError(`A validation fraction lies between 0 and 1 (exclusive), not at ${fraction}.`);
  }
  const byClass = new Map<number, { image: Image; rank: string }[]>();
  for (const image of images) {
    const rank = createHash('sha256').update(`validation\n${seed}\n${image.sha256}`).digest('hex');
    const members = byClass.get(image.classIndex);
    if (members) members.push({ image, rank });
    else byClass.set(image.classIndex, [{ image, rank }]);
  }
  const chosen = new Set<Image>();
  for (const members of byClass.values()) {
    const count = Math.min(Math.round(members.length * fraction), members.length - 1);
    members.sort((a, b) => compareCodePoints(a.rank, b.rank));
    // Copies of an image are neighbours now; a cut between them would leak one into validation.
    const firstKept = members[count].rank;
    for (const { image, rank } of members.slice(0, count)) {
      if (rank !== firstKept) chosen.add(image);
    }
  }
  return {
    train: images.filter((image) => !chosen.has(image)),
    validation: images.filter((image) => chosen.has(image)),
  };
}
