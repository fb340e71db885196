import fc from 'fast-check';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import {
  bytesOfPixels,
  contextTensor,
  type ImagesTensor,
  logitsOf,
  pixelSizeOf,
  pixelTensor,
  type TensorMapping,
  tensorMapping,
} from '../../../src/providers/open-inference-tensors.js';
import { openInferenceSettings } from '../../../src/providers/settings/open-inference.js';

const mapped = (tensors: object, pixels?: { width: number; height: number }) =>
  tensorMapping(openInferenceSettings.parse({ tensors }).tensors, pixels);

/** Two pixels in a row: red, then blue. */
const RED_BLUE = sharp(Buffer.from([255, 0, 0, 0, 0, 255]), { raw: { width: 2, height: 1, channels: 3 } }).png();

describe('the mapping of tensors', () => {
  it('is the usual one where the record says nothing', () => {
    expect(mapped({})).toMatchObject({
      images: { name: 'images', datatype: 'BYTES' },
      class_names: { name: 'class_names' },
      context: { name: 'context', axes: ['prompts', 'tokens', 'width'] },
      template: { name: 'template' },
      logits: { name: 'logits', datatype: 'FP32', axes: ['prompts', 'images', 'classes'] },
    });
  });

  it('takes a name alone, or what is not as usual', () => {
    const { logits, context, images } = mapped({
      logits: { datatype: 'FP16', axes: ['images', 'classes'] },
      context: 'ctx',
      images: { name: 'pixels', datatype: 'UINT8', layout: 'NHWC', width: 8, height: 6 },
    });
    expect(logits).toEqual({ name: 'logits', datatype: 'FP16', axes: ['images', 'classes'] });
    expect(context).toEqual({ name: 'ctx', axes: ['prompts', 'tokens', 'width'] });
    expect(images).toMatchObject({ name: 'pixels', shape: [-1, 6, 8, 3] });
  });

  it('has the size of pixels from the record, else from the model, else the usual one', () => {
    const images = { datatype: 'FP32' };
    const from = { width: 32, height: 16 };
    expect(mapped({ images: { ...images, width: 8 } }, from).images).toMatchObject({ width: 8, height: 16 });
    expect(mapped({ images }, from).images.shape).toEqual([-1, 3, 16, 32]);
    expect(mapped({ images }).images).toMatchObject({ width: 224, height: 224 });
  });
});

describe('the size of pixels in metadata', () => {
  const of = (layout: 'NCHW' | 'NHWC', shape?: number[]) =>
    pixelSizeOf(
      openInferenceSettings.parse({ tensors: { images: { datatype: 'FP32', layout } } }).tensors.images,
      shape,
    );

  it('is where the layout has it', () => {
    expect(of('NCHW', [-1, 3, 16, 32])).toEqual({ width: 32, height: 16 });
    expect(of('NHWC', [-1, 16, 32, 3])).toEqual({ width: 32, height: 16 });
  });

  it.each([undefined, [-1], [-1, 3, -1, -1], [-1, 3, 16, -1]])('is open with shape %j', (shape) => {
    expect(of('NCHW', shape)).toBeUndefined();
  });
});

