import { readExample, toJsonl } from '../src/demo/example-data.js';
import { type Amounts, add, PRICES_USD, times, withCost } from './amounts.js';
import { type Cluster, REPOSITORY } from './cluster.js';
import type { Counts } from './provider-control.js';
import { Random } from './random.js';

const MODEL = 'emoji-clip';
const CLASSES = 4;
const IMAGES_PER_CLASS = 4;
/** Statuses with which the reference provider says that it did not serve a request. */
const REFUSALS = [400, 401, 403, 404, 413, 415, 422, 429];
const BREAKDOWNS = [500, 503];
/** Candidates and the centre go out in many small calls, so that faults fall between the calls of a generation. */
const LIMITS = { concurrency: 2, prompts_per_request: 2, images_per_request: 64, timeout_ms: 4000 };
const HYPERPARAMETERS = { population_size: 8, intrinsic_dimension: 16, head_hidden_width: 16 };
/** "Tight": room for so many calls more than the plan needs. */
const CALLS_TO_SPARE = 2;
export const LARGEST_CALL = withCost({
  prompt_evaluations: LIMITS.prompts_per_request,
  image_queries: LIMITS.prompts_per_request * CLASSES * IMAGES_PER_CLASS,
  requests: 1,
});

/** What differs between the jobs of a round. */
interface Variant {
  generations: number;
  craft: Record<string, unknown>;
  fields: Record<string, unknown>;
  /** After any other status a call's outcome is unknown. */
  unbilledStatuses: number[];
}

const VARIANTS: Variant[] = [
  { generations: 14, craft: {}, fields: {}, unbilledStatuses: REFUSALS },
  {
    generations: 11,
    craft: { validation_fraction: 0.25 },
    fields: { provider_patience_seconds: 2 },
    unbilledStatuses: [...REFUSALS, ...BREAKDOWNS],
  },
  { generations: 16, craft: {}, fields: { provider_patience_seconds: 1 }, unbilledStatuses: REFUSALS },
  {
    generations: 12,
    craft: { validation_fraction: 0.25, checkpoint_selection: 'best_validation' },
    fields: {},
    unbilledStatuses: [...REFUSALS, ...BREAKDOWNS],
  },
];
export const KINDS = VARIANTS.length;

/** A job that is run again and again: always the same request, from a provider record and with a key of its own. */
export interface JobKind {
  index: number;
  request: Record<string, unknown>;
  generations: number;
  /** What the plan needs, if nothing is paid twice. */
  plan: Amounts;
  limit: Amounts;
  /** Under it the provider counts what this kind's jobs were served. */
  key: string;
}

interface Plan {
  plan: { generations: number; per_generation: Counts };
}

/** Uploads a small data set and registers a provider record for each kind of job. */
export async function prepareKinds({ client, providerUrl }: Cluster, seed: number): Promise<JobKind[]> {
  const file = await client.upload<{ id: string }>('/v1/files', 'chaos.jsonl', await someExamples());
  const random = new Random(seed);
  const kinds: JobKind[] = [];
  for (const [index, { generations, craft, fields, unbilledStatuses }] of VARIANTS.entries()) {
    const name = `black-box-${index}`;
    const key = `chaos-key-${index}`;
    await client.post('/v1/providers', {
      name,
      protocol: 'open_inference',
      base_url: providerUrl,
      remote_model: MODEL,
      credentials: { type: 'bearer', token: key },
      limits: LIMITS,
      prices: PRICES_USD,
      settings: { unbilled_statuses: unbilledStatuses },
    });
    const jobSeed = random.integer(0, 1e9);
    const request = (budget: Record<string, number>) => ({
      model: name,
      training_file: file.id,
      seed: jobSeed,
      ...fields,
      method: { type: 'craft', craft: { strategy: 'paper', hyperparameters: HYPERPARAMETERS, budget, ...craft } },
    });
    const dry = await client.post<Plan>('/v1/fine_tuning/jobs?dry_run=true', request({ max_requests: 1000 }));
    const plan = times(withCost(dry.plan.per_generation), generations);
    const limit = add(plan, times(LARGEST_CALL, CALLS_TO_SPARE));
    kinds.push({ index, request: request(toBudget(limit)), generations, plan, limit, key });
  }
  return kinds;
}

/** Limits as the API takes them. */
export function toBudget(limit: Amounts): Record<string, number> {
  return {
    max_prompt_evaluations: limit.prompt_evaluations,
    max_image_queries: limit.image_queries,
    max_requests: limit.requests,
    max_cost_usd: limit.cost_micro_usd / 1e6,
  };
}

async function someExamples(): Promise<string> {
  const example = await readExample('fluent-contrast-subgroups', 'seed-1', new URL('examples/', REPOSITORY));
  return toJsonl(
    example.classes
      .slice(0, CLASSES)
      .flatMap((name) => example.train.filter(({ label }) => label === name).slice(0, IMAGES_PER_CLASS)),
  );
}
