import pino from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mostTokens } from '../../src/providers/amounts.js';
import { ask } from '../../src/providers/ask.js';
import { MOST_BILLED } from '../../src/providers/http-provider.js';
import { describeProvider } from '../../src/providers/protocols.js';
import type { Provider, ProviderCapabilities, ProviderImage } from '../../src/providers/provider.js';
import { ProviderCallError } from '../../src/providers/provider-call-error.js';
import { type RunningReferenceProvider, startReferenceProvider } from '../../src/reference-provider/start.js';
import {
  type Changes,
  KEY,
  MODEL_DIRECTORY,
  providerImages,
  providerOf,
  SUBJECTS,
  type Subject,
  subjectConnection,
} from '../helpers/contract.js';
import { chatAnswer, embeddingList, type Form, formOf, LABELS } from '../helpers/protocol-answers.js';
import { ScriptedServer } from '../helpers/scripted-server.js';

/** Answers that are larger, or state more, than what was asked for can explain. */

let reference: RunningReferenceProvider;
let scripted: ScriptedServer;
let images: ProviderImage[];
const capabilities = new Map<Subject, ProviderCapabilities>();

beforeAll(async () => {
  reference = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY, apiKeys: [KEY] });
  scripted = await ScriptedServer.start();
  images = await providerImages(1);
  for (const subject of SUBJECTS) {
    capabilities.set(subject, await describeProvider(subjectConnection(subject, reference.url)));
  }
});

afterAll(async () => {
  await scripted.close();
  await reference.close();
});

async function questionOne(subject: Subject, labels = LABELS, changes: Changes = {}) {
  const provider = providerOf(subject, scripted.url, capabilities.get(subject)!, changes);
  const prompts = { kind: 'template' as const, count: 1, templates: ['{}'] };
  const outcome = await ask(provider, { prompts, images, classes: { names: labels } }, {}).catch(
    (error: unknown) => error,
  );
  await provider.close();
  return { provider, outcome };
}

const zeros = (count: number) => `[${'0,'.repeat(count - 1)}0]`;

/** Lists of zeros wherever a form of answer has a list. */
const LISTS: Record<Form, ((count: number) => string)[]> = {
  tensors: [
    (count) => `{"model_name":"m","outputs":${zeros(count)}}`,
    (count) =>
      `{"model_name":"m","outputs":[{"name":"logits","datatype":"FP32","shape":[1,1,2],"data":${zeros(count)}}]}`,
  ],
  'label scores': [zeros],
  chat: [
    (count) => `{"choices":${zeros(count)}}`,
    (count) => `{"choices":[{"logprobs":{"content":${zeros(count)}}}]}`,
    (count) => `{"choices":[{"logprobs":{"content":[{"top_logprobs":${zeros(count)}}]}}]}`,
  ],
  'embedding list': [
    (count) => `{"data":${zeros(count)}}`,
    (count) => `{"data":[{"embedding":${zeros(count)}},{"embedding":${zeros(count)}}]}`,
    (count) => `{"data":[{"embedding":${zeros(count).replaceAll('0', '""')}}]}`,
  ],
  'embeddings by type': [
    (count) => `{"embeddings":{"float":${zeros(count)}}}`,
    (count) => `{"embeddings":{"float":[${zeros(count)},${zeros(count)}]}}`,
  ],
};

const rows = SUBJECTS.flatMap((subject) => LISTS[formOf(subject)].map((list, i) => [subject, i, list] as const));

describe.each(rows)('an answer of small elements through %s (list %i)', (subject, _, list) => {
  it.each([
    ['7 MB', 3_500_000],
    ['0.5 MB', 250_000],
  ])('of %s is refused with an error that is not as large', async (_, count) => {
    const body = list(count);
    scripted.play((_, response) => response.end(body));
    const { outcome } = await questionOne(subject);
    expect(outcome).toBeInstanceOf(ProviderCallError);
    expect(outcome).toMatchObject({ billing: 'billed', retryable: false });
    expect((outcome as ProviderCallError).code).toMatch(/^provider_answer_(invalid|too_large)$/);
    expect(JSON.stringify(pino.stdSerializers.errWithCause(outcome as Error)).length).toBeLessThan(10_000);
  });
});

