import type { IncomingMessage } from 'node:http';
import {
  binaryTensorAnswer,
  chatAnswer,
  embeddingList,
  embeddingsByType,
  type Form,
  labelScores,
  tensorAnswer,
  VALID,
} from './protocol-answers.js';
import type { Script } from './scripted-server.js';

/** Answers with status 200 that cannot be used: in every form the same fault, or why that form cannot have it. */

export class NotApplicable {
  constructor(readonly reason: string) {}
}

const none = (reason: string) => new NotApplicable(reason);

type Answer = Script | NotApplicable;
export type AnswerFault = Record<Form, Answer>;

const body =
  (content: string | Buffer, headers: Record<string, string> = { 'content-type': 'application/json' }): Script =>
  (_, response) =>
    response.writeHead(200, headers).end(content);

const everywhere = (answer: Answer): AnswerFault => ({
  tensors: answer,
  'label scores': answer,
  chat: answer,
  'embedding list': answer,
  'embeddings by type': answer,
});

/** What the request's key is, as the server read it. */
const echoed = ({ headers }: IncomingMessage) => `${headers.authorization} `;

const echo =
  (content: (key: string) => string): Script =>
  (request, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end(content(echoed(request)));

const cut =
  (content: string): Script =>
  (request, response) => {
    response.writeHead(200, { 'content-length': String(content.length + 100) });
    response.write(content.slice(0, -3), () => request.socket.end());
  };

const NAMED = 'labels name the scores, so that one more is not taken for another';
const NO_LABELS = 'its numbers carry no labels';
const NO_EMBEDDINGS = 'it has no embeddings';
const FLOOR = 'an option that is not among the likeliest has the floor';
const JSON_ONLY = 'it has no binary form';
const NESTED = '['.repeat(20_000) + ']'.repeat(20_000);

export const UNUSABLE: Record<string, AnswerFault> = {
  'malformed JSON': everywhere(body('{"outputs": [')),
  HTML: everywhere(body('<!doctype html><title>502 Bad Gateway</title>', { 'content-type': 'text/html' })),
  'an empty body': everywhere(body('')),
  'no content': everywhere((_, response) => response.writeHead(204).end()),
  'bytes that are no text': everywhere(body(Buffer.from([0xff, 0xfe, 0x00, 0x80]))),
  'null in place of the answer': everywhere(body('null')),
  'another shape': everywhere(body('{"result":{"ok":true}}')),
  'a list of nothing': everywhere(body('[]')),
  'lists nested too deep': everywhere(body(NESTED)),
  'numbers nested too deep': {
    tensors: body(tensorAnswer([NESTED, 1])),
    'label scores': body(
      labelScores([
        ['cat', NESTED],
        ['dog', 0.5],
      ]),
    ),
    chat: body(
      chatAnswer([
        ['A', NESTED],
        ['B', -1],
      ]),
    ),
    'embedding list': body(
      embeddingList([
        [NESTED, 1],
        [1, 0],
      ]),
    ),
    'embeddings by type': body(
      embeddingsByType([
        [NESTED, 1],
        [1, 0],
      ]),
    ),
  },
  'the key in place of JSON': everywhere(echo((key) => key)),
  'the key amid the answer': {
    tensors: echo((key) => JSON.stringify({ model_name: 'm', outputs: [{ name: key, datatype: key, shape: key }] })),
    'label scores': echo((key) =>
      labelScores([
        [key, 0.5],
        [key, 0.5],
      ]),
    ),
    chat: echo((key) => JSON.stringify({ choices: [{ logprobs: { [key]: key } }] })),
    'embedding list': echo((key) => JSON.stringify({ data: [{ embedding: [key] }] })),
    'embeddings by type': echo((key) => JSON.stringify({ embeddings: { float: key } })),
  },
  'NaN in its JSON': {
    tensors: body(tensorAnswer(['NaN', 1])),
    'label scores': body(
      labelScores([
        ['cat', 'NaN'],
        ['dog', 1],
      ]),
    ),
    chat: body(
      chatAnswer([
        ['A', 'NaN'],
        ['B', -1],
      ]),
    ),
    'embedding list': body(
      embeddingList([
        ['NaN', 1],
        [1, 0],
      ]),
    ),
    'embeddings by type': body(
      embeddingsByType([
        ['NaN', 1],
        [1, 0],
      ]),
    ),
  },
  'NaN in binary': {
    ...everywhere(none(JSON_ONLY)),
    tensors: (_, response) => {
      const { headers, body: bytes } = binaryTensorAnswer([Number.NaN, 1]);
      response.writeHead(200, headers).end(bytes);
    },
  },
  'a number beyond all range': {
    tensors: body(tensorAnswer(['1e999', 1])),
    'label scores': body(
      labelScores([
        ['cat', '1e999'],
        ['dog', 0.5],
      ]),
    ),
    chat: body(
      chatAnswer([
        ['A', '-1e999'],
        ['B', -1],
      ]),
    ),
    'embedding list': body(
      embeddingList([
        ['1e999', 1],
        [1, 0],
      ]),
    ),
    'embeddings by type': body(
      embeddingsByType([
        ['-1e999', 1],
        [1, 0],
      ]),
    ),
  },
  'a logit too large to compute with': {
    ...everywhere(none('its numbers have a range of their own')),
    tensors: body(tensorAnswer(['3e38', 1])),
  },
  'null in place of a number': {
    tensors: body(tensorAnswer(['null', 1])),
    'label scores': body(
      labelScores([
        ['cat', 'null'],
        ['dog', 0.5],
      ]),
    ),
    chat: body(
      chatAnswer([
        ['A', 'null'],
        ['B', -1],
      ]),
    ),
    'embedding list': body(
      embeddingList([
        ['null', 1],
        [1, 0],
      ]),
    ),
    'embeddings by type': body(
      embeddingsByType([
        ['null', 1],
        [1, 0],
      ]),
    ),
  },
  'a text in place of a number': {
    tensors: body(tensorAnswer(['"1"', 1])),
    'label scores': body(
      labelScores([
        ['cat', '"0.5"'],
        ['dog', 0.5],
      ]),
    ),
    chat: body(
      chatAnswer([
        ['A', '"-1"'],
        ['B', -1],
      ]),
    ),
    'embedding list': body(
      embeddingList([
        ['"1"', 1],
        [1, 0],
      ]),
    ),
    'embeddings by type': body(
      embeddingsByType([
        ['"1"', 1],
        [1, 0],
      ]),
    ),
  },
  'one class too many': {
    ...everywhere(none(NO_EMBEDDINGS)),
    tensors: body(tensorAnswer([1, 2, 3])),
    'label scores': none(NAMED),
    chat: none('options that nobody asked about are left aside'),
  },
  'one class too few': {
    ...everywhere(none(NO_EMBEDDINGS)),
    tensors: body(tensorAnswer([1])),
    'label scores': body(labelScores([['cat', 1]])),
    chat: none(FLOOR),
  },
  'fewer numbers than its shape says': {
    ...everywhere(none('it states no shape')),
    tensors: body(tensorAnswer([1], [1, 1, 2])),
  },
  'a label that was not asked about': {
    ...everywhere(none(NO_LABELS)),
    'label scores': body(
      labelScores([
        ['cat', 0.5],
        ['bird', 0.5],
      ]),
    ),
    chat: none(FLOOR),
  },
  'a label that is there twice': {
    ...everywhere(none(NO_LABELS)),
    'label scores': body(
      labelScores([
        ['cat', 0.5],
        ['cat', 0.25],
        ['dog', 0.25],
      ]),
    ),
    chat: none('spellings of an option are added up'),
  },
  'a probability above 1': {
    ...everywhere(none('its numbers are no probabilities')),
    'label scores': body(
      labelScores([
        ['cat', 1.5],
        ['dog', 0.5],
      ]),
    ),
  },
  'a probability below 0': {
    ...everywhere(none('its numbers are no probabilities')),
    'label scores': body(
      labelScores([
        ['cat', -0.5],
        ['dog', 0.5],
      ]),
    ),
  },
  'labels that are no texts': {
    ...everywhere(none(NO_LABELS)),
    'label scores': body('[{"label":{"toString":1},"score":0.5},{"label":"dog","score":0.5}]'),
  },
  'no log-probabilities': {
    ...everywhere(none('log-probabilities are a part of chat completions')),
    chat: body('{"choices":[{"message":{"content":"A"},"logprobs":null}]}'),
  },
  'no choices': { ...everywhere(none('it has no choices')), chat: body('{"choices":[]}') },
  'no tokens': {
    ...everywhere(none('it has no tokens')),
    chat: body('{"choices":[{"logprobs":{"content":[]}}]}'),
  },
  'one embedding too few': embeddings([[1, 0]]),
  'one embedding too many': embeddings([
    [1, 0],
    [0, 1],
    [1, 1],
  ]),
  'embeddings of different lengths': embeddings([
    [1, 0],
    [1, 0, 0],
  ]),
  'an embedding without numbers': embeddings([[], []]),
  'an embedding of length 0': embeddings([
    [1, 0],
    [0, -0],
  ]),
  'long embeddings of length 0': embeddings([Array(65_000).fill(0), Array(65_000).fill(0)]),
  'embeddings that are too long': embeddings([Array(65_537).fill(1), Array(65_537).fill(1)]),
  'an index that is there twice': {
    ...everywhere(none('its embeddings are not numbered')),
    'embedding list': body(
      embeddingList(
        [
          [1, 0],
          [0, 1],
        ],
        [0, 0],
      ),
    ),
  },
  'an index beyond the list': {
    ...everywhere(none('its embeddings are not numbered')),
    'embedding list': body(
      embeddingList(
        [
          [1, 0],
          [0, 1],
        ],
        [0, 2],
      ),
    ),
  },
};

function embeddings(vectors: number[][]): AnswerFault {
  return {
    ...everywhere(none(NO_EMBEDDINGS)),
    'embedding list': body(embeddingList(vectors)),
    'embeddings by type': body(embeddingsByType(vectors)),
  };
}

/** Answers of which it is not known what became of them: they break off. */
export const BROKEN: Record<string, AnswerFault> = {
  'a body that breaks off': {
    tensors: cut(VALID.tensors),
    'label scores': cut(VALID['label scores']),
    chat: cut(VALID.chat),
    'embedding list': cut(VALID['embedding list']),
    'embeddings by type': cut(VALID['embeddings by type']),
  },
  'a chunked body that breaks off': everywhere((request, response) => {
    response.writeHead(200);
    response.write('[', () => request.socket.destroy());
  }),
  'a connection that is closed once the request was read': everywhere((request) => request.socket.destroy()),
  'a connection that is reset once the request was read': everywhere((request) => request.socket.resetAndDestroy()),
  'something that is not HTTP': everywhere((request) => request.socket.end('220 mail.example ESMTP\r\n')),
};
