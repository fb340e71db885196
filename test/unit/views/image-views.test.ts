import { createHash } from 'node:crypto';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { inspectImage } from '../../../src/datasets/image-check.js';
import type { ProviderImage } from '../../../src/providers/provider.js';
import { ImageViews } from '../../../src/views/image-views.js';
import { KeptViews } from '../../../src/views/kept-views.js';
import { PREDICTION_QUERIES, QUERIED, TRANSFORMS, type Transform } from '../../../src/views/transforms.js';

function imageOf(bytes: Buffer): ProviderImage {
  return { sha256: createHash('sha256').update(bytes).digest('hex'), size: bytes.length, bytes: async () => bytes };
}

/** Every pixel is another one: red is the column, green the row. */
function pixelsOf(width: number, height: number, channels: 3 | 4 = 3): Buffer {
  const pixels = Buffer.alloc(width * height * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) pixels.set([x, y, 77, 128].slice(0, channels), (y * width + x) * channels);
  }
  return pixels;
}

async function png(width: number, height: number, channels: 3 | 4 = 3): Promise<ProviderImage> {
  return imageOf(
    await sharp(pixelsOf(width, height, channels), { raw: { width, height, channels } })
      .png()
      .toBuffer(),
  );
}

async function read(image: ProviderImage) {
  const bytes = await image.bytes();
  expect(createHash('sha256').update(bytes).digest('hex')).toBe(image.sha256);
  expect(bytes.length).toBe(image.size);
  const { data, info } = await sharp(bytes).raw().toBuffer({ resolveWithObject: true });
  const at = (x: number, y: number) => [
    ...data.subarray((y * info.width + x) * info.channels).subarray(0, info.channels),
  ];
  return { ...info, at, bytes };
}

