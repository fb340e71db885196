import fc from 'fast-check';

/** JSON texts that no well-meaning server would send, and answers that were valid once. */

const NUMBERS = [
  '0',
  '-0',
  '1e999',
  '-1e999',
  '1e-999',
  '3.5e38',
  '-3.4e38',
  '1e308',
  '5e-324',
  '1e30',
  '9007199254740993',
  '0.1',
];
const KEYS = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'valueOf',
  'hasOwnProperty',
  'then',
  'length',
  '',
  '0',
  'outputs',
  'name',
  'datatype',
  'shape',
  'data',
  'parameters',
  'binary_data_size',
  'model_name',
  'billed_requests',
  'label',
  'score',
  'choices',
  'logprobs',
  'content',
  'top_logprobs',
  'token',
  'logprob',
  'usage',
  'prompt_tokens',
  'index',
  'embedding',
  'embeddings',
  'float',
  'meta',
  'billed_units',
  'input_tokens',
  'total_tokens',
];
const TEXTS = ['cat', 'dog', 'A', 'logits', 'FP32', 'BYTES', 'm', '', '\u0000', '\ud800', '1'];

const number = fc.oneof(fc.constantFrom(...NUMBERS), fc.double({ noNaN: true, noDefaultInfinity: true }).map(String));
const key = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...KEYS) }, fc.string({ maxLength: 5 }));
const text = fc.oneof(fc.constantFrom(...TEXTS), fc.string({ maxLength: 8 })).map((value) => JSON.stringify(value));
const leaf = fc.oneof(number, text, fc.constantFrom('null', 'true', 'false', '[]', '{}'));

/** A JSON text, of numbers that have no place in a double and of keys that objects have by themselves. */
export const jsonText: fc.Arbitrary<string> = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 6, withCrossShrink: true },
    leaf,
    fc.array(tie('value'), { maxLength: 4 }).map((items) => `[${items}]`),
    fc
      .array(fc.tuple(key, tie('value')), { maxLength: 4 })
      .map((entries) => `{${entries.map(([name, value]) => `${JSON.stringify(name)}:${value}`)}}`),
  ),
})).value;

export const deepText = fc
  .tuple(fc.constantFrom(['[', ']'], ['{"a":', '}'], ['[[1],', ']']), fc.integer({ min: 1, max: 6000 }), leaf)
  .map(([[open, close], depth, inner]) => open.repeat(depth) + inner + close.repeat(depth));

/** What is done to one value of an answer: `at` and `other` choose which, `value` takes its place. */
interface Mutation {
  kind: 'drop' | 'replace' | 'duplicate' | 'swap' | 'rename';
  at: number;
  other: number;
  value: string;
  name: string;
}

const mutation: fc.Arbitrary<Mutation> = fc.record({
  kind: fc.constantFrom('drop', 'replace', 'replace', 'duplicate', 'swap', 'rename'),
  at: fc.nat(1000),
  other: fc.nat(1000),
  value: fc.oneof({ weight: 3, arbitrary: leaf }, jsonText),
  name: key,
});

export const mutations = fc.array(mutation, { minLength: 1, maxLength: 3 });

/** A text that stands for itself where JSON is written, so that numbers stay as they were put. */
class Verbatim {
  constructor(readonly text: string) {}
}

type Node = Verbatim | Node[] | { entries: [string, Node][] };

function parse(value: unknown): Node {
  if (Array.isArray(value)) return value.map(parse);
  if (typeof value !== 'object' || value === null) return new Verbatim(JSON.stringify(value));
  return { entries: Object.entries(value).map(([name, item]) => [name, parse(item)]) };
}

function write(node: Node): string {
  if (node instanceof Verbatim) return node.text;
  if (Array.isArray(node)) return `[${node.map(write)}]`;
  return `{${node.entries.map(([name, item]) => `${JSON.stringify(name)}:${write(item)}`)}}`;
}

