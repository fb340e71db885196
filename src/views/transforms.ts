import sharp, { type Sharp } from 'sharp';
import { extremes } from './morphology.js';

/**
 * What a prediction may ask about beside an image itself. Each shows a black box the same thing otherwise, so that together
 * its answers tell a head more than one of them does.
 */
export const TRANSFORMS = [
  'identity',
  'mirror',
  'blur',
  'negative',
  'thin',
  'thick',
  'zoom_in',
  'zoom_out',
  'fade',
] as const;
export type Transform = (typeof TRANSFORMS)[number];

/** Image queries that one prediction may cost. */
export const PREDICTION_QUERIES = [1, 2, 4, 8] as const;

/** What a prediction of so many queries asks about. The image itself comes first. */
export const QUERIED: Record<(typeof PREDICTION_QUERIES)[number], Transform[]> = {
  1: ['identity'],
  2: ['identity', 'mirror'],
  4: ['identity', 'blur', 'negative', 'thin'],
  8: ['identity', 'blur', 'negative', 'thin', 'thick', 'zoom_in', 'zoom_out', 'fade'],
};

const WHITE = '#ffffff';
/** Standard deviation of the blur, and reach of a line's change of width, as shares of the shorter side. */
const BLUR = 1 / 32;
const LINE = 1 / 64;
/** What a zoom leaves of each side, or adds to it. */
const ZOOM_IN = 0.8;
const ZOOM_OUT = 0.25;

/** @param view pixels of any kind; transparent ones become white, as black boxes take them */
export async function transformPixels(view: Sharp, transform: Transform): Promise<Sharp> {
  const { data, info } = await view
    .flatten({ background: WHITE })
    .toColourspace('srgb')
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const raw = { width, height, channels };
  const pixels = sharp(data, { raw });
  const shorter = Math.min(width, height);
  switch (transform) {
    case 'identity':
      return pixels;
    case 'mirror':
      return pixels.flop();
    case 'blur':
      return pixels.blur(Math.max(0.3, BLUR * shorter));
    case 'negative':
      return pixels.negate();
    case 'fade':
      return pixels.linear(0.5, 127.5);
    case 'zoom_in': {
      const [w, h] = [width, height].map((side) => Math.max(1, Math.round(side * ZOOM_IN)));
      return pixels.extract({ left: (width - w) >> 1, top: (height - h) >> 1, width: w, height: h });
    }
    case 'zoom_out': {
      const [x, y] = [width, height].map((side) => Math.round((side * ZOOM_OUT) / 2));
      return pixels.extend({ left: x, right: x, top: y, bottom: y, extendWith: 'copy' });
    }
    case 'thin':
    case 'thick': {
      const reach = Math.max(1, Math.round(LINE * shorter));
      const which = transform === 'thin' ? 'largest' : 'smallest';
      return sharp(await extremes({ data, width, height, channels }, reach, which), { raw });
    }
  }
}
