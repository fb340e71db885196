import { beforeAll, describe, expect, it } from 'vitest';
import { exampleImages, misbehave, ok, quickJob, uploadImages } from '../helpers/api.js';
import { dialectOf, SUBJECTS, type Subject, subjectRecord } from '../helpers/contract.js';
import { type TestService, testService } from '../helpers/service.js';

/** What the ledger says of a job is what the provider served, through every protocol; after faults, never less. */

let service: TestService;
let training: string;

beforeAll(async () => {
  service = await testService();
  training = await uploadImages(service, await exampleImages(3, 2));
});

type Counts = Record<'requests' | 'image_queries' | 'text_embeddings', number>;

interface LedgerEntry {
  state: 'settled' | 'released' | 'unknown';
  reason: string | null;
  counted: Omit<Counts, 'text_embeddings'>;
  noted: { text_embeddings: number };
}

interface Ledger {
  data: LedgerEntry[];
  has_more: boolean;
}

const IDEMPOTENCY = { header: 'Idempotency-Key' };

/** Some of each: certainly unbilled, not served but perhaps billed, served and lost on the way, served and useless. */
const FAULTS = {
  fail_next: [
    { kind: '429', retry_after_s: 0 },
    { kind: 'loading', retry_after_s: 0 },
  ],
  // With this seed never three in a row, after which a job would send probes: purchases that nothing repeats.
  seed: 164,
  error_rate: { 500: 0.07, truncate: 0.07, drop_after: 0.05, drop_before: 0.03, nan: 0.03, missing_label: 0.03 },
};

async function register(subject: Subject, name: string, settings: Record<string, unknown>): Promise<string> {
  const record = subjectRecord(subject, service.provider.url);
  const provider = await ok<{ id: string }>(
    service.request('POST', '/v1/providers', {
      ...record,
      name,
      credentials: { type: 'bearer', token: service.providerKey },
      settings: {
        ...record.settings,
        ...(dialectOf(subject) ? { texts_per_request: 2 } : {}),
        ...settings,
      },
      // Small requests, for many of them; one at a time, so that on every run the same ones meet the same faults.
      limits: { concurrency: 1, images_per_request: 1, prompts_per_request: 1 },
    }),
  );
  return provider.id;
}

/** Runs a job at a provider of its own. @returns what was counted and served, and the faults that happened */
async function runCounted(subject: Subject, name: string, settings: Record<string, unknown>, faults = {}) {
  const providerId = await register(subject, name, settings);
  const request = quickJob(training, { budget: { max_prompt_evaluations: 10 }, prompt_space: 'text' });
  await misbehave(service, faults);
  service.provider.usage.reset();
  const created = await ok<{ id: string }>(
    service.request('POST', '/v1/fine_tuning/jobs', { ...request, model: name }),
  );
  const job = await service.finished(created.id);
  expect(job).toMatchObject({ status: 'succeeded', error: null });
  const { totals } = service.provider.usage.report();
  const { committed } = service.provider.misbehaviour.status();
  const entries = await ledgerOf(created.id);
  const used: Counts = {
    requests: job.budget.requests.used,
    image_queries: job.budget.image_queries.used,
    text_embeddings: entries.reduce((sum, { noted }) => sum + noted.text_embeddings, 0),
  };
  const { usage } = await ok<{ usage: Counts }>(service.request('GET', `/v1/providers/${providerId}`));
  expect(usage).toMatchObject({ requests: used.requests, image_queries: used.image_queries });
  expect(await service.core.database.$queryRaw`SELECT * FROM ledger_discrepancies`).toEqual([]);
  const { requests, image_queries, text_embeddings } = totals;
  return { used, served: { requests, image_queries, text_embeddings }, entries, committed };
}

async function ledgerOf(jobId: string): Promise<LedgerEntry[]> {
  const { data, has_more: more } = await ok<Ledger>(
    service.request('GET', `/v1/fine_tuning/jobs/${jobId}/ledger?limit=100`),
  );
  expect(more).toBe(false);
  return data;
}

const nameOf = (subject: Subject, what: string) => `${what}-${subject.replaceAll(/[^a-z]+/g, '-')}`;

describe.each(SUBJECTS)('a job through %s', (subject) => {
  it('is counted exactly as it was served', async () => {
    const { used, served, entries } = await runCounted(subject, nameOf(subject, 'plain'), {});
    expect(used).toEqual(served);
    expect(used.requests).toBeGreaterThan(0);
    expect(used.text_embeddings > 0).toBe(dialectOf(subject) !== undefined);
    expect(new Set(entries.map(({ state }) => state))).toEqual(new Set(['settled']));
  });
});

// The dialects of embeddings differ in their bodies only.
describe.each(SUBJECTS.filter((subject) => (dialectOf(subject) ?? 'infinity') === 'infinity'))(
  'a job through %s whose provider fails',
  (subject) => {
    it('keeps counting what may have been billed, and nothing else', async () => {
      const { used, served, entries, committed } = await runCounted(
        subject,
        nameOf(subject, 'faults'),
        { idempotency: null },
        FAULTS,
      );
      // A model that loads is certainly not billed for with Hugging Face only.
      const loading = subject === 'hugging_face' ? 0 : (committed.loading ?? 0);
      const unserved = (committed['500'] ?? 0) + (committed.drop_before ?? 0) + loading;
      expect(used.requests - served.requests).toBe(unserved);
      expect(used.image_queries).toBeGreaterThanOrEqual(served.image_queries);
      expect(used.text_embeddings).toBeGreaterThanOrEqual(served.text_embeddings);
      const lost = entries.filter(({ state }) => state === 'unknown');
      expect(lost).toHaveLength(unserved + (committed.truncate ?? 0) + (committed.drop_after ?? 0));
    });

    it('is counted exactly as it was served, faults and all, where the provider honours keys', async () => {
      const { used, served, committed } = await runCounted(
        subject,
        nameOf(subject, 'keys'),
        { idempotency: IDEMPOTENCY },
        FAULTS,
      );
      expect(used).toEqual(served);
      expect((committed.truncate ?? 0) + (committed.drop_after ?? 0)).toBeGreaterThan(0);
    });
  },
);
