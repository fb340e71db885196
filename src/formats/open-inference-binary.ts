import { readJson, writeJson } from './open-inference-json.js';
import {
  binarySize,
  type Datatype,
  elementCount,
  isDatatype,
  OpenInferenceFormatError,
  type Parameters,
  readBinary,
  type Tensor,
  type TensorOf,
  writeBinary,
} from './open-inference-tensor.js';

/**
 * The bodies of the Open Inference Protocol v2 with its binary tensor extension: a JSON header, then the raw bytes of
 * the tensors that carry a `binary_data_size` parameter, in the order in which the header lists them. The HTTP header
 * `Inference-Header-Content-Length` says where the JSON ends; without it the whole body is JSON.
 */

export * from './open-inference-tensor.js';

export const HEADER_LENGTH_FIELD = 'inference-header-content-length';

export interface RequestedOutput {
  name: string;
  parameters?: Parameters;
}

export interface InferRequest {
  id?: string;
  parameters?: Parameters;
  inputs: Tensor[];
  /** Absent or empty: all outputs. */
  outputs?: RequestedOutput[];
}

export interface InferResponse {
  modelName: string;
  modelVersion?: string;
  id?: string;
  parameters?: Parameters;
  outputs: Tensor[];
}

/** A body with the HTTP headers that belong to it. */
export interface EncodedBody {
  headers: Record<string, string>;
  body: Uint8Array;
}

const MAX_TENSORS = 64;
const MAX_NAME_LENGTH = 256;
// Readers can use the tensors in place, without copying, when they start at a multiple of their element size.
const ALIGNMENT = 8;

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Encodes a request; `binary: false` writes every input as JSON. */
export function encodeInferRequest(request: InferRequest, options: { binary?: boolean } = {}): EncodedBody {
  const binary = options.binary ?? true;
  const header = {
    ...(request.id === undefined ? {} : { id: request.id }),
    ...(request.parameters === undefined ? {} : { parameters: request.parameters }),
    inputs: request.inputs.map((tensor) => describe(tensor, binary)),
    ...(request.outputs === undefined ? {} : { outputs: request.outputs }),
  };
  return assemble(header, binary ? request.inputs : []);
}

/** Encodes a response; `binary` says, output by output, which encoding to use (default: all binary). */
export function encodeInferResponse(
  response: InferResponse,
  binary: (outputName: string) => boolean = () => true,
): EncodedBody {
  const header = {
    model_name: response.modelName,
    ...(response.modelVersion === undefined ? {} : { model_version: response.modelVersion }),
    ...(response.id === undefined ? {} : { id: response.id }),
    ...(response.parameters === undefined ? {} : { parameters: response.parameters }),
    outputs: response.outputs.map((tensor) => describe(tensor, binary(tensor.name))),
  };
  return assemble(
    header,
    response.outputs.filter((tensor) => binary(tensor.name)),
  );
}

/**
 * Decodes a request body.
 * @param headerLength the value of `Inference-Header-Content-Length`, where the request has one.
 * @throws OpenInferenceFormatError saying what is wrong with the body.
 */
export function decodeInferRequest(body: Uint8Array, headerLength?: string | number): InferRequest {
  const { header, rest } = split(body, headerLength);
  const request: InferRequest = { inputs: readTensors('inputs', header.inputs, rest) };
  if (header.id !== undefined) request.id = text('id', header.id);
  if (header.parameters !== undefined) request.parameters = parametersOf('the request', header.parameters);
  if (header.outputs !== undefined) request.outputs = requestedOutputs(header.outputs);
  return request;
}

/** Decodes a response body; see {@link decodeInferRequest}. */
export function decodeInferResponse(body: Uint8Array, headerLength?: string | number): InferResponse {
  const { header, rest } = split(body, headerLength);
  const response: InferResponse = {
    modelName: text('model_name', header.model_name),
    outputs: readTensors('outputs', header.outputs, rest),
  };
  if (header.model_version !== undefined) response.modelVersion = text('model_version', header.model_version);
  if (header.id !== undefined) response.id = text('id', header.id);
  if (header.parameters !== undefined) response.parameters = parametersOf('the response', header.parameters);
  return response;
}

