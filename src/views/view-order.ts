import type { Transform } from './transforms.js';

/** The view that is the mirror image of the whole image. */
const MIRROR_IMAGE = 1;

/**
 * The number of the n-th view that is asked about in all transforms. Where one of these is the mirror image, view 1 in them is
 * view 0 again, and is left out.
 */
export function nthView(n: number, transforms: readonly Transform[]): number {
  return n >= MIRROR_IMAGE && transforms.includes('mirror') ? n + 1 : n;
}
