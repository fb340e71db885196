import {
  binarySize,
  type Datatype,
  elementCount,
  NUMERIC_ARRAYS,
  type NumericDatatype,
  OpenInferenceFormatError,
  type Parameters,
  type Tensor,
} from './open-inference-tensor.js';

/** The elements of Open Inference Protocol tensors as JSON values. */

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Elements from the JSON form: a flat list, or lists nested as deep as the shape. */
export function readJson(
  name: string,
  datatype: Datatype,
  shape: number[],
  data: unknown,
  parameters?: Parameters,
): Tensor['data'] {
  const count = elementCount(name, shape);
  const flat = flatten(name, shape, count, data);
  if (datatype === 'BYTES') {
    const base64 = parameters?.content_type === 'base64';
    return flat.map((value, i) => bytesFromJson(`${name}[${i}]`, value, base64));
  }
  const array = new NUMERIC_ARRAYS[datatype](count);
  for (let i = 0; i < count; i++) array[i] = numberFromJson(`${name}[${i}]`, datatype, flat[i]);
  return array;
}

/** The JSON form of the tensor's elements, flat. BYTES become strings (base64 where `content_type` says so). */
export function writeJson(tensor: Tensor): unknown[] {
  binarySize(tensor);
  switch (tensor.datatype) {
    case 'BYTES':
      return tensor.data.map((bytes, i) => bytesToJson(`${tensor.name}[${i}]`, bytes, tensor.parameters));
    case 'BOOL':
      return Array.from(tensor.data, (byte) => byte !== 0);
    case 'FP16':
      throw new OpenInferenceFormatError('unsupported', `${tensor.name}: FP16 exists in the binary form only.`);
    case 'INT64':
      return Array.from(tensor.data, (value, i) => {
        if (Number.isSafeInteger(Number(value))) return Number(value);
        throw new OpenInferenceFormatError(
          'element',
          `${tensor.name}[${i}]: ${value} is not exact in JSON; send it binary.`,
        );
      });
    case 'FP32':
      return Array.from(tensor.data, (value, i) => {
        if (Number.isFinite(value)) return value;
        throw new OpenInferenceFormatError(
          'element',
          `${tensor.name}[${i}]: ${value} cannot be written in JSON; send it binary.`,
        );
      });
    default:
      return Array.from(tensor.data);
  }
}

function flatten(name: string, shape: number[], count: number, data: unknown): unknown[] {
  if (!Array.isArray(data)) {
    throw new OpenInferenceFormatError('tensor', `${name}: "data" must be a list.`);
  }
  // Both forms look the same for one dimension; a first element that is itself a list tells nested from flat.
  let level: unknown[] = data;
  if (shape.length > 1 && Array.isArray(data[0])) {
    for (const [depth, size] of shape.slice(1).entries()) {
      if (level.some((row) => !Array.isArray(row) || row.length !== size)) {
        throw new OpenInferenceFormatError(
          'size',
          `${name}: the nested "data" is not ${size} wide at depth ${depth + 1}.`,
        );
      }
      level = level.flat(1);
    }
  }
  if (level.length !== count) {
    throw new OpenInferenceFormatError(
      'size',
      `${name}: shape [${shape}] needs ${count} elements, but "data" has ${level.length}.`,
    );
  }
  return level;
}

function numberFromJson(at: string, datatype: NumericDatatype, value: unknown): number | bigint {
  const fail = (expected: string): never => {
    throw new OpenInferenceFormatError('element', `${at}: expected ${expected}.`);
  };
  const whole = (low: number, high: number): number =>
    Number.isSafeInteger(value) && (value as number) >= low && (value as number) <= high
      ? (value as number)
      : fail(`a whole number from ${low} to ${high}`);
  switch (datatype) {
    case 'BOOL':
      return typeof value === 'boolean' ? Number(value) : fail('true or false');
    case 'FP16':
      throw new OpenInferenceFormatError('unsupported', `${at}: FP16 exists in the binary form only.`);
    case 'FP32':
      return typeof value === 'number' && Number.isFinite(Math.fround(value))
        ? value
        : fail('a number in the range of FP32');
    case 'INT64':
      return BigInt(whole(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER));
    case 'INT32':
      return whole(-(2 ** 31), 2 ** 31 - 1);
    case 'UINT8':
      return whole(0, 255);
  }
}

function bytesFromJson(at: string, value: unknown, base64: boolean): Uint8Array {
  if (typeof value !== 'string') throw new OpenInferenceFormatError('element', `${at}: expected a string.`);
  if (!base64) return new Uint8Array(Buffer.from(value, 'utf8'));
  if (value.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(value)) {
    throw new OpenInferenceFormatError('element', `${at}: not valid base64.`);
  }
  return new Uint8Array(Buffer.from(value, 'base64'));
}

function bytesToJson(at: string, bytes: Uint8Array, parameters?: Parameters): string {
  if (parameters?.content_type === 'base64') {
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
  }
  try {
    return utf8.decode(bytes);
  } catch {
    throw new OpenInferenceFormatError(
      'element',
      `${at}: not UTF-8 text; send it binary, or set the tensor's parameter "content_type" to "base64".`,
    );
  }
}
