import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { requireKey } from './authentication.js';
import type { EmojiClip } from './emoji-clip.js';
import type { Misbehaviour } from './misbehaviour.js';
import { invalidInput, parseInput } from './parse-input.js';
import type { Purchases } from './purchases.js';

export interface ControlOptions {
  model: EmojiClip;
  purchases: Purchases;
  misbehaviour: Misbehaviour;
  controlKey?: string;
}

const CODE = 'invalid_control_request';
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

  app.get('/control/usage', async (request) => purchases.report(parseInput(usageQuery, request.query, CODE).key));

  app.post('/control/reset', async (request) => {
    const what = parseInput(resetBody, request.body ?? {}, CODE);
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
      throw error instanceof z.ZodError ? invalidInput(error, CODE) : error;
    }
    return misbehaviour.status();
  });
}
