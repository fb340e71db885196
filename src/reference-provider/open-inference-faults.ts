import {
  type EncodedBody,
  encodeInferResponse,
  type InferResponse,
  type TensorOf,
} from '../formats/open-inference-binary.js';
import type { ContentFault } from './misbehaviour.js';

/** An answer whose logits [prompts, images, classes] are spoilt. */
export function encodeSpoilt(
  response: Omit<InferResponse, 'outputs'>,
  logits: TensorOf<'FP32'>,
  fault: ContentFault,
  binary: boolean,
): EncodedBody {
  const encode = (outputs: TensorOf<'FP32'>[]) => encodeInferResponse({ ...response, outputs }, () => binary);
  const [prompts, images, classes] = logits.shape;
  switch (fault) {
    case 'nan':
      return binary ? encode([withNaN(logits)]) : withNull(encode([logits]));
    case 'missing_value':
      return encode([]);
    case 'missing_label':
      return encode([cut(logits, [prompts, images, classes - 1])]);
    case 'wrong_count':
      return encode([cut(logits, [prompts, images - 1, classes])]);
  }
}

function withNaN(tensor: TensorOf<'FP32'>): TensorOf<'FP32'> {
  const data = tensor.data.slice();
  data[0] = Number.NaN;
  return { ...tensor, data };
}

function withNull(answer: EncodedBody): EncodedBody {
  const body = JSON.parse(Buffer.from(answer.body).toString());
  body.outputs[0].data[0] = null;
  return { ...answer, body: Buffer.from(JSON.stringify(body)) };
}

function cut(tensor: TensorOf<'FP32'>, shape: number[]): TensorOf<'FP32'> {
  const count = shape.reduce((product, size) => product * size, 1);
  return { ...tensor, shape, data: tensor.data.slice(0, count) };
}