/** Whether `request` asks for `outputName` in binary: per output, or else for all by `binary_data_output`. */
export function wantsBinary(request: InferRequest, outputName: string): boolean {
  const own = request.outputs?.find((output) => output.name === outputName)?.parameters?.binary_data;
  return typeof own === 'boolean' ? own : request.parameters?.binary_data_output === true;
}

/** The tensor called `name` with `datatype`, or undefined when there is none of that name. */
export function findTensor<D extends Datatype>(tensors: Tensor[], name: string, datatype: D): TensorOf<D> | undefined {
  const tensor = tensors.find((candidate) => candidate.name === name);
  if (tensor === undefined) return undefined;
  if (tensor.datatype !== datatype) {
    throw new OpenInferenceFormatError('datatype', `${name}: must be ${datatype}, not ${tensor.datatype}.`);
  }
  return tensor as TensorOf<D>;
}

function describe(tensor: Tensor, binary: boolean): Record<string, unknown> {
  const { binary_data_size: _, ...parameters } = tensor.parameters ?? {};
  const entry = { name: tensor.name, datatype: tensor.datatype, shape: tensor.shape };
  if (binary) return { ...entry, parameters: { ...parameters, binary_data_size: binarySize(tensor) } };
  const data = writeJson(tensor);
  return Object.keys(parameters).length > 0 ? { ...entry, parameters, data } : { ...entry, data };
}

function assemble(header: unknown, binaryTensors: Tensor[]): EncodedBody {
  const json = Buffer.from(JSON.stringify(header), 'utf8');
  if (binaryTensors.length === 0) return { headers: { 'content-type': 'application/json' }, body: json };
  const headerLength = Math.ceil(json.length / ALIGNMENT) * ALIGNMENT;
  const sizes = binaryTensors.map(binarySize);
  const body = new Uint8Array(sizes.reduce((sum, size) => sum + size, headerLength));
  body.fill(0x20, json.length, headerLength);
  body.set(json);
  let offset = headerLength;
  for (const [i, tensor] of binaryTensors.entries()) {
    writeBinary(tensor, body.subarray(offset, offset + sizes[i]));
    offset += sizes[i];
  }
  return {
    headers: { 'content-type': 'application/octet-stream', [HEADER_LENGTH_FIELD]: String(headerLength) },
    body,
  };
}

function split(body: Uint8Array, headerLength: string | number | undefined) {
  // A Buffer's subarray and slice differ from Uint8Array's; from here on only the latter is used.
  const bytes = new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  const end = headerLength === undefined ? bytes.length : parseHeaderLength(headerLength, bytes.length);
  let header: unknown;
  try {
    header = JSON.parse(utf8.decode(bytes.subarray(0, end)));
  } catch (error) {
    const reason = error instanceof SyntaxError ? 'is not valid JSON' : 'is not valid UTF-8';
    const hint = headerLength === undefined ? ' (binary tensors need the header Inference-Header-Content-Length)' : '';
    throw new OpenInferenceFormatError('json', `The JSON part of the body ${reason}${hint}.`);
  }
  if (!isObject(header)) throw new OpenInferenceFormatError('json', 'The JSON part of the body must be an object.');
  return { header, rest: bytes.subarray(end) };
}

function parseHeaderLength(value: string | number, bodyLength: number): number {
  const length = /^\d{1,15}$/.test(String(value)) ? Number(value) : Number.NaN;
  if (Number.isNaN(length)) {
    throw new OpenInferenceFormatError('header_length', 'Inference-Header-Content-Length must be a whole number.');
  }
  if (length > bodyLength) {
    throw new OpenInferenceFormatError(
      'truncated',
      `Inference-Header-Content-Length is ${length}, but the body has only ${bodyLength} bytes.`,
    );
  }
  return length;
}

