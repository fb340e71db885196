import { type Combined, inputRows, type LabelledViews, type Row } from './fit-inputs.js';
import { type PrincipalAxes, principalAxes } from './principal-axes.js';

/** The principal axes of what some images' views show, each found once for all heads that are fitted to these images. */
export class InputAxes {
  private readonly found = new Map<string, PrincipalAxes>();

  /** @param images those that decide the axes, one at least */
  constructor(
    private readonly data: LabelledViews,
    readonly images: number[],
  ) {}

  /** @param views the first so many of them */
  of(views: number, transforms: number[], combined: Combined): PrincipalAxes {
    const key = `${views}/${transforms}/${transforms.length > 1 ? combined : ''}`;
    const known = this.found.get(key);
    if (known) return known;
    const axes = principalAxes(inputRows(this.data, this.rows(views), transforms, combined));
    this.found.set(key, axes);
    return axes;
  }

  /** The first views of all images, one view after another. */
  rows(views: number): Row[] {
    return Array.from({ length: views }, (_, view) => this.images.map((image) => ({ view, image }))).flat();
  }
}
