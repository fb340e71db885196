/**
 * The safetensors container: an 8-byte little-endian header length, a JSON header, then raw little-endian numbers.
 * https://huggingface.co/docs/safetensors
 */

/** The bytes are not a valid safetensors file, or the tensors cannot be written as one. */
export class SafetensorsError extends Error {
  override name = 'SafetensorsError';
}

export type TensorData =
  | Float64Array
  | Float32Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

interface TensorDataConstructor {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBuffer): TensorData;
}

// Half-precision numbers have no typed array in Node 20; they are carried as their bits.
const CONSTRUCTORS = {
  F64: Float64Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
  F32: Float32Array,
  I32: Int32Array,
  U32: Uint32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I16: Int16Array,
  U16: Uint16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
} as const satisfies Record<string, TensorDataConstructor>;

export type Dtype = keyof typeof CONSTRUCTORS;

const DTYPES = Object.keys(CONSTRUCTORS) as Dtype[];

export interface SafetensorsTensor {
  dtype: Dtype;
  /** Row-major; empty for a scalar. */
  shape: number[];
  /** One entry per element. F16 and BF16 are carried as their bits. */
  data: TensorData;
}

export interface SafetensorsFile {
  tensors: Map<string, SafetensorsTensor>;
  metadata: Record<string, string>;
}

export interface ReadLimits {
  /** Longest JSON header that is parsed, in bytes; 1 MiB where absent. */
  maxHeaderBytes?: number;
  /** Most tensors; 10,000 where absent. */
  maxTensors?: number;
}

const MAX_RANK = 16;

/** Number of elements, or null where it is not a safe integer. */
function elementCount(shape: readonly number[]): number | null {
  const count = shape.reduce((product, size) => product * size, 1);
  return Number.isSafeInteger(count) ? count : null;
}

function isShape(value: unknown): value is number[] {
  return (
    Array.isArray(value) && value.length <= MAX_RANK && value.every((size) => Number.isSafeInteger(size) && size >= 0)
  );
}

/**
 * @throws SafetensorsError if a shape does not fit its data
 */
export function writeSafetensors(
  tensors: Map<string, SafetensorsTensor> | Record<string, SafetensorsTensor>,
  metadata: Record<string, string> = {},
): Uint8Array {
  const entries = tensors instanceof Map ? [...tensors] : Object.entries(tensors);
  // Wide types first keeps every tensor aligned to its own width, as the reference implementation does.
  entries.sort(([nameA, a], [nameB, b]) => {
    return DTYPES.indexOf(a.dtype) - DTYPES.indexOf(b.dtype) || (nameA < nameB ? -1 : 1);
  });
  const header: [string, unknown][] = Object.keys(metadata).length > 0 ? [['__metadata__', metadata]] : [];
  let offset = 0;
  for (const [name, { dtype, shape, data }] of entries) {
    if (name === '__metadata__') throw new SafetensorsError('A tensor must not be named __metadata__.');
    if (!isShape(shape) || elementCount(shape) !== data.length || !(data instanceof CONSTRUCTORS[dtype])) {
      throw new SafetensorsError(`Tensor "${name}": ${data.length} numbers do not fit ${dtype} [${shape.join(', ')}].`);
    }
    header.push([name, { dtype, shape, data_offsets: [offset, offset + data.byteLength] }]);
    offset += data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const headerLength = Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(8 + headerLength + offset);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerLength), true);
  bytes.fill(0x20, 8, 8 + headerLength);
  bytes.set(json, 8);
  let position = 8 + headerLength;
  for (const [, { data }] of entries) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), position);
    position += data.byteLength;
  }
  return bytes;
}

/**
 * Reads a file from an untrusted source. The data are copied, so the input may be reused afterwards.
 * @throws SafetensorsError on anything that is not exactly a safetensors file: the tensors must cover the data without
 *   holes or overlap, and each shape must match its byte range
 */
export function readSafetensors(bytes: Uint8Array, limits: ReadLimits = {}): SafetensorsFile {
  const { maxHeaderBytes = 1_048_576, maxTensors = 10_000 } = limits;
  const { header, dataStart } = readHeader(bytes, maxHeaderBytes);
  const entries = Object.entries(header).filter(([name]) => name !== '__metadata__');
  if (entries.length > maxTensors) {
    throw new SafetensorsError(`The file has ${entries.length} tensors; at most ${maxTensors} are accepted.`);
  }
  const ranges = entries.map(([name, value]) => parseEntry(name, value));
  ranges.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  for (const { name, begin, end } of ranges) {
    if (begin !== position) {
      throw new SafetensorsError(`Tensor "${name}" starts at byte ${begin} of the data, not at ${position}.`);
    }
    position = end;
  }
  if (position !== bytes.length - dataStart) {
    throw new SafetensorsError(`The tensors take ${position} bytes, but the data have ${bytes.length - dataStart}.`);
  }
  const tensors = new Map<string, SafetensorsTensor>();
  for (const { name, dtype, shape, begin, end } of ranges) {
    const copy = new Uint8Array(end - begin);
    copy.set(bytes.subarray(dataStart + begin, dataStart + end));
    tensors.set(name, { dtype, shape, data: new CONSTRUCTORS[dtype](copy.buffer) });
  }
  return { tensors, metadata: parseMetadata(header) };
}

function readHeader(bytes: Uint8Array, maxHeaderBytes: number) {
  if (bytes.length < 8) throw new SafetensorsError('The file is too short to hold a safetensors header.');
  const declared = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  if (declared > BigInt(maxHeaderBytes)) {
    throw new SafetensorsError(`The header declares ${declared} bytes; at most ${maxHeaderBytes} are accepted.`);
  }
  const dataStart = 8 + Number(declared);
  if (dataStart > bytes.length) throw new SafetensorsError('The file ends within its header.');
  if (bytes[8] !== 0x7b) throw new SafetensorsError('The header must start with "{".');
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(8, dataStart)));
  } catch (cause) {
    throw new SafetensorsError('The header is not valid JSON in UTF-8.', { cause });
  }
  if (!isObject(header)) throw new SafetensorsError('The header must be a JSON object.');
  return { header, dataStart };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseMetadata(header: Record<string, unknown>): Record<string, string> {
  const metadata = header.__metadata__ ?? {};
  if (!isObject(metadata) || Object.values(metadata).some((value) => typeof value !== 'string')) {
    throw new SafetensorsError('__metadata__ must map strings to strings.');
  }
  return metadata as Record<string, string>;
}

function parseEntry(name: string, value: unknown) {
  const fail = (reason: string) => new SafetensorsError(`Tensor ${JSON.stringify(name)}: ${reason}.`);
  if (!isObject(value)) throw fail('its entry must be an object');
  const { dtype, shape, data_offsets: offsets } = value;
  if (!DTYPES.includes(dtype as Dtype)) throw fail(`dtype must be one of ${DTYPES.join(', ')}`);
  if (!isShape(shape)) throw fail(`shape must be at most ${MAX_RANK} non-negative integers`);
  if (!isShape(offsets) || offsets.length !== 2 || offsets[0] > offsets[1]) {
    throw fail('data_offsets must be two ascending non-negative integers');
  }
  const [begin, end] = offsets;
  const count = elementCount(shape);
  if (count === null || count * CONSTRUCTORS[dtype as Dtype].BYTES_PER_ELEMENT !== end - begin) {
    throw fail(`${end - begin} bytes do not fit ${dtype} [${shape.join(', ')}]`);
  }
  return { name, dtype: dtype as Dtype, shape, begin, end };
}
