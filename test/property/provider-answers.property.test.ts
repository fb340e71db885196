import type { ServerResponse } from 'node:http';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rankLabels } from '../../src/adapters/ranking.js';
import { type HeadWeights, refineLogits } from '../../src/craft/head-weights.js';
import { softmax } from '../../src/craft/losses.js';
import { CraftError } from '../../src/errors.js';
import { ask } from '../../src/providers/ask.js';
import { cosineLogits } from '../../src/providers/cosine.js';
import { describeProvider } from '../../src/providers/protocols.js';
import type { Provider, ProviderCapabilities, ProviderImage } from '../../src/providers/provider.js';
import { ProviderCallError } from '../../src/providers/provider-call-error.js';
import { startContextOf } from '../../src/providers/start-context.js';
import { startReferenceProvider } from '../../src/reference-provider/start.js';
import {
  MODEL_DIRECTORY,
  providerImages,
  providerOf,
  SUBJECTS,
  type Subject,
  subjectConnection,
} from '../helpers/contract.js';
import { binaryTensorAnswer, formOf, LABELS, QUESTION_TEMPLATE, VALID } from '../helpers/protocol-answers.js';
import { damage, damaged, deepText, headers, jsonText, mutated, mutations, status } from '../helpers/random-answers.js';
import { ScriptedServer } from '../helpers/scripted-server.js';

/** Whatever a provider answers, a call ends: with numbers that can be used, or with an error that says what to do. */

/** 8 subjects × 1,250 answers. */
const RUNS = { bytes: 150, json: 350, mutated: 450, damaged: 150, replies: 150 };
const SEED = 20_260_801;
const CLASSES = LABELS.length;
const HIDDEN = 4;
const HEAD: HeadWeights = {
  w1: new Float32Array(CLASSES * HIDDEN).fill(0.7),
  b1: new Float32Array(HIDDEN).fill(-0.1),
  w2: new Float32Array(HIDDEN * CLASSES).fill(0.7),
  b2: new Float32Array(CLASSES),
};

let server: ScriptedServer;
let images: ProviderImage[];
const capabilities = new Map<Subject, ProviderCapabilities>();
let send: (response: ServerResponse) => void;

beforeAll(async () => {
  server = await ScriptedServer.start();
  server.play((_, response) => send(response));
  images = await providerImages(CLASSES);
  const reference = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY });
  for (const subject of SUBJECTS) {
    capabilities.set(subject, await describeProvider(subjectConnection(subject, reference.url)));
  }
  await reference.close();
});

afterAll(() => server.close());

const open = (subject: Subject) =>
  providerOf(subject, server.url, capabilities.get(subject)!, { limits: { timeoutMs: 10_000 } });

/** Two classes of one image; of a provider that embeds, two texts or two images. */
async function call(provider: Provider, embedImages: boolean): Promise<Float32Array> {
  if (provider.kind === 'embedding' && embedImages) return (await provider.embedImages(images, {})).embeddings;
  const prompts = { kind: 'template' as const, count: 1, templates: [QUESTION_TEMPLATE] };
  return (await ask(provider, { prompts, images: images.slice(0, 1), classes: { names: LABELS } }, {})).answer;
}

/** @returns whether the answer was taken */
async function expectUsable(provider: Provider, embedImages: boolean): Promise<boolean> {
  const outcome = await call(provider, embedImages).catch((error: unknown) => error);
  if (outcome instanceof Float32Array) {
    expectNumbers(provider, outcome);
    return true;
  }
  if (!(outcome instanceof ProviderCallError)) throw outcome;
  expect(outcome.code).not.toBe('provider_timeout');
  expect(outcome.message).toContain('"box"');
  expect(outcome.retryAfterSeconds ?? 0).toBeLessThanOrEqual(86_400);
  expect(outcome.retryAfterSeconds ?? 0).toBeGreaterThanOrEqual(0);
  return false;
}

function expectNumbers(provider: Provider, answer: Float32Array): void {
  expect(answer.every(Number.isFinite)).toBe(true);
  let logits = answer;
  if (provider.kind === 'embedding') {
    const width = answer.length / CLASSES;
    expect(Number.isInteger(width)).toBe(true);
    logits = cosineLogits(answer.subarray(0, width), answer, width, provider.scale);
  }
  expect(logits).toHaveLength(CLASSES);
  const refined = refineLogits(HEAD, logits);
  for (const scores of [logits, refined]) {
    const probabilities = [
      ...softmax(scores, CLASSES),
      ...rankLabels(scores, LABELS, CLASSES)[0].map(({ score }) => score),
    ];
    expect(probabilities.every((value) => value >= 0 && value <= 1)).toBe(true);
  }
}

/** Lets the server answer 200 with many bodies. @returns how many of them were taken */
async function answerWith(subject: Subject, bodies: fc.Arbitrary<string | Buffer>, numRuns: number): Promise<number> {
  const provider = open(subject);
  let taken = 0;
  await fc.assert(
    fc.asyncProperty(bodies, fc.boolean(), async (body, embedImages) => {
      send = (response) => response.writeHead(200, { 'content-type': 'application/json' }).end(body);
      if (await expectUsable(provider, embedImages)) taken++;
    }),
    { numRuns, seed: SEED },
  );
  await provider.close();
  return taken;
}

