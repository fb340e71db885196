import sharp, { type Sharp } from 'sharp';

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
      const pick = transform === 'thin' ? Math.max : Math.min;
      const across = extreme(
        data,
        { count: width, stride: channels, lanes: height, lane: width * channels },
        channels,
        reach,
        pick,
      );
      const down = extreme(
        across,
        { count: height, stride: width * channels, lanes: width, lane: channels },
        channels,
        reach,
        pick,
      );
      return sharp(down, { raw });
    }
  }
}

/**
 * The largest or smallest value within reach along one axis: light or dark parts grow. With running extremes of blocks as
 * wide as a reach to both sides (van Herk 1992; Gil and Werman 1993), however far that is.
 */
function extreme(
  data: Buffer,
  { count, stride, lanes, lane }: { count: number; stride: number; lanes: number; lane: number },
  channels: number,
  reach: number,
  pick: (a: number, b: number) => number,
): Buffer {
  const result = Buffer.alloc(data.length);
  const block = 2 * reach + 1;
  const padded = Math.ceil((count + 2 * reach) / block) * block;
  const line = new Uint8Array(padded);
  const forward = new Uint8Array(padded);
  const backward = new Uint8Array(padded);
  for (let i = 0; i < lanes; i++) {
    for (let channel = 0; channel < channels; channel++) {
      const start = i * lane + channel;
      // Beyond an edge there is more of what is at it: no other value than those within reach.
      for (let at = 0; at < padded; at++) {
        line[at] = data[start + Math.min(count - 1, Math.max(0, at - reach)) * stride];
      }
      for (let at = 0; at < padded; at++) {
        forward[at] = at % block === 0 ? line[at] : pick(forward[at - 1], line[at]);
      }
      for (let at = padded - 1; at >= 0; at--) {
        backward[at] = at % block === block - 1 ? line[at] : pick(backward[at + 1], line[at]);
      }
      for (let at = 0; at < count; at++) {
        result[start + at * stride] = pick(backward[at], forward[at + block - 1]);
      }
    }
  }
  return result;
}
