import { beforeAll, describe, expect, it } from 'vitest';
import { exampleImages, ok, quickJob, uploadImages } from '../helpers/api.js';
import { PROTOCOLS, recordOf } from '../helpers/protocols.js';
import { type TestService, testService } from '../helpers/service.js';

let service: TestService;
let training: string;

beforeAll(async () => {
  service = await testService();
  training = await uploadImages(service, await exampleImages(3, 2));
});

interface Plan {
  generations: number;
  setup: Record<string, number>;
  per_generation: Record<string, number>;
  total: Record<string, number>;
  text_embeddings: { per_generation: number; total: number } | null;
  rounds: number;
}

interface Job {
  id: string;
  plan: Plan;
}

async function register(protocol: (typeof PROTOCOLS)[number], name: string, settings: Record<string, unknown> = {}) {
  const record = recordOf(protocol, service.provider.url);
  return ok<{ id: string }>(
    service.request('POST', '/v1/providers', {
      ...record,
      name,
      credentials: { type: 'bearer', token: service.providerKey },
      settings: { ...record.settings, ...settings },
    }),
  );
}

describe.each(PROTOCOLS)('a job through %s', (protocol) => {
  it('ends with an adapter that predicts through the same protocol', async () => {
    const name = `by-${protocol.replaceAll('_', '-')}`;
    const provider = await register(protocol, name);
    const test = await ok<{ ok: boolean; understood: { logits: number[] } | null; error: unknown }>(
      service.request('POST', `/v1/providers/${provider.id}/test`),
    );
    expect(test).toMatchObject({ ok: true, error: null });
    const created = await ok<Job>(
      service.request('POST', '/v1/fine_tuning/jobs', {
        ...quickJob(training, { budget: { max_prompt_evaluations: 12 }, prompt_space: 'text' }),
        model: name,
      }),
    );
    const job = await service.finished(created.id);
    expect(job.error).toBeNull();
    expect(job.status).toBe('succeeded');
    const images = (await exampleImages(3, 1, 'test')).map(
      ({ bytes }) => `data:image/png;base64,${bytes.toString('base64')}`,
    );
    const answer = await ok<{ data: { predictions: { score: number }[] }[] }>(
      service.request('POST', `/v1/adapters/${job.fine_tuned_model}/predict`, { images, black_box: true }),
    );
    expect(answer.data).toHaveLength(images.length);
  });
});