describe('views of an image', () => {
  it('are made of a JPEG that its decoder only warns of, as it was taken in', async () => {
    const { width, height } = { width: 16, height: 16 };
    const whole = await sharp(pixelsOf(width, height), { raw: { width, height, channels: 3 } })
      .jpeg()
      .toBuffer();
    const scan = whole.indexOf(Buffer.from([0xff, 0xda]));
    const bytes = Buffer.concat([whole.subarray(0, scan), Buffer.from([0, 1, 2, 3]), whole.subarray(scan)]);
    const limits = { maxImageBytes: 10_000, maxImagePixels: 1000 };
    await expect(inspectImage(bytes, limits)).resolves.toEqual({ mediaType: 'image/jpeg', width, height });
    await expect(sharp(bytes).raw().toBuffer()).rejects.toThrow(/extraneous bytes/);
    for (const [index, transform] of [
      [1, 'identity'],
      [0, 'blur'],
    ] as const) {
      const [warned, plain] = await Promise.all(
        [bytes, whole].map((of) => new ImageViews().view(imageOf(of), index, transform)),
      );
      expect(warned.sha256).toBe(plain.sha256);
    }
  });

  const views = new ImageViews();

  it('begin with the image itself, untouched', async () => {
    const image = await png(20, 10);
    expect(await views.view(image, 0)).toBe(image);
  });

  it('have its exact mirror image next', async () => {
    const { width, height, at } = await read(await views.view(await png(20, 10), 1));
    expect([width, height]).toEqual([20, 10]);
    for (let y = 0; y < 10; y++) for (let x = 0; x < 20; x++) expect(at(x, y)).toEqual([19 - x, y, 77]);
  });

  it('then show windows of 85 % to 100 % of each side, every odd one mirrored, pixel by pixel', async () => {
    const image = await png(200, 100);
    const places = new Set<string>();
    for (let index = 2; index < 14; index++) {
      const { width, height, at } = await read(await views.view(image, index));
      expect(width).toBeGreaterThanOrEqual(170);
      expect(width).toBeLessThanOrEqual(200);
      expect(Math.abs(width / 2 - height)).toBeLessThanOrEqual(1);
      const mirrored = index % 2 === 1;
      const [left, top] = at(mirrored ? width - 1 : 0, 0);
      expect(left + width).toBeLessThanOrEqual(200);
      expect(top + height).toBeLessThanOrEqual(100);
      for (const [x, y] of [
        [0, 0],
        [width - 1, 0],
        [3, height - 1],
        [width >> 1, height >> 1],
      ]) {
        expect(at(x, y)).toEqual([mirrored ? left + width - 1 - x : left + x, top + y, 77]);
      }
      places.add([left, top, width].join());
    }
    expect(places.size).toBeGreaterThan(8);
  });

  it('are the same bytes whoever makes them, and others for other images', async () => {
    const image = await png(40, 40);
    for (const transform of TRANSFORMS) {
      const [first, second] = [await views.view(image, 5, transform), await new ImageViews().view(image, 5, transform)];
      expect(second.sha256).toBe(first.sha256);
    }
    const seen = await Promise.all([2, 3, 4, 5].map(async (index) => (await views.view(image, index)).sha256));
    expect(new Set(seen).size).toBe(4);
  });

  it('keep what is transparent', async () => {
    const { at } = await read(await views.view(await png(8, 8, 4), 1));
    expect(at(0, 0)).toEqual([7, 0, 77, 128]);
  });

  it('stand upright as their EXIF orientation says', async () => {
    const raw = { width: 60, height: 30, channels: 3 } as const;
    // 6: has to be turned by a quarter to the right. What was at the lower left is at the upper left then.
    const bytes = await sharp(pixelsOf(60, 30), { raw }).withMetadata({ orientation: 6 }).png().toBuffer();
    const { width, height, at } = await read(await views.view(imageOf(bytes), 1));
    expect([width, height]).toEqual([30, 60]);
    expect(at(29, 0)).toEqual([0, 29, 77]);
    expect(at(0, 0)).toEqual([0, 0, 77]);
    expect(at(29, 59)).toEqual([59, 29, 77]);
    expect((await sharp((await read(await views.view(imageOf(bytes), 1))).bytes).metadata()).orientation ?? 1).toBe(1);
    const window = await read(await views.view(imageOf(bytes), 4));
    expect(window.width).toBeLessThanOrEqual(30);
    expect(window.height).toBeGreaterThan(50);
  });

  it('are JPEG files of JPEG files, and PNG files of all others', async () => {
    const raw = { width: 32, height: 24, channels: 3 } as const;
    const formats = { jpeg: 'jpeg', png: 'png', webp: 'png', gif: 'png' } as const;
    for (const [format, expected] of Object.entries(formats)) {
      const bytes = await sharp(pixelsOf(32, 24), { raw })
        .toFormat(format as 'jpeg')
        .toBuffer();
      for (const transform of ['identity', 'blur'] as const) {
        const view = await views.view(imageOf(bytes), 2, transform);
        expect((await sharp(await view.bytes()).metadata()).format).toBe(expected);
      }
    }
  });

  it('are made again where they are kept no longer', async () => {
    const image = await png(1, 1);
    const view = await views.view(image, 1);
    const first = await view.bytes();
    Reflect.get(views, 'kept').clear();
    expect(await view.bytes()).toEqual(first);
  });

  it('take memory once for all who make them, however many these are', async () => {
    const [one, other] = [await png(40, 30), await png(41, 30)];
    const most = Math.max((await views.view(one, 1)).size, (await views.view(other, 1)).size) + 10;
    const kept = new KeptViews(most);
    const jobs = Array.from({ length: 4 }, () => new ImageViews('distinct', kept));
    const made = [];
    for (const job of jobs) for (const image of [one, other]) made.push(await job.view(image, 1));
    expect(kept.size).toBeGreaterThan(0);
    expect(kept.size).toBeLessThanOrEqual(most);
    for (const view of made) await read(view);
    expect(Reflect.get(new ImageViews(), 'kept')).toBe(Reflect.get(views, 'kept'));
  });
});

