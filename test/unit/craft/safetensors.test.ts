import { describe, expect, it } from 'vitest';
import {
  readSafetensors,
  SafetensorsError,
  type SafetensorsTensor,
  writeSafetensors,
} from '../../../src/formats/safetensors.js';

/** A file with any header, valid or not. */
function fileWith(header: unknown, dataLength = 0): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + dataLength);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

const entry = (begin: number, end: number, shape: unknown = [end - begin], dtype: unknown = 'U8') => {
  return { dtype, shape, data_offsets: [begin, end] };
};

describe('safetensors', () => {
  const tensors: Record<string, SafetensorsTensor> = {
    bytes: { dtype: 'U8', shape: [3], data: Uint8Array.of(1, 2, 255) },
    weights: { dtype: 'F32', shape: [2, 2], data: Float32Array.of(1.5, -0, NaN, Infinity) },
    precise: { dtype: 'F64', shape: [1], data: Float64Array.of(Math.PI) },
    ids: { dtype: 'I64', shape: [2], data: BigInt64Array.of(-5n, 2n ** 62n) },
    labels: { dtype: 'I32', shape: [1, 2], data: Int32Array.of(-1, 7) },
    half: { dtype: 'F16', shape: [2], data: Uint16Array.of(0x3c00, 0xc000) },
    flags: { dtype: 'BOOL', shape: [2], data: Uint8Array.of(0, 1) },
    scalar: { dtype: 'F32', shape: [], data: Float32Array.of(3) },
    nothing: { dtype: 'F32', shape: [0, 4], data: new Float32Array() },
    __proto: { dtype: 'U8', shape: [1], data: Uint8Array.of(9) },
  };

  it('reads what it wrote, from any offset', () => {
    const bytes = writeSafetensors(tensors, { format: 'test', note: 'ä "quoted"' });
    const shifted = new Uint8Array(bytes.length + 5);
    shifted.set(bytes, 5);
    for (const file of [readSafetensors(bytes), readSafetensors(shifted.subarray(5))]) {
      expect(Object.fromEntries(file.tensors)).toEqual(tensors);
      expect(file.metadata).toEqual({ format: 'test', note: 'ä "quoted"' });
    }
  });

  it('aligns every tensor and does not depend on the order of the entries', () => {
    const bytes = writeSafetensors(tensors);
    const headerLength = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    expect(headerLength % 8).toBe(0);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength)));
    for (const [name, { data_offsets: offsets }] of Object.entries<{ data_offsets: number[] }>(header)) {
      expect(offsets[0] % tensors[name].data.BYTES_PER_ELEMENT, name).toBe(0);
    }
    expect(writeSafetensors(Object.fromEntries(Object.entries(tensors).reverse()))).toEqual(bytes);
  });

  it('reads a file of the documented layout', () => {
    const bytes = fileWith({ a: entry(0, 4, [1], 'F32'), b: entry(4, 6, [2], 'I8') }, 6);
    bytes.set([0, 0, 0x80, 0x3f, 0xff, 2], bytes.length - 6);
    const file = readSafetensors(bytes);
    expect(file.tensors.get('a')?.data).toEqual(Float32Array.of(1));
    expect(file.tensors.get('b')?.data).toEqual(Int8Array.of(-1, 2));
    expect(file.metadata).toEqual({});
  });

  it('keeps a tensor named __proto__ harmless', () => {
    const file = readSafetensors(fileWith('{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1));
    expect([...file.tensors.keys()]).toEqual(['__proto__']);
  });

  it.each<[string, Uint8Array]>([
    ['nothing', new Uint8Array()],
    ['seven bytes', new Uint8Array(7)],
    ['an empty header', fileWith('')],
    ['a header longer than the file', fileWith('{}').subarray(0, 9)],
    ['a header length of 2^64 - 1', new Uint8Array(16).fill(255)],
    ['a header that is no object', fileWith('[]')],
    ['a header after a space', fileWith(' {}')],
    ['a broken header', fileWith('{"a":')],
    ['a header that is not UTF-8', fileWith('{"a": "b"}').map((byte) => (byte === 0x62 ? 0xff : byte))],
    ['data that no tensor covers', fileWith({}, 1)],
    ['too little data', fileWith({ a: entry(0, 4) }, 3)],
    ['too much data', fileWith({ a: entry(0, 4) }, 5)],
    ['a hole', fileWith({ a: entry(0, 1), b: entry(2, 3) }, 3)],
    ['an overlap', fileWith({ a: entry(0, 2), b: entry(1, 3) }, 3)],
    ['two names for the same bytes', fileWith({ a: entry(0, 2), b: entry(0, 2) }, 2)],
    ['descending offsets', fileWith({ a: entry(2, 0, [0]) }, 2)],
    ['negative offsets', fileWith({ a: entry(-1, 1, [2]) }, 1)],
    ['offsets that are no integers', fileWith({ a: entry(0, 1.5, [1]) }, 2)],
    [
      'offsets beyond 2^53',
      fileWith('{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,9007199254740993]}}', 1),
    ],
    ['three offsets', fileWith({ a: { dtype: 'U8', shape: [1], data_offsets: [0, 1, 1] } }, 1)],
    ['a shape that does not fit', fileWith({ a: entry(0, 4, [3]) }, 4)],
    ['a negative shape', fileWith({ a: entry(0, 4, [-2, -2]) }, 4)],
    ['a shape whose product overflows', fileWith({ a: entry(0, 4, [2 ** 52, 2 ** 52]) }, 4)],
    ['a shape that is no list', fileWith({ a: entry(0, 4, 4) }, 4)],
    ['too many dimensions', fileWith({ a: entry(0, 1, new Array(17).fill(1)) }, 1)],
    ['an unknown dtype', fileWith({ a: entry(0, 1, [1], 'U7') }, 1)],
    ['a dtype of the prototype', fileWith({ a: entry(0, 1, [1], 'constructor') }, 1)],
    ['an entry that is no object', fileWith({ a: null })],
    ['metadata that are no strings', fileWith({ __metadata__: { a: 1 } })],
    ['metadata that are a list', fileWith({ __metadata__: [] })],
  ])('rejects %s', (_, bytes) => {
    expect(() => readSafetensors(bytes)).toThrow(SafetensorsError);
  });

  it('holds to its limits', () => {
    const bytes = writeSafetensors(tensors);
    expect(() => readSafetensors(bytes, { maxHeaderBytes: 64 })).toThrow(/at most 64/);
    expect(() => readSafetensors(bytes, { maxTensors: 9 })).toThrow(/at most 9/);
    expect(readSafetensors(bytes, { maxTensors: 10 }).tensors.size).toBe(10);
  });

  it.each<[string, SafetensorsTensor]>([
    ['a', { dtype: 'F32', shape: [2], data: new Float32Array(3) }],
    ['a', { dtype: 'F32', shape: [2], data: new Float64Array(2) }],
    ['a', { dtype: 'F32', shape: [-1], data: new Float32Array(1) }],
    ['__metadata__', { dtype: 'F32', shape: [1], data: new Float32Array(1) }],
  ])('does not write %s as %j', (name, tensor) => {
    expect(() => writeSafetensors({ [name]: tensor })).toThrow(SafetensorsError);
  });
});