/** Where a value is: in a list, or among the entries of an object. */
interface Place {
  list: (Node | [string, Node])[];
  index: number;
}

function places(node: Node): Place[] {
  if (node instanceof Verbatim) return [];
  const list = Array.isArray(node) ? node : node.entries;
  return list.flatMap((_, index) => [{ list, index }, ...places(valueAt({ list, index }))]);
}

function valueAt({ list, index }: Place): Node {
  const item = list[index];
  return isEntry(item) ? item[1] : item;
}

function isEntry(item: Node | [string, Node]): item is [string, Node] {
  return Array.isArray(item) && typeof item[0] === 'string';
}

function put({ list, index }: Place, value: Node): void {
  const item = list[index];
  list[index] = isEntry(item) ? [item[0], value] : value;
}

/** A valid answer after all mutations. */
export function mutated(json: string, changes: Mutation[]): string {
  const root = parse(JSON.parse(json));
  for (const change of changes) mutate(places(root), change);
  return write(root);
}

function mutate(all: Place[], { kind, at, other, value, name }: Mutation): void {
  if (all.length === 0) return;
  const place = all[at % all.length];
  const second = all[other % all.length];
  const item = place.list[place.index];
  switch (kind) {
    case 'drop':
      place.list.splice(place.index, 1);
      return;
    case 'replace':
      put(place, new Verbatim(value));
      return;
    case 'duplicate':
      place.list.splice(place.index, 0, item);
      return;
    case 'swap': {
      const [a, b] = [write(valueAt(place)), write(valueAt(second))];
      put(place, new Verbatim(b));
      put(second, new Verbatim(a));
      return;
    }
    case 'rename':
      if (isEntry(item)) place.list[place.index] = [name, item[1]];
  }
}

interface Damage {
  kind: 'cut' | 'remove' | 'repeat' | 'overwrite';
  at: number;
  length: number;
  bytes: Uint8Array;
}

/** Bytes of a valid answer cut, repeated or written over. */
export const damage: fc.Arbitrary<Damage> = fc.record({
  kind: fc.constantFrom('cut', 'remove', 'repeat', 'overwrite'),
  at: fc.nat(2000),
  length: fc.integer({ min: 1, max: 40 }),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }),
});

export function damaged(body: Buffer, { kind, at, length, bytes }: Damage): Buffer {
  const start = at % (body.length + 1);
  const [before, part, after] = [
    body.subarray(0, start),
    body.subarray(start, start + length),
    body.subarray(start + length),
  ];
  switch (kind) {
    case 'cut':
      return before;
    case 'remove':
      return Buffer.concat([before, after]);
    case 'repeat':
      return Buffer.concat([before, part, part, after]);
    default:
      return Buffer.concat([before, bytes, body.subarray(start + bytes.length)]);
  }
}

const wait = fc.constantFrom(
  '0',
  '1',
  '-5',
  '1e9',
  'soon',
  '9'.repeat(400),
  '1m',
  'Fri, 31 Dec 9999 23:59:59 GMT',
  '1700000000000',
  '0.0001',
);

/** Headers that steer clients. */
export const headers = fc.dictionary(
  fc.constantFrom(
    'retry-after',
    'retry-after-ms',
    'x-ratelimit-remaining',
    'x-ratelimit-reset',
    'ratelimit-remaining',
    'x-ratelimit-remaining-tokens',
    'x-ratelimit-reset-tokens',
    'location',
    'content-encoding',
    'content-type',
    'inference-header-content-length',
    'set-cookie',
    'connection',
  ),
  fc.oneof(wait, fc.constantFrom('close', 'gzip', 'http://[', '//x', 'application/json'), fc.nat(500).map(String)),
  { maxKeys: 4 },
);

export const status = fc.oneof(
  fc.constantFrom(200, 201, 204, 301, 400, 401, 402, 408, 413, 429, 500, 503, 529),
  fc.integer({ min: 200, max: 999 }),
);
