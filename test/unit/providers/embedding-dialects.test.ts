import { describe, expect, it } from 'vitest';
import { dialectOf } from '../../../src/providers/embedding-dialects.js';
import { EMBEDDING_DIALECTS, embeddingsSettings } from '../../../src/providers/settings/embeddings.js';

const IMAGES = { images: ['data:image/png;base64,AAAA', 'data:image/jpeg;base64,BBBB'] };
const TEXTS = { texts: ['a cat', 'a dog'] };
const settings = (changes: object = {}) => embeddingsSettings.parse(changes);
/** As it goes over the wire, without what is undefined. */
const wire = (value: unknown) => JSON.parse(JSON.stringify(value));

describe('requests', () => {
  it.each([
    ['infinity', '/embeddings', { input: IMAGES.images, modality: 'image', encoding_format: 'float' }],
    ['jina', '/embeddings', { input: [{ image: 'AAAA' }, { image: 'BBBB' }], embedding_type: 'float' }],
    [
      'cohere',
      '/embed',
      {
        inputs: IMAGES.images.map((url) => ({ content: [{ type: 'image_url', image_url: { url } }] })),
        input_type: 'image',
        embedding_types: ['float'],
      },
    ],
    [
      'voyage',
      '/multimodalembeddings',
      { inputs: IMAGES.images.map((uri) => ({ content: [{ type: 'image_base64', image_base64: uri }] })) },
    ],
  ] as const)('of %s with images go to %s', (name, path, body) => {
    const dialect = dialectOf(name);
    expect(dialect.path).toBe(path);
    expect(wire(dialect.request('clip', IMAGES, settings()))).toEqual({ model: 'clip', ...body });
  });

  it.each([
    ['infinity', { input: TEXTS.texts, modality: 'text', encoding_format: 'float' }],
    ['jina', { input: [{ text: 'a cat' }, { text: 'a dog' }], embedding_type: 'float' }],
    ['cohere', { texts: TEXTS.texts, input_type: 'classification', embedding_types: ['float'] }],
    ['voyage', { inputs: TEXTS.texts.map((text) => ({ content: [{ type: 'text', text }] })) }],
  ] as const)('of %s with texts', (name, body) => {
    expect(wire(dialectOf(name).request('clip', TEXTS, settings()))).toEqual({ model: 'clip', ...body });
  });

  it.each([
    ['infinity', { dimensions: 256 }],
    ['jina', { dimensions: 256, task: 'text-matching' }],
    ['cohere', { output_dimension: 256, input_type: 'text-matching' }],
    ['voyage', { output_dimension: 256, input_type: 'text-matching' }],
  ] as const)('of %s say which dimensions and kind of input are asked for', (name, expected) => {
    const stated = settings({ dimensions: 256, text_input_type: 'text-matching', image_input_type: 'picture' });
    expect(dialectOf(name).request('clip', TEXTS, stated)).toMatchObject(expected);
    if ('task' in expected) expect(dialectOf(name).request('clip', IMAGES, stated)).toMatchObject({ task: 'picture' });
    if ('input_type' in expected) {
      expect(dialectOf(name).request('clip', IMAGES, stated)).toMatchObject({ input_type: 'picture' });
    }
  });
});

describe('answers', () => {
  const rows = [
    [1, 2],
    [3, 4],
  ];

  it.each(['infinity', 'jina', 'voyage'] as const)('of %s may come in any order', (name) => {
    const { embeddings } = dialectOf(name);
    const item = (index: number) => ({ object: 'embedding', index, embedding: rows[index] });
    expect(embeddings({ data: [item(1), item(0)] }, 2)).toEqual(rows);
    expect(embeddings({ data: rows.map((embedding) => ({ embedding })) }, 2)).toEqual(rows);
  });

  it.each([
    ['an index twice', [0, 0]],
    ['an index beyond the list', [0, 2]],
    ['an index below 0', [0, -1]],
    ['a broken index', [0, 0.5]],
  ])('with %s are none', (_, indices) => {
    const data = indices.map((index, i) => ({ index, embedding: rows[i] }));
    expect(dialectOf('infinity').embeddings({ data }, 2)).toBeNull();
  });

  it('of cohere are in its list of floats', () => {
    expect(dialectOf('cohere').embeddings({ embeddings: { float: rows } }, 2)).toEqual(rows);
    expect(dialectOf('cohere').embeddings({ embeddings: rows }, 2)).toBeNull();
  });

  it.each(EMBEDDING_DIALECTS)('of %s that are something else are null', (name) => {
    const { embeddings, inputTokens } = dialectOf(name);
    for (const answer of [
      null,
      'text',
      [],
      {},
      { data: [] },
      { data: [{ index: 0, embedding: ['1'] }] },
      { data: [{ index: 0, embedding: [] }] },
      { data: [{ index: 0, embedding: 'AAAA' }] },
      { embeddings: { float: [[]] } },
    ]) {
      expect(embeddings(answer, 2)).toBeNull();
      expect(inputTokens(answer)).toBeUndefined();
    }
  });

  it('state what was billed', () => {
    for (const name of ['infinity', 'jina', 'voyage'] as const) {
      expect(dialectOf(name).inputTokens({ usage: { total_tokens: 12 } })).toBe(12);
    }
  });

  it.each([
    [{ input_tokens: 7 }, 7],
    [{ image_tokens: 85 }, 85],
    [{ input_tokens: 7, image_tokens: 85 }, 92],
    [{ input_tokens: null, image_tokens: 85 }, 85],
    [{ input_tokens: null, images: 1 }, undefined],
    [{ images: 1 }, undefined],
    [{ input_tokens: '7', image_tokens: 85 }, undefined],
  ])('of cohere state tokens of texts and of images: %j', (billed_units, tokens) => {
    expect(dialectOf('cohere').inputTokens({ meta: { billed_units } })).toBe(tokens);
  });

  it.each(EMBEDDING_DIALECTS)('of %s may not be longer than they can be', (name) => {
    const { embeddings } = dialectOf(name);
    const answer = (vectors: number[][]) =>
      name === 'cohere'
        ? { embeddings: { float: vectors } }
        : { data: vectors.map((embedding, index) => ({ index, embedding })) };
    const longest = Array(65_536).fill(0.5);
    expect(embeddings(answer([longest]), 1)).toEqual([longest]);
    expect(embeddings(answer([[...longest, 1]]), 1)).toBeNull();
    expect(embeddings(answer(Array(2).fill([1])), 1)).toHaveLength(2);
    expect(embeddings(answer(Array(3).fill([1])), 1)).toBeNull();
  });
});

describe('what is documented of', () => {
  it.each([
    ['infinity', null, null],
    ['jina', null, null],
    ['cohere', 96, 96],
    ['voyage', 1000, 11],
  ] as const)('%s is at most %j texts and %j images in a request', (name, texts, images) => {
    const dialect = dialectOf(name);
    expect(dialect.maxTextsPerRequest).toBe(texts);
    expect(dialect.maxImagesPerRequest(dialect.maxImageTokens)).toBe(images);
  });

  it('voyage leaves room for more images where they are small, and for one where none would fit', () => {
    const { maxImagesPerRequest } = dialectOf('voyage');
    expect([0, 85, 3200, 1_000_000].map(maxImagesPerRequest)).toEqual([1000, 1000, 100, 1]);
  });
});
