import { encodeInferResponse } from '../../src/formats/open-inference-binary.js';
import type { Subject } from './contract.js';

/** Valid answers to the question of the contract: two labels, one image, one prompt; or the embeddings of two texts. */

export const LABELS = ['cat', 'dog'];
export const QUESTION_TEMPLATE = '{}';

/** The forms that answers have; several protocols may share one. */
const FORMS = ['tensors', 'label scores', 'chat', 'embedding list', 'embeddings by type'] as const;
export type Form = (typeof FORMS)[number];

const FORM_OF: Record<Subject, Form> = {
  open_inference: 'tensors',
  hugging_face: 'label scores',
  custom_http: 'label scores',
  openai_chat: 'chat',
  'embeddings: infinity': 'embedding list',
  'embeddings: jina': 'embedding list',
  'embeddings: voyage': 'embedding list',
  'embeddings: cohere': 'embeddings by type',
};

export function formOf(subject: Subject): Form {
  return FORM_OF[subject];
}

/** A number, or what is written in its place. */
type Value = number | string;

/** Two numbers, the logits, probabilities or log-probabilities, as the tensor form has them. */
export function tensorAnswer(values: Value[] = [1, 2], shape: unknown = [1, 1, values.length]): string {
  return `{"model_name":"m","outputs":[{"name":"logits","datatype":"FP32","shape":${JSON.stringify(shape)},"data":[${values}]}]}`;
}

export function binaryTensorAnswer(values: number[]): { headers: Record<string, string>; body: Buffer } {
  const data = Float32Array.from(values);
  const outputs = [{ name: 'logits', datatype: 'FP32' as const, shape: [1, 1, data.length], data }];
  const { headers, body } = encodeInferResponse({ modelName: 'm', outputs });
  return { headers, body: Buffer.from(body) };
}

export function labelScores(
  scores: [label: string, score: Value][] = [
    ['dog', 0.25],
    ['cat', 0.75],
  ],
): string {
  return `[${scores.map(([label, score]) => `{"label":${JSON.stringify(label)},"score":${score}}`)}]`;
}

export function chatAnswer(
  tokens: [token: string, logprob: Value][] = [
    ['A', -0.5],
    ['B', -2],
  ],
): string {
  const top = tokens.map(([token, logprob]) => `{"token":${JSON.stringify(token)},"logprob":${logprob}}`);
  return `{"choices":[{"message":{"role":"assistant","content":"A"},"logprobs":{"content":[{"token":"A","logprob":-1,"top_logprobs":[${top}]}]}}],"usage":{"prompt_tokens":9,"completion_tokens":1}}`;
}

const VECTORS: Value[][] = [
  [1, 0],
  [3, 4],
];

export function embeddingList(vectors: Value[][] = VECTORS, indices = vectors.map((_, i) => i)): string {
  const data = vectors.map((vector, i) => `{"object":"embedding","index":${indices[i]},"embedding":[${vector}]}`);
  return `{"object":"list","data":[${data}],"usage":{"prompt_tokens":4,"total_tokens":4}}`;
}

export function embeddingsByType(vectors: Value[][] = VECTORS): string {
  const rows = vectors.map((vector) => `[${vector}]`);
  return `{"embeddings":{"float":[${rows}]},"meta":{"billed_units":{"input_tokens":4}}}`;
}

export const VALID: Record<Form, string> = {
  tensors: tensorAnswer(),
  'label scores': labelScores(),
  chat: chatAnswer(),
  'embedding list': embeddingList(),
  'embeddings by type': embeddingsByType(),
};
