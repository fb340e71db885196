import { expect } from 'vitest';
import { type ExampleImage, toDataUri } from '../../src/demo/example-data.js';
import { type Counts, createJob, difference, exportAdapter, ok, served } from './api.js';
import type { JobAnswer, TestService } from './service.js';

export interface EconomyJob extends JobAnswer {
  method: { craft: { shots?: number } };
  plan: JobAnswer['plan'] & {
    strategy: 'paper' | 'economy';
    strategy_reason: string | null;
    probe_labels: string[];
    prediction: { transforms: string[]; usage: Record<string, number> } | null;
    training_images: number;
    validation_images: number;
    setup: Record<string, number>;
    per_generation: Record<string, number>;
    text_embeddings: { per_generation: number; total: number } | null;
    rounds: number;
    decided_by: string;
  };
}

/** An adapter's record, of which lists leave `prediction` out. */
export interface Adapter {
  id: string;
  prediction?: EconomyJob['plan']['prediction'];
}

export interface Predicted {
  data: {
    predictions: { label: string; score: number }[];
    black_box_predictions?: { label: string; score: number }[];
  }[];
  usage: Record<string, number>;
}

/** @param craft the budget and all else that is asked for; without a strategy it is the service's to choose */
export function economyJob(file: string, craft: Record<string, unknown>, rest: Record<string, unknown> = {}) {
  return { model: 'emoji-clip', training_file: file, seed: 1, ...rest, method: { type: 'craft', craft } };
}

export async function createEconomyJob(
  service: TestService,
  request: unknown,
  headers?: Record<string, string>,
): Promise<EconomyJob> {
  return (await createJob(service, request, headers)) as EconomyJob;
}

/** Creates a job, waits for its end, and says what the provider served meanwhile. */
export async function runEconomyJob(
  service: TestService,
  request: unknown,
): Promise<{ job: EconomyJob; counts: Counts }> {
  const before = await served(service);
  const { id } = await createEconomyJob(service, request);
  const job = (await service.finished(id)) as EconomyJob;
  return { job, counts: difference(await served(service), before) };
}

export function predict(
  service: TestService,
  id: string | null,
  images: ExampleImage[],
  options: Record<string, unknown> = {},
): Promise<Predicted> {
  const body = { images: images.map(({ bytes }) => toDataUri(bytes)), ...options };
  return ok<Predicted>(service.request('POST', `/v1/adapters/${id}/predict`, body));
}

export async function messagesOf(service: TestService, id: string): Promise<string[]> {
  const path = `/v1/fine_tuning/jobs/${id}/events?limit=1000`;
  const page = await ok<{ data: { message: string }[] }>(service.request('GET', path));
  return page.data.map(({ message }) => message).reverse();
}

export async function adapterBytes(service: TestService, { fine_tuned_model: id }: JobAnswer): Promise<Buffer> {
  return Buffer.from(await exportAdapter(service, id));
}

/** No call of a generation was paid for twice. */
export async function expectPaidOnce(service: TestService, jobId: string): Promise<void> {
  const rows = await service.core.database.reservation.findMany({ where: { accountId: jobId, state: 'settled' } });
  const calls = rows.map(({ purpose, generation, chunk }) => `${purpose}/${generation}/${chunk}`);
  expect(new Set(calls).size).toBe(calls.length);
}
