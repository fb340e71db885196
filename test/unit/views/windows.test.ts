import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { distinctWindow, drawnWindow } from '../../../src/views/windows.js';

const VIEWS = 16;
const sha256Of = (name: number) => createHash('sha256').update(String(name)).digest('hex');
const indices = Array.from({ length: VIEWS }, (_, index) => index);

describe('Windows', () => {
  it('are all different but for the mirror image, and the drawn ones where these are', () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.integer({ min: 20, max: 300 }),
        fc.integer({ min: 20, max: 300 }),
        (name, width, height) => {
          const [distinct, drawn] = [distinctWindow, drawnWindow].map((windowOf) =>
            indices.map((index) => windowOf(sha256Of(name), index, { width, height })),
          );
          expect(distinct[0]).toEqual({ width, height, left: 0, top: 0 });
          expect(distinct[1]).toEqual(distinct[0]);
          const parts = distinct.slice(1).map((window) => JSON.stringify(window));
          expect(new Set(parts).size).toBe(VIEWS - 1);
          for (const { width: part, height: high, left, top } of distinct) {
            expect(part).toBeGreaterThanOrEqual(Math.round(0.85 * width));
            expect(left).toBeGreaterThanOrEqual(0);
            expect(left + part).toBeLessThanOrEqual(width);
            expect(top).toBeGreaterThanOrEqual(0);
            expect(top + high).toBeLessThanOrEqual(height);
          }
          const places = drawn.slice(1).map((window) => JSON.stringify(window));
          const repeatedAt = places.findIndex((place, at) => places.indexOf(place) < at);
          const before = repeatedAt < 0 ? VIEWS : repeatedAt + 1;
          expect(distinct.slice(0, before)).toEqual(drawn.slice(0, before));
        },
      ),
    );
  });

  it('of an icon are drawn the same now and then', () => {
    const size = { width: 24, height: 24 };
    const repeats = Array.from({ length: 50 }, (_, name) => {
      const places = indices.slice(1).map((index) => JSON.stringify(drawnWindow(sha256Of(name), index, size)));
      return places.length - new Set(places).size;
    });
    expect(Math.max(...repeats)).toBeGreaterThan(0);
  });

  it('of an image with fewer parts than views repeat themselves', () => {
    const window = distinctWindow(sha256Of(1), 40, { width: 1, height: 3 });
    expect(window).toMatchObject({ width: 1, height: 3, left: 0, top: 0 });
  });
});
