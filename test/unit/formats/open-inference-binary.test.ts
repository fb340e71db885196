import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeInferRequest,
  decodeInferResponse,
  type EncodedBody,
  encodeInferRequest,
  encodeInferResponse,
  findTensor,
  HEADER_LENGTH_FIELD,
  halfToFloat32,
  type InferRequest,
  OpenInferenceFormatError,
  type Tensor,
  wantsBinary,
} from '../../../src/formats/open-inference-binary.js';

const shapes = fc.array(fc.nat({ max: 4 }), { minLength: 1, maxLength: 3 });
const jsonFloat = fc.float({ noNaN: true, noDefaultInfinity: true }).map((value) => (Object.is(value, -0) ? 0 : value));
const jsonLong = fc.maxSafeInteger().map((value) => BigInt(value));

const tensorOf = (name: string, json: boolean): fc.Arbitrary<Tensor> =>
  shapes.chain((shape): fc.Arbitrary<Tensor> => {
    const count = shape.reduce((product, size) => product * size, 1);
    const list = <T>(value: fc.Arbitrary<T>) => fc.array(value, { minLength: count, maxLength: count });
    const bytes = list(fc.uint8Array({ maxLength: 9 }));
    const text = list(fc.string({ unit: 'grapheme', maxLength: 5 }).map((value) => new Uint8Array(Buffer.from(value))));
    const choices: fc.Arbitrary<Tensor>[] = [
      list(json ? jsonFloat : fc.float()).map((v) => ({ name, shape, datatype: 'FP32', data: Float32Array.from(v) })),
      list(json ? jsonLong : fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })).map((v) => ({
        name,
        shape,
        datatype: 'INT64',
        data: BigInt64Array.from(v),
      })),
      list(fc.integer()).map((v) => ({ name, shape, datatype: 'INT32', data: Int32Array.from(v) })),
      list(fc.nat({ max: 255 })).map((v) => ({ name, shape, datatype: 'UINT8', data: Uint8Array.from(v) })),
      list(fc.nat({ max: 1 })).map((v) => ({ name, shape, datatype: 'BOOL', data: Uint8Array.from(v) })),
      bytes.map((data) => ({ name, shape, datatype: 'BYTES', data, parameters: { content_type: 'base64' } })),
      text.map((data) => ({ name, shape, datatype: 'BYTES', data })),
    ];
    if (!json) {
      choices.push(
        list(fc.nat({ max: 0xffff })).map((v) => ({ name, shape, datatype: 'FP16', data: Uint16Array.from(v) })),
      );
    }
    return fc.oneof(...choices);
  });

const tensors = (json: boolean) =>
  fc
    .integer({ min: 1, max: 4 })
    .chain((n) => fc.tuple(...Array.from({ length: n }, (_, i) => tensorOf(`t${i}`, json))));

const headerLengthOf = ({ headers }: EncodedBody) => headers[HEADER_LENGTH_FIELD];
const withoutSizes = (list: Tensor[]) =>
  list.map(({ parameters, ...tensor }) => {
    const { binary_data_size: _, ...others } = parameters ?? {};
    return { ...tensor, parameters: others };
  });

function rawRequest(header: unknown, binary: Uint8Array = new Uint8Array()): () => InferRequest {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  return () => decodeInferRequest(Buffer.concat([json, binary]), json.length);
}

const oneInput = (input: unknown, binary?: Uint8Array) => rawRequest({ inputs: [input] }, binary);

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof OpenInferenceFormatError) return error.code;
    throw error;
  }
  return 'no error';
}

describe('round trips', () => {
  it('keeps requests in binary, wherever the body lies in memory', () => {
    fc.assert(
      fc.property(tensors(false), fc.nat({ max: 9 }), (inputs, shift) => {
        const request = { id: 'r1', parameters: { binary_data_output: true }, inputs, outputs: [{ name: 'logits' }] };
        const encoded = encodeInferRequest(request);
        const shifted = new Uint8Array(encoded.body.length + shift).subarray(shift);
        shifted.set(encoded.body);
        const decoded = decodeInferRequest(shifted, headerLengthOf(encoded));
        expect({ ...decoded, inputs: withoutSizes(decoded.inputs) }).toEqual({
          ...request,
          inputs: withoutSizes(inputs),
        });
      }),
    );
  });

  it('keeps requests in JSON', () => {
    fc.assert(
      fc.property(tensors(true), (inputs) => {
        const encoded = encodeInferRequest({ inputs }, { binary: false });
        expect(headerLengthOf(encoded)).toBeUndefined();
        expect(withoutSizes(decodeInferRequest(encoded.body).inputs)).toEqual(withoutSizes(inputs));
      }),
    );
  });

  it('keeps responses that mix both encodings', () => {
    fc.assert(
      fc.property(tensors(true), fc.nat({ max: 15 }), (outputs, mask) => {
        const response = { modelName: 'm', modelVersion: '1', outputs };
        const encoded = encodeInferResponse(response, (name) => ((mask >> Number(name.slice(1))) & 1) === 1);
        const decoded = decodeInferResponse(encoded.body, headerLengthOf(encoded));
        expect({ ...decoded, outputs: withoutSizes(decoded.outputs) }).toEqual({
          ...response,
          outputs: withoutSizes(outputs),
        });
      }),
    );
  });
});

