import { BlockList, isIPv4 } from 'node:net';
import { z } from 'zod';
import { queryLimitsSchema } from './query-limits.js';

/** What a caller says of a provider when registering it. The HTTP API publishes these schemas. */

const headerText = z
  .string()
  .min(1)
  .max(4096)
  .regex(/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/, 'Use printable ASCII characters, without blanks at either end.');

/** Headers of the connection or of the body, which no credential travels in. */
const RESERVED_HEADER =
  /^(connection|keep-alive|proxy-.*|transfer-encoding|te|trailer|upgrade|http2-settings|expect|host|content-.*|accept(-.*)?|inference-.*)$/i;

/** Whether a header cannot carry idempotency keys, because something else travels in it. */
export function hasOtherUse(header: string): boolean {
  return RESERVED_HEADER.test(header) || /^(authorization|cookie)$/i.test(header);
}

export const credentialsSchema = z
  .discriminatedUnion('type', [
    z.strictObject({ type: z.literal('bearer'), token: headerText }),
    z.strictObject({
      type: z.literal('header'),
      name: z
        .string()
        .regex(/^[A-Za-z0-9-]{1,64}$/)
        .refine((name) => !RESERVED_HEADER.test(name), {
          error:
            'This header belongs to HTTP or to the protocol. Name the header that carries the key, such as x-api-key.',
        }),
      value: headerText,
    }),
  ])
  .describe('Stored encrypted, never returned.');

export type Credentials = z.output<typeof credentialsSchema>;

const tensorName = (fallback: string) => z.string().min(1).max(128).default(fallback);

const openInferenceSettings = z.strictObject({
  tensors: z
    .strictObject({
      images: tensorName('images').describe('Input, BYTES [N]: encoded images.'),
      class_names: tensorName('class_names').describe('Input, BYTES [C].'),
      context: tensorName('context').describe('Input, FP32 [P, m, d]: context tokens.'),
      template: tensorName('template').describe('Input, BYTES [P]: text templates with {} for the class name.'),
      logits: tensorName('logits').describe('Output, FP32 [P, N, C].'),
    })
    .prefault({})
    .describe('Names of the tensors at the model.'),
  soft_prompt: z
    .strictObject({
      context_tokens: z.int().min(1).max(64),
      context_width: z.int().min(1).max(8192),
      initial_context: z.base64().optional().describe('Starting prompt [m, d], little-endian float32 in base64.'),
    })
    .optional()
    .describe('Only for models whose metadata does not state it.'),
  unbilled_statuses: z
    .array(z.int().min(300).max(599))
    .max(100)
    .default([])
    .describe('HTTP statuses after which it is certain that nothing was billed. 429 always is one.'),
  idempotency: z
    .strictObject({
      header: z
        .string()
        .regex(/^[A-Za-z0-9-]{1,64}$/)
        .refine((name) => !hasOtherUse(name), {
          error: 'This header belongs to HTTP, to the protocol or to credentials.',
        })
        .default('Idempotency-Key'),
      window_seconds: z.int().min(60).max(31_536_000).default(86_400).describe('How long the provider knows a key.'),
    })
    .nullable()
    .optional()
    .describe(
      'The header with which a repeated request is the same purchase and is not billed again. Left out: what the model’s metadata says. null: the provider knows no such header.',
    ),
});

export const openInferenceSettingsSchema = openInferenceSettings.prefault({});

export type OpenInferenceSettings = z.output<typeof openInferenceSettingsSchema>;

const MIB = 1024 * 1024;
const requestBytes = z
  .int()
  .min(MIB)
  .max(1024 * MIB)
  .describe('Largest body of a request. Calls carry fewer images where theirs are large.');

export const limitsSchema = z.strictObject({
  requests_per_second: z.number().positive().max(1e6).nullable().default(null),
  concurrency: z.int().min(1).max(256).default(4).describe('Requests in flight at once.'),
  images_per_request: z.int().min(1).max(65536).default(256),
  prompts_per_request: z.int().min(1).max(1000).default(64),
  max_request_bytes: requestBytes.default(32 * MIB),
  timeout_ms: z.int().min(100).max(600_000).default(60_000),
});

