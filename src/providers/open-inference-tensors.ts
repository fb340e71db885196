import { halfToFloat32, type Tensor } from '../formats/open-inference-binary.js';
import { scaled } from './image-encoder.js';
import type { ImageSize } from './settings/common.js';
import type { OpenInferenceSettings } from './settings/open-inference.js';

/** The tensors of a model, as its record names them, and what goes into and comes out of them. */

type Settings = OpenInferenceSettings['tensors'];
export type TensorRole = keyof Settings;

export interface ImagesTensor {
  name: string;
  datatype: 'BYTES' | 'FP32' | 'UINT8';
  layout: 'NCHW' | 'NHWC';
  width: number;
  height: number;
  mean: number[];
  std: number[];
  /** Of pixels; -1 is any size. */
  shape: number[];
}

export interface TensorMapping {
  images: ImagesTensor;
  class_names: { name: string };
  context: { name: string; axes: ('prompts' | 'tokens' | 'width')[] };
  template: { name: string };
  logits: { name: string; datatype: 'FP32' | 'FP16'; axes: LogitsAxis[] };
}

export interface PixelSize {
  width: number;
  height: number;
}

type LogitsAxis = 'prompts' | 'images' | 'classes';

const DEFAULT_SIDE = 224;

/** @param pixels their size, where the record leaves it to the model's metadata */
export function tensorMapping(tensors: Settings, pixels?: PixelSize | null): TensorMapping {
  const { images, class_names, context, template, logits } = tensors;
  const named = <T extends object>(tensor: string | T, usual: Omit<T, 'name'>) =>
    typeof tensor === 'string' ? { name: tensor, ...usual } : tensor;
  return {
    images: imagesTensor(images, pixels),
    class_names: named(class_names, {}) as { name: string },
    context: named(context, { axes: ['prompts', 'tokens', 'width'] }) as TensorMapping['context'],
    template: named(template, {}) as { name: string },
    logits: named(logits, { datatype: 'FP32', axes: ['prompts', 'images', 'classes'] }) as TensorMapping['logits'],
  };
}

function imagesTensor(images: Settings['images'], pixels?: PixelSize | null): ImagesTensor {
  const {
    name,
    datatype,
    layout,
    mean,
    std,
    ...stated
  }: Partial<PixelSize> & Omit<ImagesTensor, keyof PixelSize | 'shape'> =
    typeof images === 'string'
      ? { name: images, datatype: 'BYTES', layout: 'NCHW', mean: [0, 0, 0], std: [1, 1, 1] }
      : images;
  const width = stated.width ?? pixels?.width ?? DEFAULT_SIDE;
  const height = stated.height ?? pixels?.height ?? DEFAULT_SIDE;
  const shape = layout === 'NCHW' ? [-1, 3, height, width] : [-1, height, width, 3];
  return { name, datatype, layout, width, height, mean, std, shape };
}

/** What a model's metadata says of the size of its pixels; undefined where it leaves that open. */
export function pixelSizeOf(images: Settings['images'], shape: number[] | undefined): PixelSize | undefined {
  if (typeof images === 'string' || shape?.length !== 4) return undefined;
  const [height, width] = images.layout === 'NCHW' ? shape.slice(2) : shape.slice(1, 3);
  return height > 0 && width > 0 ? { width, height } : undefined;
}

/** Bytes of a pixel's number; as JSON, what becomes as many characters in base64: up to 26 and 4, with their comma. */
const PIXEL_BYTES = { binary: { FP32: 4, UINT8: 1 }, json: { FP32: 20, UINT8: 3 } };

/** Of one image, before base64 where tensors travel as JSON. */
export function bytesOfPixels(
  { datatype, width, height }: Pick<ImagesTensor, 'datatype' | 'width' | 'height'>,
  binary: boolean,
): number {
  const { FP32, UINT8 } = binary ? PIXEL_BYTES.binary : PIXEL_BYTES.json;
  return width * height * 3 * (datatype === 'FP32' ? FP32 : UINT8);
}

/** Pixels of encoded images, for a model that does not decode them itself. */
export async function pixelTensor(
  files: Buffer[],
  tensor: ImagesTensor,
  scaling: Pick<ImageSize, 'fit' | 'kernel'> = { fit: 'fill', kernel: 'lanczos3' },
): Promise<Tensor> {
  const { name, datatype, width, height, layout } = tensor;
  const size = width * height * 3;
  const shape = [files.length, ...tensor.shape.slice(1)];
  const data = datatype === 'FP32' ? new Float32Array(files.length * size) : new Uint8Array(files.length * size);
  for (const [i, file] of files.entries()) {
    const pixels = await scaled(file, { width, height, ...scaling, fit: exact(scaling.fit) })
      .raw()
      .toBuffer();
    writePixels(pixels, data.subarray(i * size, (i + 1) * size), tensor, layout);
  }
  return { name, datatype, shape, data } as Tensor;
}

/** An input tensor has one size. */
function exact(fit: ImageSize['fit']): ImageSize['fit'] {
  return fit === 'inside' ? 'contain' : fit;
}

function writePixels(
  pixels: Buffer,
  target: Float32Array | Uint8Array,
  { datatype, width, height, mean, std }: ImagesTensor,
  layout: ImagesTensor['layout'],
): void {
  const area = width * height;
  for (let i = 0; i < area; i++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = pixels[i * 3 + channel];
      const place = layout === 'NCHW' ? channel * area + i : i * 3 + channel;
      target[place] = datatype === 'FP32' ? (value / 255 - mean[channel]) / std[channel] : value;
    }
  }
}

/**
 * Context prompts in the order of axes that the model has.
 * @param values [P, m, d]
 */
export function contextTensor(
  values: Float32Array,
  sizes: { prompts: number; tokens: number; width: number },
  { name, axes }: TensorMapping['context'],
): Tensor {
  const usual = ['prompts', 'tokens', 'width'] as const;
  const shape = axes.map((axis) => sizes[axis]);
  const data = reordered(
    values,
    usual.map((axis) => sizes[axis]),
    axes.map((axis) => usual.indexOf(axis)),
  );
  return { name, datatype: 'FP32', shape, data };
}

/** Numbers of an output tensor as [P, N, C]. */
export function logitsOf(
  data: Float32Array | Uint16Array,
  sizes: Record<LogitsAxis, number>,
  { axes, datatype }: TensorMapping['logits'],
): Float32Array {
  const values = datatype === 'FP16' ? halfToFloat32(data as Uint16Array) : (data as Float32Array);
  const usual = ['prompts', 'images', 'classes'] as const;
  const given = [...axes, ...usual.filter((axis) => !axes.includes(axis))];
  return reordered(
    values,
    given.map((axis) => sizes[axis]),
    usual.map((axis) => given.indexOf(axis)),
  );
}

/** Transposes: the result's axis i is the source's axis `order[i]`; axes of the source that are not named have size 1. */
function reordered(values: Float32Array, sizes: number[], order: number[]): Float32Array {
  const ascending = order.every((axis, i) => i === 0 || axis > order[i - 1]);
  if (ascending) return values;
  const strides = sizes.map((_, axis) => sizes.slice(axis + 1).reduce((product, size) => product * size, 1));
  const result = new Float32Array(values.length);
  const index = order.map(() => 0);
  for (let i = 0; i < values.length; i++) {
    result[i] = values[order.reduce((sum, axis, k) => sum + index[k] * strides[axis], 0)];
    for (let k = order.length - 1; k >= 0; k--) {
      if (++index[k] < sizes[order[k]]) break;
      index[k] = 0;
    }
  }
  return result;
}
