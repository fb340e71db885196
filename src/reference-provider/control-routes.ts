import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { InvalidRequestError } from '../errors.js';
import { requireKey } from './authentication.js';
import type { EmojiClip } from './emoji-clip.js';
import type { Misbehaviour } from './misbehaviour.js';
import type { Purchases } from './purchases.js';

export interface ControlOptions {
  model: EmojiClip;
  purchases: Purchases;
  misbehaviour: Misbehaviour;
  controlKey?: string;
}

const usageQuery = z.object({ key: z.string().min(1).optional() });
const resetBody = z.strictObject({
  /** What was served, and the idempotency keys under which it was. */
  usage: z.boolean().default(true),
  misbehaviour: z.boolean().default(true),
  /** Also forget the images and texts seen so far. */
  caches: z.boolean().default(false),
});

/** What was served, and faults on request: for tests and for checking the books, not part of the inference protocol. */
export async function controlRoutes(app: FastifyInstance, options: ControlOptions): Promise<void> {
  const { purchases, misbehaviour, model } = options;
  app.addHook('onRequest', requireKey(options.controlKey === undefined ? undefined : [options.controlKey]));

  app.get('/control/usage', async (request) => purchases.report(parse(usageQuery, request.query).key));

  app.post('/control/reset', async (request) => {
    const what = parse(resetBody, request.body ?? {});
    if (what.usage) purchases.reset();
    if (what.misbehaviour) misbehaviour.configure({});
    if (what.caches) model.forget();
    return what;
  });

  app.get('/control/misbehave', async () => misbehaviour.status());

  app.post('/control/misbehave', async (request) => {
    try {
      misbehaviour.configure(request.body ?? {});
    } catch (error) {
      throw error instanceof z.ZodError ? invalid(error) : error;
    }
    return misbehaviour.status();
  });
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalid(parsed.error);
}

function invalid(error: z.ZodError): InvalidRequestError {
  const [issue] = error.issues;
  const param = issue.path.join('.') || null;
  return new InvalidRequestError({
    code: 'invalid_control_request',
    message: param === null ? issue.message : `${param}: ${issue.message}`,
    param,
  });
}