describe('decoding', () => {
  it('does not copy aligned tensors', () => {
    const data = Float32Array.from([1, 2, 3]);
    const encoded = encodeInferRequest({ inputs: [{ name: 'x', datatype: 'FP32', shape: [3], data }] });
    const [x] = decodeInferRequest(encoded.body, headerLengthOf(encoded)).inputs;
    expect((x.data as Float32Array).buffer).toBe(encoded.body.buffer);
  });

  it('takes nested JSON data', () => {
    const [x] = oneInput({ name: 'x', datatype: 'INT32', shape: [2, 1, 2], data: [[[1, 2]], [[3, 4]]] })().inputs;
    expect(x.data).toEqual(Int32Array.from([1, 2, 3, 4]));
  });

  it('finds a tensor by name and insists on its datatype', () => {
    const { inputs } = oneInput({ name: 'x', datatype: 'INT32', shape: [1], data: [1] })();
    expect(findTensor(inputs, 'x', 'INT32')?.data[0]).toBe(1);
    expect(findTensor(inputs, 'y', 'INT32')).toBeUndefined();
    expect(codeOf(() => findTensor(inputs, 'x', 'FP32'))).toBe('datatype');
  });

  it('prefers what one output asks for over the request-wide default', () => {
    const request = {
      inputs: [],
      parameters: { binary_data_output: true },
      outputs: [{ name: 'a', parameters: { binary_data: false } }, { name: 'b' }],
    };
    expect([wantsBinary(request, 'a'), wantsBinary(request, 'b')]).toEqual([false, true]);
    expect(wantsBinary({ inputs: [] }, 'a')).toBe(false);
  });

  it('widens half precision', () => {
    const halves = Uint16Array.from([0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000, 0x7e00]);
    expect([...halfToFloat32(halves)]).toEqual([1, -2, 2 ** -24, 65504, Number.POSITIVE_INFINITY, -0, Number.NaN]);
  });

  const fp32 = (shape: unknown, size: unknown) => ({
    name: 'x',
    datatype: 'FP32',
    shape,
    parameters: { binary_data_size: size },
  });
  const bytes = (shape: number[], binary: number[]) =>
    oneInput(
      { name: 'x', datatype: 'BYTES', shape, parameters: { binary_data_size: binary.length } },
      Uint8Array.from(binary),
    );
  const int32 = (data: unknown, shape: unknown = [2]) => oneInput({ name: 'x', datatype: 'INT32', shape, data });

  it.each<[string, string, () => unknown]>([
    ['header_length', 'a header length that is no number', () => decodeInferRequest(Buffer.from('{}'), '-1')],
    ['header_length', 'a header length with an exponent', () => decodeInferRequest(Buffer.from('{}'), '1e1')],
    ['truncated', 'a header length past the body', () => decodeInferRequest(Buffer.from('{}'), 3)],
    ['json', 'an empty body', () => decodeInferRequest(new Uint8Array())],
    ['json', 'broken JSON', rawRequest('{"inputs":[')],
    ['json', 'JSON that is no object', rawRequest('[]')],
    ['json', 'bytes that are not UTF-8', () => decodeInferRequest(Uint8Array.from([0x22, 0xff, 0x22]))],
    ['tensor', 'no inputs', rawRequest({})],
    ['tensor', 'an empty list of inputs', rawRequest({ inputs: [] })],
    ['tensor', 'too many inputs', rawRequest({ inputs: Array.from({ length: 65 }, () => ({})) })],
    ['tensor', 'an input that is null', rawRequest({ inputs: [null] })],
    ['tensor', 'a nameless input', oneInput({ datatype: 'FP32', shape: [1], data: [1] })],
    ['tensor', 'neither data nor a size', oneInput({ name: 'x', datatype: 'FP32', shape: [1] })],
    ['tensor', 'both data and a size', oneInput({ ...fp32([1], 4), data: [1] }, new Uint8Array(4))],
    ['tensor', 'parameters that are a list', oneInput({ name: 'x', datatype: 'FP32', shape: [1], parameters: [] })],
    ['datatype', 'an unknown datatype', oneInput({ name: 'x', datatype: 'toString', shape: [1], data: [1] })],
    ['datatype', 'no datatype', oneInput({ name: 'x', shape: [1], data: [1] })],
    ['shape', 'a negative size', oneInput(fp32([-1], 4))],
    ['shape', 'a fractional size', oneInput(fp32([1.5], 6))],
    ['shape', 'no dimensions', oneInput(fp32([], 4))],
    ['shape', 'an element count that overflows', oneInput(fp32([2 ** 30, 2 ** 30], 4))],
    ['shape', 'an overflow hidden by a zero', oneInput(fp32([2 ** 30, 2 ** 30, 0], 0))],
    ['size', 'a size that does not fit the shape', oneInput(fp32([2], 4), new Uint8Array(4))],
    ['size', 'a size that is no number', oneInput(fp32([1], '4'), new Uint8Array(4))],
    ['truncated', 'a tensor past the end', oneInput(fp32([2], 8), new Uint8Array(7))],
    ['trailing', 'bytes after the last tensor', oneInput(fp32([1], 4), new Uint8Array(5))],
    ['size', 'many elements in few bytes', bytes([2 ** 30], [0, 0, 0, 0])],
    ['element', 'an element past the end', bytes([1], [5, 0, 0, 0, 1])],
    ['element', 'a huge element length', bytes([1], [255, 255, 255, 255, 1])],
    ['size', 'bytes left over in BYTES', bytes([1], [1, 0, 0, 0, 1, 1])],
    [
      'element',
      'a BOOL byte of 2',
      oneInput({ name: 'x', datatype: 'BOOL', shape: [1], parameters: { binary_data_size: 1 } }, Uint8Array.from([2])),
    ],
    ['size', 'too few JSON elements', int32([1])],
    ['size', 'ragged nested lists', int32([[1, 2], [3]], [2, 2])],
    ['element', 'lists nested too deep', int32([[1], [2]])],
    ['element', 'a JSON number out of range', int32([1, 2 ** 31])],
    ['element', 'a string among numbers', int32([1, '2'])],
    ['element', 'an FP32 out of range', oneInput({ name: 'x', datatype: 'FP32', shape: [1], data: [1e39] })],
    [
      'element',
      'bad base64',
      oneInput({ name: 'x', datatype: 'BYTES', shape: [1], data: ['a*=='], parameters: { content_type: 'base64' } }),
    ],
    ['unsupported', 'FP16 in JSON', oneInput({ name: 'x', datatype: 'FP16', shape: [1], data: [1] })],
  ])('says %s for %s', (code, _, action) => {
    expect(codeOf(action)).toBe(code);
  });

  it('fails only with its own error on hostile bodies', () => {
    const decodes = (body: Uint8Array, headerLength?: string | number) => {
      try {
        decodeInferRequest(body, headerLength);
      } catch (error) {
        if (!(error instanceof OpenInferenceFormatError)) throw error;
      }
    };
    fc.assert(fc.property(fc.uint8Array(), fc.option(fc.nat({ max: 40 }), { nil: undefined }), decodes));
    fc.assert(fc.property(fc.json(), (json) => decodes(Buffer.from(`{"inputs":${json}}`))));
    const edits = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(tensors(false), edits, fc.nat({ max: 20 }), (inputs, changes, cut) => {
        const encoded = encodeInferRequest({ inputs });
        const body = encoded.body.slice(0, Math.max(1, encoded.body.length - cut));
        for (const [at, value] of changes) body[at % body.length] = value;
        decodes(body, headerLengthOf(encoded));
      }),
      { numRuns: 500 },
    );
  });
});

describe('encoding', () => {
  const encode = (tensor: Tensor, binary: boolean) => () => encodeInferRequest({ inputs: [tensor] }, { binary });

  it('refuses what the format cannot carry', () => {
    const nan: Tensor = { name: 'x', datatype: 'FP32', shape: [1], data: Float32Array.from([Number.NaN]) };
    expect(codeOf(encode(nan, false))).toBe('element');
    expect(codeOf(encode(nan, true))).toBe('no error');
    const long: Tensor = { name: 'x', datatype: 'INT64', shape: [1], data: BigInt64Array.from([2n ** 60n]) };
    expect(codeOf(encode(long, false))).toBe('element');
    const notText: Tensor = { name: 'x', datatype: 'BYTES', shape: [1], data: [Uint8Array.from([0xff])] };
    expect(codeOf(encode(notText, false))).toBe('element');
    const wrongShape: Tensor = { name: 'x', datatype: 'UINT8', shape: [2], data: new Uint8Array(3) };
    expect(codeOf(encode(wrongShape, true))).toBe('size');
    expect(codeOf(encode(wrongShape, false))).toBe('size');
  });
});
