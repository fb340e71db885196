import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { z } from 'zod';
import { TrustedProxies, TrustedProxiesError } from './access/trusted-proxies.js';
import { COMPUTE_NAMES } from './craft/compute.js';
import { AddressPolicy, AddressPolicyError } from './outgoing/address-policy.js';

/** The environment, read and validated once. Nothing else in the project reads `process.env`. */

const MIB = 1024 * 1024;

const positiveInteger = (fallback: number) => z.coerce.number().int().positive().default(fallback);
const flag = z.enum(['true', 'false', '1', '0']).transform((value) => value === 'true' || value === '1');

/** A list that `parse` understands, or refuses with an error of that class, whose message is the operator's. */
function listFor<Parsed>(parse: (list: string) => Parsed, Refusal: new (message: string) => Error) {
  return z.string().transform((list, context) => {
    try {
      return parse(list);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
      return z.NEVER;
    }
  });
}

const addressPolicy = listFor((list) => AddressPolicy.parse(list), AddressPolicyError);
const trustedProxies = listFor((list) => TrustedProxies.parse(list), TrustedProxiesError);

const corsOrigins = z.string().transform((list, context) => {
  const origins = list.split(/[\s,]+/).filter(Boolean);
  if (origins.includes('*')) return '*' as const;
  for (const origin of origins) {
    // A browser sends the origin as its page's URL has it, so another way to write it would match nothing.
    if (URL.canParse(origin) && /^https?:/.test(origin) && new URL(origin).origin === origin) continue;
    const message = `"${origin}" is no origin; write it as https://app.example.com or http://localhost:5173, or *`;
    context.addIssue({ code: 'custom', message });
  }
  return origins;
});

/** An address with a user and a password; neither is repeated in the message. */
const storeUrl = (scheme: RegExp, form: string) =>
  z
    .string()
    .refine((url) => scheme.test(url) && URL.canParse(url) && !/%(?![0-9a-f]{2})/i.test(url), {
      message:
        `needs the form ${form}; in user and password @ : / ? # % and spaces are percent-encoded ` +
        '(%40 %3A %2F %3F %23 %25 %20)',
    })
    .optional();

