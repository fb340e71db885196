import { describe, expect, it } from 'vitest';
import {
  type FitPart,
  isSamePart,
  MOST_LANDMARKS,
  searchGrid,
  settingsOf,
  usefulViews,
} from '../../../../src/craft/economy/head-grid.js';

const SIZE = { images: 352, views: 1, transforms: 1, classes: 22, inputs: 150 };
const grid = (more: Partial<typeof SIZE> = {}) => searchGrid({ ...SIZE, ...more });
const settings = (more: Partial<typeof SIZE> = {}) => grid(more).parts.flatMap(settingsOf);
/** Kind, views, transforms and power of each part. */
const parts = (more: Partial<typeof SIZE> = {}) => {
  return grid(more).parts.map(({ part }) => `${part.kind} ${part.views} ${part.transforms} ${part.power}`);
};

describe('searchGrid', () => {
  it('tries kernels with both powers, and the linear head, where there are few images', () => {
    expect(parts()).toEqual(['kernel first first 0.5', 'kernel first first 0.75', 'linear first first 0.75']);
    expect(settings()).toHaveLength(9);
  });

  it('compares images by the mean of their transforms and by each apart', () => {
    expect(parts({ transforms: 2 })).toEqual([
      'kernel first mean 0.5',
      'kernel first mean 0.75',
      'kernel first apart 0.5',
      'kernel first apart 0.75',
      'linear first first 0.75',
    ]);
  });

  it('tries with more views what it tries with fewer', () => {
    for (const transforms of [1, 2]) {
      const few = settings({ transforms });
      const many = settings({ transforms, views: 2 });
      expect(many).toHaveLength(2 * few.length);
      for (const setting of few) expect(many).toContainEqual(setting);
      for (const setting of few) expect(many).toContainEqual({ ...setting, part: { ...setting.part, views: 'all' } });
    }
  });

  it('goes from strong to weak: each fit starts where the one before ended', () => {
    for (const { strengths } of grid({ views: 2 }).parts) {
      expect([...strengths].sort((one, other) => other - one)).toEqual(strengths);
    }
  });

  it('tries less the larger a step is', () => {
    const medium = { images: 4000, classes: 250, inputs: 378, transforms: 2 };
    expect(parts(medium)).toEqual(['kernel first mean 0.75', 'kernel first apart 0.75', 'linear first first 0.75']);
    const fits = (more: Partial<typeof SIZE>) => settings(more).length * grid(more).heldOut;
    const large = { images: 16_000, classes: 1000, inputs: 1512 };
    expect([{ transforms: 2 }, medium, large].map(fits)).toEqual([15 * 5, 9 * 2, 3]);
  });

  it.each([1, 2])('tries no part twice where only linear heads have time, %d transforms', (transforms) => {
    const own = parts({ images: 4000, classes: 600, inputs: 728, transforms, views: 2 });
    expect(own.every((part) => part.startsWith('linear'))).toBe(true);
    expect(new Set(own).size).toBe(own.length);
    expect(own).toContain('linear first first 0.75');
    expect(own.at(-1)).toBe(`linear all ${transforms > 1 ? 'joint' : 'first'} 0.75`);
  });

  it('has one linear head of everything where kernels would take too long', () => {
    const large = { images: 16_000, classes: 1000, inputs: 1512 };
    expect(parts(large)).toEqual(['linear first first 0.75']);
    expect(parts({ ...large, views: 2, transforms: 2 })).toEqual(['linear all joint 0.75']);
    expect(grid(large).heldOut).toBe(1);
  });

  it('does not take a kernel for larger than the landmarks that it may have', () => {
    const more = { images: 8 * MOST_LANDMARKS, classes: 50, inputs: 150 };
    expect(parts(more)).toContain('kernel first first 0.75');
    expect(parts({ ...more, classes: 250 }).every((part) => part.startsWith('linear'))).toBe(true);
  });

  it('holds out every one of few images, however much there is of each', () => {
    expect(grid({ views: 2, transforms: 8 }).heldOut).toBe(5);
    expect(grid({ images: 1500, classes: 1000, inputs: 1128 }).heldOut).toBe(3);
  });
});

describe('usefulViews', () => {
  it.each([
    [1, 512],
    [88, 8],
    [176, 4],
    [352, 2],
    [385, 2],
    [16_000, 2],
  ])('of %d images are %d', (images, views) => expect(usefulViews(images)).toBe(views));
});

describe('isSamePart', () => {
  it('tells parts that differ in anything', () => {
    const part: FitPart = { kind: 'kernel', views: 'all', transforms: 'mean', power: 0.5 };
    expect(isSamePart(part, { ...part })).toBe(true);
    const others: FitPart[] = [
      { ...part, views: 'first' },
      { ...part, transforms: 'apart' },
      { ...part, power: 0.75 },
    ];
    for (const other of others) expect(isSamePart(part, other)).toBe(false);
    const first: FitPart = { ...part, transforms: 'first' };
    expect(isSamePart(first, { kind: 'linear', views: 'all', transforms: 'first', power: 0.5 })).toBe(false);
  });
});