export const pricesSchema = z.strictObject({
  per_request_usd: z.number().min(0).max(1000).default(0),
  per_image_query_usd: z.number().min(0).max(1000).default(0),
});

const LINK_LOCAL = new BlockList();
LINK_LOCAL.addSubnet('169.254.0.0', 16);
LINK_LOCAL.addSubnet('fe80::', 10, 'ipv6');

const baseUrl = z
  .url({ protocol: /^https?$/ })
  .max(2048)
  .superRefine((value, context) => {
    if (!URL.canParse(value)) return;
    const { username, password, hostname } = new URL(value);
    const refuse = (message: string) => context.addIssue({ code: 'custom', message, input: value });
    if (username !== '' || password !== '') {
      refuse('Leave user and password out of the URL. Put what the provider asks for into credentials.');
    } else if (/[?#]/.test(value)) {
      refuse('Leave out what follows ? or #. A key that belongs there goes into credentials.');
    } else if (isLinkLocal(hostname)) {
      refuse('Link-local addresses are not called. Use the address or the name that the provider has in your network.');
    }
  });

/** @param hostname as URL normalizes it, with brackets around an IPv6 address */
function isLinkLocal(hostname: string): boolean {
  if (hostname.startsWith('[')) return LINK_LOCAL.check(hostname.slice(1, -1), 'ipv6');
  return isIPv4(hostname) && LINK_LOCAL.check(hostname);
}

export const providerBudgetSchema = z
  .strictObject({
    total: queryLimitsSchema.prefault({}),
    daily: queryLimitsSchema.prefault({}).describe('Per day in UTC.'),
  })
  .describe('What all jobs and predictions together may spend at this provider. What is left out has no limit.');

export const PROVIDER_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

export const providerInputSchema = z.strictObject({
  name: z
    .string()
    .regex(PROVIDER_NAME, 'Use 1 to 64 lower-case letters, digits, dots, dashes or underscores.')
    .describe('Jobs name the provider by it, as `model`.'),
  protocol: z.enum(['open_inference']),
  base_url: baseUrl.describe('For open_inference: the part before /v2.'),
  remote_model: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,128}$/)
    .describe("The model's name at the provider."),
  credentials: credentialsSchema.optional(),
  limits: limitsSchema.prefault({}),
  prices: pricesSchema.prefault({}),
  budget: providerBudgetSchema.prefault({}),
  settings: openInferenceSettingsSchema,
});

export type ProviderInput = z.output<typeof providerInputSchema>;

export const providerPatchSchema = z.strictObject({
  base_url: providerInputSchema.shape.base_url.optional(),
  remote_model: providerInputSchema.shape.remote_model.optional(),
  credentials: credentialsSchema.nullable().optional().describe('null removes them.'),
  limits: z
    .strictObject({
      requests_per_second: z.number().positive().max(1e6).nullable().optional(),
      concurrency: z.int().min(1).max(256).optional(),
      images_per_request: z.int().min(1).max(65536).optional(),
      prompts_per_request: z.int().min(1).max(1000).optional(),
      max_request_bytes: requestBytes.optional(),
      timeout_ms: z.int().min(100).max(600_000).optional(),
    })
    .optional(),
  prices: z
    .strictObject({
      per_request_usd: z.number().min(0).max(1000).optional(),
      per_image_query_usd: z.number().min(0).max(1000).optional(),
    })
    .optional(),
  budget: z
    .strictObject({ total: queryLimitsSchema.optional(), daily: queryLimitsSchema.optional() })
    .optional()
    .describe('Changes the limits that are named; null removes one. Holds for running jobs, too.'),
  // Without the default, which would be filled in where a patch does not speak of settings.
  settings: openInferenceSettings.optional(),
});

export type ProviderPatch = z.output<typeof providerPatchSchema>;