describe('pixelTensor', () => {
  const tensor = (changes: Partial<ImagesTensor>): ImagesTensor => {
    const layout = changes.layout ?? 'NCHW';
    const shape = layout === 'NCHW' ? [-1, 3, 1, 2] : [-1, 1, 2, 3];
    return {
      ...{ name: 'pixels', datatype: 'UINT8', layout, width: 2, height: 1, mean: [0, 0, 0], std: [1, 1, 1], shape },
      ...changes,
    };
  };

  it.each([
    ['NCHW', [1, 3, 1, 2], [255, 0, 0, 0, 0, 255]],
    ['NHWC', [1, 1, 2, 3], [255, 0, 0, 0, 0, 255]],
  ] as const)('as bytes in %s has shape %j', async (layout, shape, values) => {
    const { data, ...rest } = await pixelTensor([await RED_BLUE.toBuffer()], tensor({ layout }));
    expect(rest).toEqual({ name: 'pixels', datatype: 'UINT8', shape });
    expect([...(data as Uint8Array)]).toEqual(values);
  });

  it('as floats is normalised channel by channel, image after image', async () => {
    const file = await RED_BLUE.toBuffer();
    const floats = tensor({ datatype: 'FP32', mean: [0.5, 0.25, 0], std: [0.5, 1, 2] });
    const { data, shape } = await pixelTensor([file, file], floats);
    expect(shape).toEqual([2, 3, 1, 2]);
    const one = [1, -1, -0.25, -0.25, 0, 0.5];
    expect([...(data as Float32Array)]).toEqual([...one, ...one]);
    expect(bytesOfPixels(floats, true)).toBe(one.length * 4);
    expect(bytesOfPixels(tensor({}), true)).toBe(one.length);
    const longest = `${Math.fround(-1.2345678e-6)},`.length;
    expect((bytesOfPixels(floats, false) * 4) / 3).toBeGreaterThanOrEqual(one.length * longest);
    expect((bytesOfPixels(tensor({}), false) * 4) / 3).toBeGreaterThanOrEqual(one.length * '255,'.length);
  });

  it('has one size, also of images that would only be made smaller', async () => {
    const tiny = await sharp(Buffer.from([9, 9, 9]), { raw: { width: 1, height: 1, channels: 3 } })
      .png()
      .toBuffer();
    const { data } = await pixelTensor([tiny], tensor({}), { fit: 'inside', kernel: 'linear' });
    expect(data).toHaveLength(6);
  });
});

describe('axes', () => {
  const SIZES = { prompts: 2, images: 3, classes: 4 };
  const value = (p: number, n: number, c: number) => p * 100 + n * 10 + c;
  const fp32 = (axes: TensorMapping['logits']['axes']) => ({ name: 'logits', datatype: 'FP32', axes }) as const;
  type Axis = keyof typeof SIZES;

  it('of logits may come in any order', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray<Axis>(['prompts', 'images', 'classes'], { minLength: 3 }), (axes) => {
        const data: number[] = [];
        const [a, b, c] = axes;
        for (let i = 0; i < SIZES[a]; i++) {
          for (let j = 0; j < SIZES[b]; j++) {
            for (let k = 0; k < SIZES[c]; k++) {
              const at = { [a]: i, [b]: j, [c]: k } as Record<Axis, number>;
              data.push(value(at.prompts, at.images, at.classes));
            }
          }
        }
        const logits = logitsOf(Float32Array.from(data), SIZES, fp32(axes));
        for (let i = 0; i < 24; i++) expect(logits[i]).toBe(value(Math.floor(i / 12), Math.floor(i / 4) % 3, i % 4));
      }),
    );
  });

  it('that are left out have size 1', () => {
    const sizes = { prompts: 1, images: 3, classes: 2 };
    const data = Float32Array.of(1, 2, 3, 4, 5, 6);
    expect(logitsOf(data, sizes, fp32(['images', 'classes']))).toEqual(data);
    expect([...logitsOf(data, sizes, fp32(['classes', 'images']))]).toEqual([1, 4, 2, 5, 3, 6]);
    expect(logitsOf(data, { ...sizes, images: 1, classes: 6 }, fp32(['classes']))).toEqual(data);
  });

  it('hold half floats, too', () => {
    const half = Uint16Array.of(0x3c00, 0xc000);
    const mapping = {
      name: 'logits',
      datatype: 'FP16',
      axes: ['prompts', 'images', 'classes'],
    } as TensorMapping['logits'];
    expect([...logitsOf(half, { prompts: 1, images: 1, classes: 2 }, mapping)]).toEqual([1, -2]);
  });

  it('of a context come in the order of the model', () => {
    const values = Float32Array.from({ length: 12 }, (_, i) => i);
    const sizes = { prompts: 2, tokens: 3, width: 2 };
    expect(contextTensor(values, sizes, { name: 'ctx', axes: ['prompts', 'tokens', 'width'] })).toEqual({
      name: 'ctx',
      datatype: 'FP32',
      shape: [2, 3, 2],
      data: values,
    });
    const turned = contextTensor(values, sizes, { name: 'ctx', axes: ['tokens', 'prompts', 'width'] });
    expect(turned.shape).toEqual([3, 2, 2]);
    expect([...(turned.data as Float32Array)]).toEqual([0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
    const single = contextTensor(
      values,
      { ...sizes, prompts: 1, tokens: 6 },
      { name: 'ctx', axes: ['tokens', 'width'] },
    );
    expect(single.shape).toEqual([6, 2]);
  });
});
