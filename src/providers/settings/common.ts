import { z } from 'zod';

/** What the record of a provider may say whatever its protocol is. */

/** Headers of the connection or of the body, which no credential travels in. */
const RESERVED_HEADER =
  /^(connection|keep-alive|proxy-.*|transfer-encoding|te|trailer|upgrade|http2-settings|expect|host|content-.*|accept(-.*)?|inference-.*)$/i;

export function isReservedHeader(name: string): boolean {
  return RESERVED_HEADER.test(name);
}

/** Whether a header cannot carry idempotency keys, because something else travels in it. */
export function hasOtherUse(header: string): boolean {
  return isReservedHeader(header) || /^(authorization|cookie)$/i.test(header);
}

export const headerName = z.string().regex(/^[A-Za-z0-9-]{1,64}$/);

export const commonSettings = {
  unbilled_statuses: z
    .array(z.int().min(300).max(599))
    .max(100)
    .default([])
    .describe('HTTP statuses after which it is certain that nothing was billed. 429 always is one.'),
  idempotency: z
    .strictObject({
      header: headerName
        .refine((name) => !hasOtherUse(name), {
          error: 'This header belongs to HTTP, to the protocol or to credentials.',
        })
        .default('Idempotency-Key'),
      window_seconds: z.int().min(60).max(31_536_000).default(86_400).describe('How long the provider knows a key.'),
    })
    .nullable()
    .optional()
    .describe(
      'The header with which a repeated request is the same purchase and is not billed again. Left out: what the provider says of itself, if it can. null: the provider knows no such header.',
    ),
  image_size: z
    .strictObject({
      width: z.int().min(1).max(8192),
      height: z.int().min(1).max(8192),
      fit: z
        .enum(['fill', 'contain', 'cover', 'inside'])
        .default('inside')
        .describe(
          'fill: to exactly this size. contain: on white. cover: cropped. inside: only made smaller, never cropped.',
        ),
      kernel: z.enum(['linear', 'cubic', 'lanczos3']).default('lanczos3'),
    })
    .optional()
    .describe("The model's input size: images are scaled to it, each once, before they are sent."),
};

/** Of protocols that are billed by the token. */
export const tokenSettings = {
  max_image_tokens: z.int().min(0).max(1_000_000),
  bytes_per_token: z
    .number()
    .min(1)
    .max(8)
    .default(1)
    .describe('Bytes of text for which a token is reserved. 1 is certain; English has 4 or more.'),
};

export const httpPath = z
  .string()
  .max(512)
  .regex(/^\/[^\s?#]*$/, 'Start with a slash; leave out what follows ? or #.');

/** What every protocol's settings have. */
type CommonSettings = z.output<z.ZodObject<typeof commonSettings>>;
export type ImageSize = NonNullable<CommonSettings['image_size']>;
