import { once } from 'node:events';
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { Subscription } from '../../jobs/event-feed.js';
import { parseEventId } from '../../jobs/event-id.js';
import { isTerminal, type JobStatus } from '../../jobs/state-machine.js';
import { preferredType } from '../accept.js';
import { errorResponses, pageQuery, toList } from '../schemas/common.js';
import { jobEventListSchema, toJobEvent } from '../schemas/jobs.js';
import type { Services } from '../services.js';

const params = z.object({ fine_tuning_job_id: z.string().max(128) });
const STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-store',
  'x-accel-buffering': 'no',
};
const BATCH = 500;
const LOOK_AGAIN_MS = 15_000;

export const jobEventRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { jobQueries, events } = services;
  /** Streams last as long as jobs do; a shutdown ends them, and their clients resume elsewhere. */
  const open = new Set<AbortController>();
  app.addHook('preClose', async () => {
    for (const stream of open) stream.abort();
  });

  app.get(
    '/fine_tuning/jobs/:fine_tuning_job_id/events',
    {
      schema: {
        tags: ['Fine-tuning'],
        operationId: 'listFineTuningJobEvents',
        summary: "A job's events",
        description:
          'Newest first, in pages. With "Accept: text/event-stream": all events from the oldest on, then live until the job ends, closed by an event named "done" with its final status; Last-Event-ID resumes a stream.',
        params,
        querystring: pageQuery,
        headers: z.looseObject({
          'last-event-id': z.string().optional().describe('Of a stream: the id of the last event that has arrived.'),
        }),
        response: {
          200: {
            description: 'A page, or the stream.',
            content: {
              'application/json': { schema: jobEventListSchema },
              'text/event-stream': { schema: z.string() },
            },
          },
          ...errorResponses,
        },
      },
    },
    async (request, reply) => {
      const jobId = request.params.fine_tuning_job_id;
      if (preferredType(request, reply, ['application/json', 'text/event-stream']) === 'application/json') {
        const page = await jobQueries.events(jobId, request.query);
        return toList(page.data.map(toJobEvent), page.hasMore);
      }
      await jobQueries.status(jobId);
      const lastEventId = request.headers['last-event-id'];
      const after = lastEventId !== undefined ? parseEventId(lastEventId, 'Last-Event-ID') : 0n;
      reply.headers(STREAM_HEADERS).header('x-request-id', request.id);
      // Of a stream there is nothing to tell but this.
      if (request.method === 'HEAD') return reply.send('');
      reply.hijack();
      const subscription = events.subscribe(jobId);
      const gone = new AbortController();
      open.add(gone);
      reply.raw.once('close', () => gone.abort());
      try {
        reply.raw.writeHead(200, reply.getHeaders() as OutgoingHttpHeaders);
        await stream(reply.raw, jobId, after, subscription, gone.signal);
      } catch (error) {
        if (!gone.signal.aborted) request.log.warn({ err: error }, 'event stream broke off');
      } finally {
        open.delete(gone);
        subscription.close();
        // What a client does not read would never be flushed.
        if (reply.raw.writableNeedDrain) reply.raw.destroy();
        else reply.raw.end();
      }
    },
  );

  async function stream(
    raw: ServerResponse,
    jobId: string,
    after: bigint,
    subscription: Subscription,
    signal: AbortSignal,
  ) {
    let last = after;
    const write = async (text: string) => {
      if (!raw.write(text)) await once(raw, 'drain', { signal });
    };
    while (!signal.aborted && !raw.writableEnded) {
      // The status is read first: when it is final, every event was there before it was read.
      const status = await jobQueries.status(jobId);
      const batch = await jobQueries.eventsSince(jobId, last, BATCH);
      for (const event of batch) {
        const data = toJobEvent(event);
        await write(`id: ${data.id}\nevent: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`);
        last = event.id;
      }
      if (batch.length === BATCH) continue;
      if (isTerminal(status as JobStatus)) {
        await write(`event: done\ndata: ${JSON.stringify({ status })}\n\n`);
        return;
      }
      if (batch.length === 0) await write(': still here\n\n');
      await subscription.next(LOOK_AGAIN_MS, signal);
    }
  }
};
