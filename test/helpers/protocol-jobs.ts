import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { ok, quickJob } from './api.js';
import { type ProtocolName, recordOf } from './protocols.js';
import type { JobAnswer, TestService } from './service.js';

export interface ProtocolJob extends JobAnswer {
  plan: JobAnswer['plan'] & {
    setup: Record<string, number>;
    per_generation: Record<string, number>;
    text_embeddings: { per_generation: number; total: number } | null;
    rounds: number;
  };
}

/** Jobs at providers of any protocol, all of them the reference provider of a service. */
export class ProtocolJobs {
  /** @param training the file that jobs train on */
  constructor(
    private readonly service: TestService,
    private readonly training: string,
  ) {}

  /** @returns the provider's id */
  async register(
    protocol: ProtocolName,
    name: string,
    settings: Record<string, unknown> = {},
    rest: Record<string, unknown> = {},
  ): Promise<string> {
    const { provider, providerKey } = this.service;
    const record = recordOf(protocol, provider.url);
    const { id } = await ok<{ id: string }>(
      this.service.request('POST', '/v1/providers', {
        ...record,
        name,
        credentials: { type: 'bearer', token: providerKey },
        settings: { ...record.settings, ...settings },
        ...rest,
      }),
    );
    return id;
  }

  async create(model: string, craft: Record<string, unknown> = {}, file = this.training): Promise<ProtocolJob> {
    const request = { ...quickJob(file, { budget: { max_prompt_evaluations: 24 }, ...craft }), model };
    return ok<ProtocolJob>(this.service.request('POST', '/v1/fine_tuning/jobs', request));
  }

  /** What the reference provider has counted since the last reset. */
  async served(): Promise<Record<string, number>> {
    return (await ok<{ totals: Record<string, number> }>(this.control('GET', '/control/usage'))).totals;
  }

  async reset(): Promise<void> {
    expect((await this.control('POST', '/control/reset')).status).toBe(200);
  }

  /** Waits until so many of a job's calls have been settled. */
  async settledCalls(jobId: string, count: number): Promise<void> {
    const { reservation } = this.service.core.database;
    while ((await reservation.count({ where: { accountId: jobId, state: 'settled' } })) < count) await sleep(5);
  }

  private control(method: string, path: string): Promise<Response> {
    const { provider, providerKey } = this.service;
    return fetch(provider.url + path, { method, headers: { authorization: `Bearer ${providerKey}` } });
  }
}
