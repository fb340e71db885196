/** Tensors of the Open Inference Protocol v2: their datatypes and their binary form. */

/** The typed array that holds one tensor's elements, row-major, for each datatype of the protocol. */
export interface DatatypeArrays {
  FP32: Float32Array;
  /** The raw half-precision bits; see {@link halfToFloat32}. */
  FP16: Uint16Array;
  INT64: BigInt64Array;
  INT32: Int32Array;
  UINT8: Uint8Array;
  /** One byte an element, 0 or 1. */
  BOOL: Uint8Array;
  /** One byte string an element. */
  BYTES: Uint8Array[];
}

export type Datatype = keyof DatatypeArrays;
export type Parameters = Record<string, unknown>;

export interface TensorOf<D extends Datatype> {
  name: string;
  datatype: D;
  /** Row-major; the product of the dimensions is the number of elements. */
  shape: number[];
  data: DatatypeArrays[D];
  parameters?: Parameters;
}

export type Tensor = { [D in Datatype]: TensorOf<D> }[Datatype];

export type FormatErrorCode =
  | 'header_length'
  | 'json'
  | 'tensor'
  | 'datatype'
  | 'shape'
  | 'size'
  | 'truncated'
  | 'trailing'
  | 'element'
  | 'unsupported';

/** A body, or a tensor handed over for encoding, that the Open Inference Protocol does not allow. */
export class OpenInferenceFormatError extends Error {
  override readonly name = 'OpenInferenceFormatError';
  constructor(
    readonly code: FormatErrorCode,
    message: string,
  ) {
    super(message);
  }
}

const MAX_RANK = 8;
const MAX_ELEMENTS = 2 ** 31 - 1;
const LENGTH_PREFIX = 4;

const ELEMENT_BYTES = { FP32: 4, FP16: 2, INT64: 8, INT32: 4, UINT8: 1, BOOL: 1 } as const;
export type NumericDatatype = keyof typeof ELEMENT_BYTES;

export const NUMERIC_ARRAYS = {
  FP32: Float32Array,
  FP16: Uint16Array,
  INT64: BigInt64Array,
  INT32: Int32Array,
  UINT8: Uint8Array,
  BOOL: Uint8Array,
} as const;

const HOST_IS_LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

export function isDatatype(value: unknown): value is Datatype {
  return value === 'BYTES' || (typeof value === 'string' && Object.hasOwn(ELEMENT_BYTES, value));
}

/** The number of elements of `shape`. @throws OpenInferenceFormatError when it is no usable shape. */
export function elementCount(name: string, shape: unknown): number {
  if (!Array.isArray(shape) || shape.length === 0 || shape.length > MAX_RANK) {
    throw new OpenInferenceFormatError('shape', `${name}: "shape" must be a list of 1 to ${MAX_RANK} sizes.`);
  }
  let count = 1;
  let empty = false;
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0) {
      throw new OpenInferenceFormatError('shape', `${name}: every size in "shape" must be a whole number from 0 up.`);
    }
    if (size === 0) empty = true;
    else count *= size;
    if (count > MAX_ELEMENTS) {
      throw new OpenInferenceFormatError('shape', `${name}: "shape" holds more than ${MAX_ELEMENTS} elements.`);
    }
  }
  return empty ? 0 : count;
}

/** IEEE 754 half-precision bits as single-precision numbers (exact). */
export function halfToFloat32(bits: Uint16Array): Float32Array {
  return Float32Array.from(bits, (half) => {
    const exponent = (half >> 10) & 0x1f;
    const fraction = half & 0x3ff;
    const sign = half & 0x8000 ? -1 : 1;
    if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}

/** The size in bytes of the tensor's binary form. @throws OpenInferenceFormatError when data and shape disagree. */
export function binarySize(tensor: Tensor): number {
  const count = elementCount(tensor.name, tensor.shape);
  if (tensor.data.length !== count) {
    throw new OpenInferenceFormatError(
      'size',
      `${tensor.name}: shape [${tensor.shape}] needs ${count} elements, but there are ${tensor.data.length}.`,
    );
  }
  if (tensor.datatype !== 'BYTES') return count * ELEMENT_BYTES[tensor.datatype];
  let size = 0;
  for (const element of tensor.data) size += LENGTH_PREFIX + element.byteLength;
  return size;
}

/** Writes the tensor's binary form into `target` (exactly `binarySize(tensor)` bytes long). */
export function writeBinary(tensor: Tensor, target: Uint8Array): void {
  if (tensor.datatype !== 'BYTES') {
    requireLittleEndian();
    target.set(new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength));
    return;
  }
  const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
  let offset = 0;
  for (const element of tensor.data) {
    view.setUint32(offset, element.byteLength, true);
    target.set(element, offset + LENGTH_PREFIX);
    offset += LENGTH_PREFIX + element.byteLength;
  }
}

/** Elements from their binary form; a view on `bytes` where the alignment allows it. */
export function readBinary(name: string, datatype: Datatype, count: number, bytes: Uint8Array): Tensor['data'] {
  if (datatype === 'BYTES') return readByteStrings(name, count, bytes);
  requireLittleEndian();
  const expected = count * ELEMENT_BYTES[datatype];
  if (bytes.byteLength !== expected) {
    throw new OpenInferenceFormatError(
      'size',
      `${name}: ${count} elements of ${datatype} take ${expected} bytes, but binary_data_size is ${bytes.byteLength}.`,
    );
  }
  if (datatype === 'BOOL' && bytes.some((byte) => byte > 1)) {
    throw new OpenInferenceFormatError('element', `${name}: a BOOL byte must be 0 or 1.`);
  }
  const aligned = bytes.byteOffset % ELEMENT_BYTES[datatype] === 0 ? bytes : new Uint8Array(bytes);
  return new NUMERIC_ARRAYS[datatype](aligned.buffer as ArrayBuffer, aligned.byteOffset, count);
}

function readByteStrings(name: string, count: number, bytes: Uint8Array): Uint8Array[] {
  if (count * LENGTH_PREFIX > bytes.byteLength) {
    throw new OpenInferenceFormatError(
      'size',
      `${name}: ${count} elements of BYTES take at least ${count * LENGTH_PREFIX} bytes, but binary_data_size is ${bytes.byteLength}.`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const elements: Uint8Array[] = [];
  let offset = 0;
  for (let i = 0; i < count; i++) {
    const start = offset + LENGTH_PREFIX;
    const length = start <= bytes.byteLength ? view.getUint32(offset, true) : Number.POSITIVE_INFINITY;
    if (start + length > bytes.byteLength) {
      throw new OpenInferenceFormatError(
        'element',
        `${name}[${i}]: the element runs past the end of the tensor's data.`,
      );
    }
    offset = start + length;
    elements.push(bytes.subarray(start, offset));
  }
  if (offset !== bytes.byteLength) {
    throw new OpenInferenceFormatError(
      'size',
      `${name}: ${bytes.byteLength - offset} bytes are left over after ${count} elements.`,
    );
  }
  return elements;
}

function requireLittleEndian(): void {
  if (HOST_IS_LITTLE_ENDIAN) return;
  throw new OpenInferenceFormatError('unsupported', 'Binary tensors need a little-endian host.');
}