const environment = z.object({
  HOST: z.string().min(1).default('127.0.0.1'),
  PORT: z.coerce.number().int().min(0).max(65535).default(8080),
  CRAFT_DATA_DIR: z.string().min(1).default('.craft'),
  CRAFT_API_KEY: z
    .string()
    .regex(/^[\x21-\x7e]{16,}$/, 'needs at least 16 characters, none of them a space or outside of ASCII')
    .optional(),
  CRAFT_SECRET_KEY: z
    .string()
    .regex(/^[0-9a-f]{64}$/i, 'needs 64 hexadecimal digits; make one with: openssl rand -hex 32')
    .optional(),
  CRAFT_COMPUTE: z.enum(['auto', ...COMPUTE_NAMES]).default('auto'),
  CRAFT_WORKER_CONCURRENCY: positiveInteger(64),
  // One core is left to what waits for events.
  CRAFT_TRAINING_THREADS: positiveInteger(Math.max(1, availableParallelism() - 1)),
  CRAFT_CHECKPOINT_INTERVAL: positiveInteger(8),
  CRAFT_LOCK_SECONDS: positiveInteger(30),
  CRAFT_UPKEEP_SECONDS: positiveInteger(30),
  CRAFT_MAX_UPLOAD_BYTES: positiveInteger(1024 * MIB),
  CRAFT_MAX_PREDICT_BYTES: positiveInteger(64 * MIB),
  CRAFT_PREDICT_BATCH_MS: z.coerce.number().min(0).max(1000).default(4),
  CRAFT_RATE_LIMIT_PER_MINUTE: positiveInteger(6000),
  CRAFT_CORS_ORIGINS: corsOrigins.prefault(''),
  CRAFT_ALLOWED_NETWORKS: addressPolicy.prefault(''),
  CRAFT_TRUSTED_PROXIES: trustedProxies.prefault(''),
  CRAFT_EMBEDDED_PROVIDER: flag.default(true),
  CRAFT_PROVIDER_PORT: z.coerce.number().int().min(0).max(65535).default(0),
  CRAFT_PROVIDER_URL: z.url({ protocol: /^https?$/, error: 'needs the form http://provider:8081' }).optional(),
  CRAFT_PROVIDER_KEY: z.string().min(1).optional(),
  CRAFT_PROVIDER_IDEMPOTENCY: flag.default(true),
  CRAFT_PROVIDER_STATE: z.string().min(1).optional(),
  DATABASE_URL: storeUrl(/^postgres(ql)?:\/\//, 'postgresql://user:password@host:5432/database'),
  REDIS_URL: storeUrl(/^rediss?:\/\//, 'redis://user:password@host:6379/0'),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
});

export interface Config {
  host: string;
  port: number;
  /** Absolute path; holds the embedded Postgres, uploads and generated keys. */
  dataDirectory: string;
  apiKey?: string;
  /** 32 bytes in hexadecimal; encrypts provider credentials at rest. */
  secretKey?: string;
  compute: z.infer<typeof environment>['CRAFT_COMPUTE'];
  /** Jobs that a worker runs side by side. */
  workerConcurrency: number;
  /** Threads in which they compute. */
  trainingThreads: number;
  /** Generations between two saved training states. */
  checkpointInterval: number;
  /** After this time without a sign of life a worker's jobs are given to another one. */
  lockSeconds: number;
  /** How often lost and waiting jobs are looked after. */
  upkeepSeconds: number;
  maxUploadBytes: number;
  maxPredictBytes: number;
  /** How long a prediction waits at most to share a provider call with others of its adapter; 0: not at all. */
  predictBatchMs: number;
  rateLimitPerMinute: number;
  /** Whose pages may call the API from a browser; *: everybody's. */
  corsOrigins: '*' | string[];
  /** Which addresses providers and image URLs may be at. */
  addressPolicy: AddressPolicy;
  /** The reverse proxies in front of the API. */
  trustedProxies: TrustedProxies;
  embeddedProvider: boolean;
  providerPort: number;
  /** Where a separately run embedded provider is reached. */
  providerUrl?: string;
  providerKey?: string;
  /** Whether the embedded provider honours idempotency keys. */
  providerIdempotency: boolean;
  /** Absolute path of the file in which the embedded provider keeps what it served. */
  providerState?: string;
  databaseUrl?: string;
  redisUrl?: string;
  logLevel: string;
}

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/**
 * Reads the configuration from environment variables.
 * @throws ConfigError naming each variable that is wrong and what it should look like.
 */
export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
  const parsed = environment.safeParse(given);
  if (!parsed.success) {
    const lines = parsed.error.issues.map((issue) => `  ${issue.path.join('.')}: ${issue.message}`);
    throw new ConfigError(`The environment is not usable:\n${lines.join('\n')}`);
  }
  const e = parsed.data;
  return {
    host: e.HOST,
    port: e.PORT,
    dataDirectory: resolve(e.CRAFT_DATA_DIR),
    apiKey: e.CRAFT_API_KEY,
    secretKey: e.CRAFT_SECRET_KEY,
    compute: e.CRAFT_COMPUTE,
    workerConcurrency: e.CRAFT_WORKER_CONCURRENCY,
    trainingThreads: e.CRAFT_TRAINING_THREADS,
    checkpointInterval: e.CRAFT_CHECKPOINT_INTERVAL,
    lockSeconds: e.CRAFT_LOCK_SECONDS,
    upkeepSeconds: e.CRAFT_UPKEEP_SECONDS,
    maxUploadBytes: e.CRAFT_MAX_UPLOAD_BYTES,
    maxPredictBytes: e.CRAFT_MAX_PREDICT_BYTES,
    predictBatchMs: e.CRAFT_PREDICT_BATCH_MS,
    rateLimitPerMinute: e.CRAFT_RATE_LIMIT_PER_MINUTE,
    corsOrigins: e.CRAFT_CORS_ORIGINS,
    addressPolicy: e.CRAFT_ALLOWED_NETWORKS,
    trustedProxies: e.CRAFT_TRUSTED_PROXIES,
    embeddedProvider: e.CRAFT_EMBEDDED_PROVIDER,
    providerPort: e.CRAFT_PROVIDER_PORT,
    providerUrl: e.CRAFT_PROVIDER_URL,
    providerKey: e.CRAFT_PROVIDER_KEY,
    providerIdempotency: e.CRAFT_PROVIDER_IDEMPOTENCY,
    providerState: e.CRAFT_PROVIDER_STATE === undefined ? undefined : resolve(e.CRAFT_PROVIDER_STATE),
    databaseUrl: e.DATABASE_URL,
    redisUrl: e.REDIS_URL,
    logLevel: e.LOG_LEVEL,
  };
}

/** The environment for a child process: this process's own, with some variables set anew. */
export function childEnvironment(overrides: Record<string, string | undefined>): NodeJS.ProcessEnv {
  return { ...process.env, ...overrides };
}
