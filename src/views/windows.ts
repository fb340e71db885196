import { Random } from '../craft/random.js';

/** Which part of an image each of its views shows. */

/** Pixels of the image. */
export interface Window {
  width: number;
  height: number;
  left: number;
  top: number;
}

interface Size {
  width: number;
  height: number;
}

/** The smallest share of each side that a view shows. */
const SMALLEST_SIDE = 0.85;
/** The first view of a part; those before it show the whole. */
const FIRST_PART = 2;
/** Draws before a window may be one that another view shows; only images of a few pixels have so few. */
const DRAWS = 32;

/** The window of a view, as it is drawn: of a small image two of them may be the same. */
export function drawnWindow(sha256: string, index: number, size: Size): Window {
  return index < FIRST_PART ? whole(size) : draws(sha256, index, size)();
}

/** The window of a view, drawn until it is no earlier view's. */
export function distinctWindow(sha256: string, index: number, size: Size): Window {
  const shown = new Set([nameOf(whole(size))]);
  let window = whole(size);
  for (let view = FIRST_PART; view <= index; view++) {
    const draw = draws(sha256, view, size);
    window = draw();
    for (let again = 1; again < DRAWS && shown.has(nameOf(window)); again++) window = draw();
    shown.add(nameOf(window));
  }
  return window;
}

function whole({ width, height }: Size): Window {
  return { width, height, left: 0, top: 0 };
}

/** A view's windows, one after another. */
function draws(sha256: string, index: number, size: Size): () => Window {
  const random = Random.stream(0, `views/${sha256}/${index}`);
  return () => {
    const side = SMALLEST_SIDE + (1 - SMALLEST_SIDE) * random.uniform();
    const [width, height] = [size.width, size.height].map((length) => Math.max(1, Math.round(length * side)));
    return {
      width,
      height,
      left: Math.floor(random.uniform() * (size.width - width + 1)),
      top: Math.floor(random.uniform() * (size.height - height + 1)),
    };
  };
}

function nameOf({ width, height, left, top }: Window): string {
  return `${width} ${height} ${left} ${top}`;
}