describe('transforms of a view', () => {
  const views = new ImageViews();

  it('of a prediction begin with the image itself, are as many as it costs queries, and are named', () => {
    for (const queries of PREDICTION_QUERIES) {
      const transforms = QUERIED[queries];
      expect(transforms).toHaveLength(queries);
      expect(new Set(transforms).size).toBe(queries);
      expect(transforms[0]).toBe('identity');
      for (const transform of transforms) expect(TRANSFORMS).toContain(transform);
    }
  });

  it.each(TRANSFORMS)('%s manages images of one pixel, of one line, in grey and with alpha', async (transform) => {
    const grey = sharp(Buffer.alloc(12, 99), { raw: { width: 4, height: 3, channels: 1 } }).toColourspace('b-w');
    const images = [
      await png(1, 1),
      await png(1, 50),
      await png(50, 1),
      await png(9, 9, 4),
      imageOf(await grey.png().toBuffer()),
    ];
    for (const image of images) {
      for (const index of [0, 1, 2]) {
        const { width, height } = await read(await views.view(image, index, transform));
        expect(Math.min(width, height)).toBeGreaterThanOrEqual(1);
      }
    }
  });

  const shown = async (image: ProviderImage, transform: Transform) => read(await views.view(image, 0, transform));

  it('mirror, negative and fade change pixels as they say', async () => {
    const image = await png(20, 10);
    expect((await shown(image, 'mirror')).at(0, 3)).toEqual([19, 3, 77]);
    expect((await shown(image, 'negative')).at(4, 3)).toEqual([251, 252, 178]);
    const [red] = (await shown(image, 'fade')).at(10, 3);
    expect(Math.abs(red - (127.5 + 5))).toBeLessThanOrEqual(1);
  });

  it('zooms keep the middle, and what is new at the edges repeats them', async () => {
    const image = await png(100, 60);
    const inside = await shown(image, 'zoom_in');
    expect([inside.width, inside.height, inside.at(0, 0)]).toEqual([80, 48, [10, 6, 77]]);
    const outside = await shown(image, 'zoom_out');
    expect([outside.width, outside.height]).toEqual([126, 76]);
    expect(outside.at(0, 8)).toEqual([0, 0, 77]);
    expect(outside.at(13, 8)).toEqual([0, 0, 77]);
    expect(outside.at(14, 9)).toEqual([1, 1, 77]);
  });

  it('shows what is transparent on white', async () => {
    const clear = sharp(Buffer.alloc(16 * 4), { raw: { width: 4, height: 4, channels: 4 } });
    expect((await shown(imageOf(await clear.png().toBuffer()), 'mirror')).at(1, 1)).toEqual([255, 255, 255]);
  });

  it.each([
    ['thin', Math.max],
    ['thick', Math.min],
  ] as const)('%s takes the extreme value within reach', async (transform, pick) => {
    // Noise, whose shorter side of 128 pixels gives a reach of 2.
    const [width, height] = [140, 128];
    const noise = Buffer.from(
      Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7919 + (i >> 3) * 104_729) % 251),
    );
    const { at } = await shown(
      imageOf(
        await sharp(noise, { raw: { width, height, channels: 3 } })
          .png()
          .toBuffer(),
      ),
      transform,
    );
    for (const [x, y] of [
      [0, 0],
      [1, 5],
      [70, 64],
      [139, 127],
      [138, 0],
      [5, 126],
    ]) {
      for (let channel = 0; channel < 3; channel++) {
        const near: number[] = [];
        for (let v = Math.max(0, y - 2); v <= Math.min(height - 1, y + 2); v++) {
          for (let u = Math.max(0, x - 2); u <= Math.min(width - 1, x + 2); u++)
            near.push(noise[(v * width + u) * 3 + channel]);
        }
        expect(at(x, y)[channel]).toBe(pick(...near));
      }
    }
  });
});
