import { createHash } from 'node:crypto';
import {
  decodeInferResponse,
  type EncodedBody,
  encodeInferRequest,
  findTensor,
  HEADER_LENGTH_FIELD,
  type Tensor,
  type TensorOf,
} from '../../../src/formats/open-inference-binary.js';

/** A minimal client of the provider, for tests. */

export const INFER = '/v2/models/emoji-clip/infer';

export const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

export const referenceTo = (image: Uint8Array): Uint8Array =>
  encode(`sha256:${createHash('sha256').update(image).digest('hex')}`);

export const byteTensor = (name: string, data: Uint8Array[]): TensorOf<'BYTES'> => ({
  name,
  datatype: 'BYTES',
  shape: [data.length],
  data,
});

/** `prompts` are templates, or one flat list of context tokens [prompts, 4, 128]. */
export function inputs(images: Uint8Array[], classNames: string[], prompts: string[] | Float32Array): Tensor[] {
  const prompt: Tensor =
    prompts instanceof Float32Array
      ? { name: 'context', datatype: 'FP32', shape: [prompts.length / 512, 4, 128], data: prompts }
      : byteTensor('template', prompts.map(encode));
  return [prompt, byteTensor('class_names', classNames.map(encode)), byteTensor('images', images)];
}

export const binaryRequest = (tensors: Tensor[]): EncodedBody =>
  encodeInferRequest({ parameters: { binary_data_output: true }, inputs: tensors });

export function post(url: string, { headers, body }: EncodedBody, init: RequestInit = {}): Promise<Response> {
  return fetch(url + INFER, { ...init, method: 'POST', headers: { ...headers, ...init.headers }, body: body.slice() });
}

export async function logitsOf(response: Response): Promise<TensorOf<'FP32'>> {
  const body = new Uint8Array(await response.arrayBuffer());
  if (response.status !== 200) throw new Error(`${response.status}: ${Buffer.from(body).toString()}`);
  const answer = decodeInferResponse(body, response.headers.get(HEADER_LENGTH_FIELD) ?? undefined);
  const logits = findTensor(answer.outputs, 'logits', 'FP32');
  if (logits === undefined) throw new Error('The answer has no logits.');
  return logits;
}

export const infer = async (url: string, tensors: Tensor[]): Promise<TensorOf<'FP32'>> =>
  logitsOf(await post(url, binaryRequest(tensors)));
