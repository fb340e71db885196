import { z } from 'zod';

/** Faults that the server commits on purpose, so that clients can be tested against a provider that misbehaves. */

const CONTENT_KINDS = ['nan', 'missing_value', 'missing_label', 'wrong_count'] as const;
const KINDS = [
  '429',
  '500',
  '503',
  'loading',
  'drop_before',
  'drop_after',
  'truncate',
  'malformed',
  'hang',
  ...CONTENT_KINDS,
] as const;

/**
 * 429, 500, 503, loading, drop_before and hang happen before anything is computed and are not served; the others spoil
 * an answer that was computed and counted.
 */
export type FaultKind = (typeof KINDS)[number];

/**
 * Faults in what an answer says: a number that is none (null in JSON), a value that is missing, a class or an item
 * without its numbers, and more or fewer of them than were asked for.
 */
export type ContentFault = (typeof CONTENT_KINDS)[number];

const kind = z.enum(KINDS);
const planSchema = z.strictObject({
  /** Added before every answer. */
  latency_ms: z.number().min(0).max(600_000).default(0),
  /** So many requests pass; later ones are not answered, nor served, until the plan is replaced. */
  hold_after: z.number().int().min(0).nullable().default(null),
  /** More requests than this are answered 429 with Retry-After. */
  requests_per_second: z.number().positive().nullable().default(null),
  fail_next: z
    .array(
      z.strictObject({
        kind,
        /** Sent as Retry-After with 429 and 503, and as estimated_time with loading; without it the former have none. */
        retry_after_s: z.number().int().min(0).optional(),
        count: z.number().int().min(1).default(1),
      }),
    )
    .default([]),
  /** Probability of each kind for a request that nothing above failed. */
  error_rate: z
    .partialRecord(kind, z.number().min(0).max(1))
    .default({})
    .refine(
      (rates) => Object.values(rates).reduce((sum, rate) => sum + rate, 0) <= 1 + 1e-9,
      'must not sum to more than 1',
    ),
  seed: z.number().int().default(0),
});

export type MisbehaviourPlan = z.infer<typeof planSchema>;

export interface Fault {
  kind: FaultKind;
  retryAfterSeconds?: number;
}

export interface Verdict {
  latencyMs: number;
  fault?: Fault;
  /** Fulfilled when the request is no longer to be held. */
  held?: Promise<void>;
}

export interface MisbehaviourStatus extends MisbehaviourPlan {
  /** How often each kind has happened since the plan was set. */
  committed: Partial<Record<FaultKind, number>>;
  /** Requests that are held now. */
  held: number;
}

export class Misbehaviour {
  private plan: MisbehaviourPlan = planSchema.parse({});
  private random = seededRandom(0);
  private allowance = { tokens: 0, at: 0 };
  private committed: Partial<Record<FaultKind, number>> = {};
  private readonly letGo: (() => void)[] = [];

  /** @param now milliseconds on a clock that never runs backwards. */
  constructor(private readonly now: () => number = () => performance.now()) {}

  /** Replaces the whole plan; what `input` leaves out is off. @throws ZodError when it is no plan. */
  configure(input: unknown): void {
    this.plan = planSchema.parse(input);
    this.random = seededRandom(this.plan.seed);
    this.allowance = { tokens: Math.max(1, this.plan.requests_per_second ?? 0), at: this.now() };
    this.committed = {};
    for (const letGo of this.letGo.splice(0)) letGo();
  }

  /** The plan, with the failures still to come and the requests that still pass, and what has become of it. */
  status(): MisbehaviourStatus {
    return structuredClone({ ...this.plan, committed: this.committed, held: this.letGo.length });
  }

  /** Decides on the next request. */
  next(): Verdict {
    const fault = this.nextPlanned() ?? this.overRate() ?? this.byChance();
    if (fault !== undefined) this.committed[fault.kind] = (this.committed[fault.kind] ?? 0) + 1;
    return { latencyMs: this.plan.latency_ms, fault, held: this.hold() };
  }

  private hold(): Promise<void> | undefined {
    const { hold_after: left } = this.plan;
    if (left === null) return undefined;
    if (left === 0) return new Promise((resolve) => this.letGo.push(resolve));
    this.plan.hold_after = left - 1;
    return undefined;
  }

  private nextPlanned(): Fault | undefined {
    const [first] = this.plan.fail_next;
    if (first === undefined) return undefined;
    first.count -= 1;
    if (first.count === 0) this.plan.fail_next.shift();
    return { kind: first.kind, retryAfterSeconds: first.retry_after_s };
  }

  private overRate(): Fault | undefined {
    const rate = this.plan.requests_per_second;
    if (rate === null) return undefined;
    const now = this.now();
    const earned = ((now - this.allowance.at) / 1000) * rate;
    const tokens = Math.min(Math.max(1, rate), this.allowance.tokens + earned);
    const passed = tokens >= 1;
    this.allowance = { tokens: passed ? tokens - 1 : tokens, at: now };
    return passed ? undefined : { kind: '429', retryAfterSeconds: Math.ceil((1 - tokens) / rate) };
  }

  private byChance(): Fault | undefined {
    const rates = Object.entries(this.plan.error_rate) as [FaultKind, number][];
    if (rates.length === 0) return undefined;
    let draw = this.random();
    for (const [kind, rate] of rates) {
      if (draw < rate) return { kind };
      draw -= rate;
    }
    return undefined;
  }
}

export function contentFault(fault: Fault | undefined): ContentFault | undefined {
  return CONTENT_KINDS.find((kind) => kind === fault?.kind);
}

/** Numbers in [0, 1) (mulberry32); enough for choosing faults repeatably. */
function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