describe('the size of an answer', () => {
  it.each<[Subject, number]>([
    ['hugging_face', 2],
    ['custom_http', 2],
    ['openai_chat', 2],
    ['embeddings: infinity', 8],
    ['embeddings: cohere', 8],
  ])('through %s may be what was asked for, and is limited to %i MiB', async (subject, most) => {
    scripted.play((_, response) => response.end(`"${'x'.repeat(most * 1024 * 1024)}"`));
    const { outcome } = await questionOne(subject);
    expect(outcome).toMatchObject({ code: 'provider_answer_too_large', billing: 'billed' });
  });

  it('is not limited so where a failure repeats the request', async () => {
    scripted.play((_, response) => response.writeHead(422).end(JSON.stringify({ detail: 'x'.repeat(5_000_000) })));
    for (const subject of SUBJECTS) {
      const { outcome } = await questionOne(subject);
      expect(outcome).toMatchObject({ code: 'provider_refused_request', billing: 'unknown', providerStatus: 422 });
    }
  });

  it('grows with the labels, in whatever way their characters are written', async () => {
    const labels = Array.from({ length: 4000 }, (_, i) => `${'é'.repeat(100)}${i}`);
    const escaped = (label: string) => JSON.stringify(label).replaceAll('é', '\\u00e9');
    const body = `[${labels.map((label) => `{"label":${escaped(label)},"score":0.00025}`)}]`;
    expect(body.length).toBeGreaterThan(2 * 1024 * 1024);
    scripted.play((_, response) => response.end(body));
    for (const subject of ['hugging_face', 'custom_http'] as const) {
      expect((await questionOne(subject, labels)).outcome).toHaveProperty('answer.length', labels.length);
    }
  });
});

describe('tokens that an answer states', () => {
  const withUsage = (usage: object) => chatAnswer().replace(/"usage":\{[^}]*\}/, `"usage":${JSON.stringify(usage)}`);
  const listed = (total: unknown) => embeddingList().replace(/"total_tokens":\d+/, `"total_tokens":${total}`);
  const billedOf = (outcome: unknown) => (outcome as { billed: { tokens?: object } | null }).billed;
  const bound = (provider: Provider, texts: number, count: number) =>
    MOST_BILLED * mostTokens(provider, { images: count, texts }).inputTokens;

  it('are believed up to 16 times the bound, and counted as that beyond it', async () => {
    const question = subjectConnection('openai_chat', '').settings;
    const text = 'instruction' in question ? `${question.instruction}\nA: cat\nB: dog` : '';
    for (const stated of [1e7, 1e30]) {
      scripted.play((_, response) => response.end(withUsage({ prompt_tokens: stated, completion_tokens: stated })));
      const { provider, outcome } = await questionOne('openai_chat');
      expect(billedOf(outcome)?.tokens).toEqual({
        inputTokens: bound(provider, Buffer.byteLength(text), 1),
        outputTokens: 2 * MOST_BILLED,
      });
    }
    scripted.play((_, response) => response.end(withUsage({ prompt_tokens: 2000, completion_tokens: 3 })));
    expect(billedOf((await questionOne('openai_chat')).outcome)?.tokens).toEqual({
      inputTokens: 2000,
      outputTokens: 3,
    });
  });

  it('are limited where texts are embedded, too', async () => {
    scripted.play((_, response) => response.end(listed(99_999_999)));
    const { provider, outcome } = await questionOne('embeddings: infinity');
    expect(billedOf(outcome)?.tokens).toEqual({ inputTokens: bound(provider, 'catdog'.length, 0), outputTokens: 0 });
  });

  it.each(['-1', '1.5', 'null', '"9"', '1e999'])('are not taken for any where they are %s', async (stated) => {
    scripted.play((_, response) => response.end(listed(stated)));
    expect(billedOf((await questionOne('embeddings: infinity')).outcome)).toBeNull();
  });
});

describe('the parameter that limits the answer of openai_chat', () => {
  it.each([
    [{}, 'max_tokens'],
    [{ max_tokens_parameter: 'max_completion_tokens' }, 'max_completion_tokens'],
    [{ max_tokens_parameter: 'max_tokens' }, 'max_tokens'],
  ])('is by %j at a server of its own %s', async (settings, parameter) => {
    let asked: Record<string, unknown> = {};
    scripted.play((_, response, body) => {
      asked = JSON.parse(body.toString());
      response.end(chatAnswer());
    });
    await questionOne('openai_chat', LABELS, { settings });
    expect(Object.keys(asked).filter((key) => key.startsWith('max_'))).toEqual([parameter]);
  });
});
