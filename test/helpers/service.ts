import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Logger, pino } from 'pino';
import { afterAll } from 'vitest';
import { startApiServer } from '../../src/api-server.js';
import { readConfig } from '../../src/config.js';
import { type Core, openCore } from '../../src/core.js';
import { registerEmbeddedProvider } from '../../src/embedded-provider.js';
import { type RunningReferenceProvider, startReferenceProvider } from '../../src/reference-provider/start.js';
import { startWorker } from '../../src/training-worker.js';
import { testDatabase } from './postgres.js';

export const API_KEY = 'ck-test-key-0123456789';
const PROVIDER_KEY = 'provider-key-0123456789';

export interface TestService {
  url: string;
  core: Core;
  provider: RunningReferenceProvider;
  /** Key of the control endpoints and of the model. */
  providerKey: string;
  /** The jobs that the worker works on. */
  working(): string[];
  /** Stops the worker as a shutdown does, and starts another one. */
  replaceWorker(): Promise<void>;
  /** A request with the API key; a JSON body where one is given. */
  request(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Response>;
  upload(content: string | Uint8Array<ArrayBuffer>, filename?: string, purpose?: string): Promise<Response>;
  /** Polls a job until it is finished, or until it has the status that is asked for. */
  finished(jobId: string, status?: string): Promise<JobAnswer>;
}

export interface JobAnswer {
  id: string;
  status: string;
  compute: string | null;
  fine_tuned_model: string | null;
  stop_reason: string | null;
  pause_reason: string | null;
  pause_message: string | null;
  error: { code: string; message: string; param: string | null } | null;
  progress: { generation: number; generations: number; fraction: number };
  budget: Record<string, { limit: number | null; used: number; reserved: number; remaining: number | null }>;
  metrics: { current: Record<string, number> | null; best: Record<string, number> | null };
  plan: { generations: number; total: Record<string, number> };
}

const cleanups: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Runs `cleanup` after the services that are started from now on have closed. */
export function afterServices(cleanup: () => Promise<unknown>): void {
  cleanups.push(cleanup);
}

/**
 * The whole service on a database of its own: API and reference provider in this process on real sockets, training jobs
 * in a child process run from dist (`npm test` builds it first).
 */
export async function testService(
  environment: Record<string, string> = {},
  providerOptions: { idempotency?: boolean } = {},
  log: Logger = pino({ level: 'silent' }),
): Promise<TestService> {
  const { connectionString } = await testDatabase();
  const dataDirectory = await mkdtemp(join(tmpdir(), 'craft-service-'));
  cleanups.push(() => rm(dataDirectory, { recursive: true, force: true }));
  const config = readConfig({
    PORT: '0',
    CRAFT_DATA_DIR: dataDirectory,
    CRAFT_API_KEY: API_KEY,
    DATABASE_URL: connectionString,
    LOG_LEVEL: 'silent',
    CRAFT_ALLOWED_NETWORKS: 'loopback',
    ...environment,
  });
  const provider = await startReferenceProvider({
    modelDirectory: fileURLToPath(new URL('../../models/emoji-clip', import.meta.url)),
    apiKeys: [PROVIDER_KEY],
    controlKey: PROVIDER_KEY,
    ...providerOptions,
  });
  cleanups.push(() => provider.close());
  const core = await openCore(config, log);
  cleanups.push(() => core.close());
  await registerEmbeddedProvider(core, provider.url, PROVIDER_KEY);
  const api = await startApiServer(core, config, log);
  cleanups.push(() => api.close());
  let worker = await startWorker(core, config, log);
  cleanups.push(() => worker.close());

  const request: TestService['request'] = (method, path, body, headers = {}) =>
    fetch(api.url + path, {
      method,
      headers: {
        authorization: `Bearer ${API_KEY}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
    });
  return {
    url: api.url,
    core,
    provider,
    providerKey: PROVIDER_KEY,
    working: () => worker.jobs(),
    async replaceWorker() {
      await worker.close();
      worker = await startWorker(core, config, log);
    },
    request,
    upload(content, filename = 'data.jsonl', purpose = 'fine-tune') {
      const form = new FormData();
      form.set('purpose', purpose);
      form.set('file', new Blob([content]), filename);
      return fetch(`${api.url}/v1/files`, {
        method: 'POST',
        headers: { authorization: `Bearer ${API_KEY}` },
        body: form,
      });
    },
    async finished(jobId, status) {
      for (;;) {
        const job = (await (await request('GET', `/v1/fine_tuning/jobs/${jobId}`)).json()) as JobAnswer;
        if (job.status === status) return job;
        if (!['queued', 'running', 'validating_files', 'paused'].includes(job.status)) return job;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    },
  };
}
