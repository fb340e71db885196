import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { type ExampleImage, readExample, toJsonl } from '../../src/demo/example-data.js';
import { readSafetensors, writeSafetensors } from '../../src/formats/safetensors.js';
import { API_KEY, type JobAnswer, type TestService } from './service.js';

/** Settings with which a generation takes milliseconds. */
export const QUICK = { intrinsic_dimension: 16, population_size: 4, head_hidden_width: 16 } as const;

/** Status of a job that was just queued: a worker may have taken it before the answer was read. */
export const UNDER_WAY = expect.stringMatching(/^(queued|running)$/);

export const UNITS = ['prompt_evaluations', 'image_queries', 'requests'] as const;
export type Counts = Record<(typeof UNITS)[number], number>;

export interface ErrorDetails {
  message: string;
  type: string;
  code: string;
  param: string | null;
}

const TYPES: Record<number, string> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  402: 'budget_error',
  404: 'not_found_error',
  405: 'invalid_request_error',
  408: 'invalid_request_error',
  409: 'conflict_error',
  413: 'invalid_request_error',
  415: 'invalid_request_error',
  429: 'rate_limit_error',
  431: 'invalid_request_error',
  500: 'server_error',
  502: 'provider_error',
};

/** Checks that an answer is an error in the one form that all of them have, with the type that fits its status. */
export async function errorOf(response: Response, status: number): Promise<ErrorDetails> {
  const text = await response.text();
  expect(response.status, text).toBe(status);
  expect(response.headers.get('content-type')).toMatch(/^application\/json/);
  const body = JSON.parse(text) as { error: ErrorDetails };
  expect(Object.keys(body)).toEqual(['error']);
  expect(Object.keys(body.error).sort()).toEqual(['code', 'message', 'param', 'type']);
  expect(body.error.type).toBe(TYPES[status]);
  return body.error;
}

/** The body of an answer that is expected to be a success. */
export async function ok<Answer>(response: Response | Promise<Response>): Promise<Answer> {
  const answer = await response;
  const text = await answer.text();
  expect(answer.status, text).toBe(200);
  return JSON.parse(text) as Answer;
}

/** Some images of the example data set: the first `perClass` of each of its first classes, from training or test. */
export async function exampleImages(
  classes: number,
  perClass: number,
  part: 'train' | 'test' = 'train',
): Promise<ExampleImage[]> {
  const example = await readExample('fluent-contrast-subgroups', 'seed-1');
  return example.classes
    .slice(0, classes)
    .flatMap((name) => example[part].filter(({ label }) => label === name).slice(0, perClass));
}

export async function uploadImages(service: TestService, images: ExampleImage[]): Promise<string> {
  return (await ok<{ id: string }>(service.upload(toJsonl(images)))).id;
}

/** Training by the published algorithm that ends within a second or two. */
export function quickJob(
  trainingFile: string,
  craft: Record<string, unknown> = {},
  rest: Record<string, unknown> = {},
) {
  const { hyperparameters, ...others } = craft;
  return {
    model: 'emoji-clip',
    training_file: trainingFile,
    seed: 1,
    ...rest,
    method: {
      type: 'craft',
      craft: {
        strategy: 'paper',
        budget: { max_prompt_evaluations: 15 },
        ...others,
        hyperparameters: { ...QUICK, ...(hyperparameters as Record<string, unknown>) },
      },
    },
  };
}

export function createJob(service: TestService, request: unknown, headers?: Record<string, string>) {
  return ok<JobAnswer>(service.request('POST', '/v1/fine_tuning/jobs', request, headers));
}

/** Creates a job and waits for its end. */
export async function runJob(service: TestService, request: unknown): Promise<JobAnswer> {
  return service.finished((await createJob(service, request)).id);
}

export async function exportAdapter(service: TestService, id: string | null): Promise<Uint8Array<ArrayBuffer>> {
  const response = await service.request('GET', `/v1/adapters/${id}/export`);
  expect(response.status).toBe(200);
  return new Uint8Array(await response.arrayBuffer());
}

/** The exported file with one of its tensors replaced. */
export function withTensor(file: Uint8Array, name: string, shape: number[], data: Float32Array) {
  const { tensors, metadata } = readSafetensors(file);
  return writeSafetensors(tensors.set(name, { dtype: 'F32', shape, data }), metadata);
}

/** The exported file with its description changed. */
export function withDescription(file: Uint8Array, changes: Record<string, unknown>) {
  const { tensors, metadata } = readSafetensors(file);
  const about = JSON.parse(metadata.adapter) as Record<string, unknown>;
  return writeSafetensors(tensors, { ...metadata, adapter: JSON.stringify({ ...about, ...changes }) });
}

export interface Part {
  name: string;
  value: string | Uint8Array;
  filename?: string;
}

/** A multipart request whose parts come in the given order. */
export function sendForm(service: TestService, path: string, parts: Part[]): Promise<Response> {
  const form = new FormData();
  for (const { name, value, filename } of parts) {
    if (filename === undefined) form.append(name, value as string);
    else form.append(name, new Blob([new Uint8Array(Buffer.from(value))]), filename);
  }
  return fetch(service.url + path, { method: 'POST', headers: { authorization: `Bearer ${API_KEY}` }, body: form });
}

/** A request of the reference provider's control interface, over HTTP as any test of a deployment would do it. */
async function control<Answer>(service: TestService, method: string, path: string, body?: unknown): Promise<Answer> {
  const response = await fetch(service.provider.url + path, {
    method,
    headers: {
      authorization: `Bearer ${service.providerKey}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return ok<Answer>(response);
}

/** What the provider says it has served. */
export async function served(service: TestService): Promise<Counts> {
  return (await control<{ totals: Counts }>(service, 'GET', '/control/usage')).totals;
}

/** What the provider served while `work` ran, with what `work` answered. */
export async function servedDuring<Result>(
  service: TestService,
  work: () => Promise<Result>,
): Promise<{ result: Result; counts: Counts }> {
  const before = await served(service);
  const result = await work();
  const after = await served(service);
  return { result, counts: difference(after, before) };
}

export function difference(after: Counts, before: Counts): Counts {
  return Object.fromEntries(UNITS.map((unit) => [unit, after[unit] - before[unit]])) as Counts;
}

/** Sets the faults that the provider commits; without an argument none. */
export async function misbehave(service: TestService, plan: Record<string, unknown> = {}): Promise<void> {
  await control(service, 'POST', '/control/misbehave', plan);
}

/** What the job's budget says was used. */
export function used({ budget }: JobAnswer): Counts {
  return Object.fromEntries(UNITS.map((unit) => [unit, budget[unit].used])) as Counts;
}

/** Asks again and again until the answer is there. The test's own time limit ends a wait in vain. */
export async function until<Answer>(ask: () => Promise<Answer | undefined | null | false>): Promise<Answer> {
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== null && answer !== false) return answer;
    await sleep(20);
  }
}