function readTensors(field: 'inputs' | 'outputs', list: unknown, rest: Uint8Array): Tensor[] {
  if (!Array.isArray(list) || list.length === 0 || list.length > MAX_TENSORS) {
    throw new OpenInferenceFormatError('tensor', `"${field}" must be a list of 1 to ${MAX_TENSORS} tensors.`);
  }
  const seen = new Set<string>();
  let offset = 0;
  const tensors = list.map((entry: unknown, i): Tensor => {
    if (!isObject(entry)) throw new OpenInferenceFormatError('tensor', `${field}[${i}]: must be an object.`);
    const name = text(`${field}[${i}].name`, entry.name);
    if (seen.has(name)) throw new OpenInferenceFormatError('tensor', `${field}[${i}]: "${name}" appears twice.`);
    seen.add(name);
    if (!isDatatype(entry.datatype)) {
      const given = String(JSON.stringify(entry.datatype)).slice(0, 40);
      throw new OpenInferenceFormatError('datatype', `${name}: unknown datatype ${given}.`);
    }
    const count = elementCount(name, entry.shape);
    const shape = entry.shape as number[];
    const parameters = entry.parameters === undefined ? undefined : parametersOf(name, entry.parameters);
    const size = binaryDataSize(name, entry, parameters);
    if (size !== undefined && size > rest.length - offset) {
      throw new OpenInferenceFormatError(
        'truncated',
        `${name}: binary_data_size is ${size}, but only ${rest.length - offset} bytes are left in the body.`,
      );
    }
    const data =
      size === undefined
        ? readJson(name, entry.datatype, shape, entry.data, parameters)
        : readBinary(name, entry.datatype, count, rest.subarray(offset, offset + size));
    offset += size ?? 0;
    return { name, datatype: entry.datatype, shape, data, ...(parameters && { parameters }) } as Tensor;
  });
  if (offset !== rest.length) {
    throw new OpenInferenceFormatError('trailing', `${rest.length - offset} bytes follow the last tensor.`);
  }
  return tensors;
}

function binaryDataSize(name: string, entry: Record<string, unknown>, parameters?: Parameters): number | undefined {
  const size = parameters?.binary_data_size;
  if ((size === undefined) === (entry.data === undefined)) {
    throw new OpenInferenceFormatError('tensor', `${name}: give either "data" or the parameter "binary_data_size".`);
  }
  if (size !== undefined && !(Number.isSafeInteger(size) && (size as number) >= 0)) {
    throw new OpenInferenceFormatError('size', `${name}: "binary_data_size" must be a whole number from 0 up.`);
  }
  return size as number | undefined;
}

function requestedOutputs(list: unknown): RequestedOutput[] {
  if (!Array.isArray(list) || list.length > MAX_TENSORS) {
    throw new OpenInferenceFormatError('tensor', `"outputs" must be a list of at most ${MAX_TENSORS} entries.`);
  }
  return list.map((entry: unknown, i) => {
    if (!isObject(entry)) throw new OpenInferenceFormatError('tensor', `outputs[${i}]: must be an object.`);
    const name = text(`outputs[${i}].name`, entry.name);
    return entry.parameters === undefined ? { name } : { name, parameters: parametersOf(name, entry.parameters) };
  });
}

function text(field: string, value: unknown): string {
  if (typeof value === 'string' && value.length <= MAX_NAME_LENGTH) return value;
  throw new OpenInferenceFormatError('tensor', `"${field}" must be a string of at most ${MAX_NAME_LENGTH} characters.`);
}

function parametersOf(owner: string, value: unknown): Parameters {
  if (isObject(value)) return value;
  throw new OpenInferenceFormatError('tensor', `"parameters" of ${owner} must be an object.`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
