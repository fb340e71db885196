import { z } from 'zod';
import { commonSettings, httpPath, tokenSettings } from './common.js';

export const openAiChatSettings = z.strictObject({
  ...commonSettings,
  ...tokenSettings,
  max_image_tokens: tokenSettings.max_image_tokens
    .default(3800)
    .describe(
      'As many tokens as an image is billed as, at most. OpenAI: up to 1,536 patches × 2.46 (gpt-4.1-nano), 1,105 with tiles (gpt-4o); gpt-4o-mini up to 48,169.',
    ),
  path: httpPath.default('/chat/completions').describe('After base_url, which ends with /v1 usually.'),
  query: z
    .record(z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/), z.string().max(200))
    .default({})
    .describe('Query parameters, such as api-version of Azure.'),
  instruction: z
    .string()
    .min(1)
    .max(4000)
    .default('Which of these options describes the image best? Answer with the key of the option only.')
    .describe('Precedes the options.'),
  option_keys: z
    .enum(['letters', 'numbers'])
    .default('letters')
    .describe('How options are named: A, B, … or 1, 2, …. Each must be one token of the model.'),
  top_logprobs: z
    .int()
    .min(2)
    .max(50)
    .default(20)
    .describe(
      'As many log-probabilities as the provider returns. More classes are asked about in rounds of this many.',
    ),
  logprob_floor: z
    .number()
    .min(-100)
    .max(-5)
    .default(-20)
    .describe(
      'Log-probability of an option that is not among those returned, or that of the least likely of them where it is lower.',
    ),
  max_tokens_parameter: z
    .enum(['auto', 'max_tokens', 'max_completion_tokens'])
    .default('auto')
    .describe('auto: max_completion_tokens at OpenAI and Azure, max_tokens, which all others know, elsewhere.'),
  image_detail: z.enum(['low', 'high', 'auto']).optional(),
  image_url: z
    .url({ protocol: /^https?$/ })
    .max(2048)
    .regex(/\{sha256\}/, 'Put {sha256} where the checksum of the image goes.')
    .optional()
    .describe('Where the provider can fetch the images itself. Left out: images travel as data URIs.'),
  extra_body: z
    .record(z.string().max(64), z.unknown())
    .default({})
    .describe('Further fields of every request, such as {"chat_template_kwargs": {"enable_thinking": false}}.'),
});