describe.each(SUBJECTS)('any answer through %s', (subject) => {
  const valid = VALID[formOf(subject)];

  it('may be bytes of any kind', async () => {
    const bytes = fc
      .tuple(fc.constantFrom('', '{', '[', '{"', valid.slice(0, 30)), fc.uint8Array({ maxLength: 300 }))
      .map(([start, rest]) => Buffer.concat([Buffer.from(start), rest]));
    expect(await answerWith(subject, bytes, RUNS.bytes)).toBe(0);
  });

  it('may be JSON of any kind', async () => {
    const json = fc.oneof(
      { weight: 6, arbitrary: jsonText },
      deepText,
      fc.jsonValue().map((value) => JSON.stringify(value)),
    );
    expect(await answerWith(subject, json, RUNS.json)).toBeLessThan(RUNS.json / 10);
  });

  it('may be a valid one with other values, fields and order', async () => {
    const taken = await answerWith(
      subject,
      mutations.map((changes) => mutated(valid, changes)),
      RUNS.mutated,
    );
    expect(taken).toBeGreaterThan(RUNS.mutated / 20);
    expect(taken).toBeLessThan(RUNS.mutated);
  });

  it('may be a valid one with damaged bytes', async () => {
    await answerWith(
      subject,
      damage.map((done) => damaged(Buffer.from(valid), done)),
      RUNS.damaged,
    );
  });

  it('may come with any status and headers, or be no HTTP at all', async () => {
    const body = fc.oneof(jsonText, fc.constant(valid), fc.constant(`{"error":{"code":"x"},"estimated_time":1e999}`));
    const reply = fc.record({ status, headers, body, raw: fc.option(damage, { freq: 3 }), embedImages: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(reply, async ({ status, headers, body, raw, embedImages }) => {
        send = (response) => {
          const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
          const head = `HTTP/1.1 ${status} Any\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${lines.join('')}\r\n`;
          const whole = Buffer.from(head + body);
          response.socket?.end(raw === null ? whole : damaged(whole, raw));
        };
        // Providers ask to be left alone; each of them asks for itself only.
        const provider = open(subject);
        await expectUsable(provider, embedImages);
        await provider.close();
      }),
      { numRuns: RUNS.replies, seed: SEED },
    );
  });
});

it('any tensors in binary are read or refused', async () => {
  const provider = open('open_inference');
  const { headers: known, body } = binaryTensorAnswer([1, 2]);
  await fc.assert(
    fc.asyncProperty(
      fc.option(damage),
      fc.float(),
      fc.integer({ min: -5, max: 400 }),
      async (change, value, length) => {
        const bytes = Buffer.from(body);
        bytes.writeFloatLE(value, bytes.length - 4);
        const header = length < 200 ? known : { ...known, 'inference-header-content-length': String(length) };
        send = (response) => response.writeHead(200, header).end(change === null ? bytes : damaged(bytes, change));
        await expectUsable(provider, false);
      },
    ),
    { numRuns: 500, seed: SEED },
  );
  await provider.close();
});

/** What the reference provider says of its model. */
const METADATA = JSON.stringify({
  name: 'emoji-clip',
  platform: 'onnx',
  inputs: [
    { name: 'images', datatype: 'BYTES', shape: [-1] },
    { name: 'class_names', datatype: 'BYTES', shape: [-1] },
    { name: 'context', datatype: 'FP32', shape: [-1, 2, 3] },
    { name: 'template', datatype: 'BYTES', shape: [-1] },
  ],
  outputs: [{ name: 'logits', datatype: 'FP32', shape: [-1, -1, -1] }],
  parameters: {
    prompt: {
      context_tokens: 2,
      context_width: 3,
      initial_context: Buffer.alloc(24).toString('base64'),
      template: 'a {}',
    },
    max_classes_per_request: 7,
    image_references: 'sha256',
    idempotency_header: 'Idempotency-Key',
  },
});

it('any metadata describes a model with which a prompt can start, or is refused', async () => {
  const json = fc.oneof(
    { weight: 5, arbitrary: mutations.map((changes) => mutated(METADATA, changes)) },
    jsonText,
    deepText,
    fc
      .constantFrom('1e15', '4097', '-1')
      .map((value) =>
        METADATA.replace(/"initial_context":"[^"]*",/, '').replace('"context_tokens":2', `"context_tokens":${value}`),
      ),
  );
  let taken = 0;
  await fc.assert(
    fc.asyncProperty(json, async (body) => {
      send = (response) => response.writeHead(200).end(body);
      const outcome = await describeProvider(subjectConnection('open_inference', server.url)).catch(
        (error: unknown) => error,
      );
      if (outcome instanceof CraftError) {
        expect(outcome.param).toMatch(/^(base_url|settings\.)/);
        expect(outcome.message.length).toBeLessThan(1000);
        return;
      }
      if (outcome instanceof Error) throw outcome;
      const { defaultTemplate, contextTokens, ...rest } = outcome as ProviderCapabilities;
      taken++;
      expect(defaultTemplate).toContain('{}');
      expect(startContextOf({ defaultTemplate, contextTokens, ...rest })).toHaveLength(
        (contextTokens ?? 0) * (rest.contextWidth ?? 0),
      );
    }),
    { numRuns: 500, seed: SEED },
  );
  expect(taken).toBeGreaterThan(20);
});
