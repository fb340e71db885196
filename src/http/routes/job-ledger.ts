import { Readable } from 'node:stream';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { preferredType } from '../accept.js';
import { errorResponses, pageQuery, toList } from '../schemas/common.js';
import { LEDGER_CSV_HEADER, ledgerSchema, toCsvLine, toLedgerEntry, toTotals } from '../schemas/ledger.js';
import type { Services } from '../services.js';

const params = z.object({ fine_tuning_job_id: z.string().max(128) });

export const jobLedgerRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { jobQueries } = services;

  app.get(
    '/fine_tuning/jobs/:fine_tuning_job_id/ledger',
    {
      schema: {
        tags: ['Fine-tuning'],
        operationId: 'listFineTuningJobLedger',
        summary: 'What a job spent, call by call',
        description:
          'Newest first, in pages, with the totals of all entries by state. With "Accept: text/csv": all entries, oldest first, as CSV.',
        params,
        querystring: pageQuery,
        response: {
          200: {
            description: 'A page, or all of it as a table.',
            content: { 'application/json': { schema: ledgerSchema }, 'text/csv': { schema: z.string() } },
          },
          ...errorResponses,
        },
      },
    },
    async (request, reply) => {
      const jobId = request.params.fine_tuning_job_id;
      if (preferredType(request, reply, ['application/json', 'text/csv']) === 'text/csv') {
        const entries = await jobQueries.allLedgerEntries(jobId);
        const lines = async function* () {
          yield LEDGER_CSV_HEADER;
          for await (const entry of entries) yield toCsvLine(entry);
        };
        reply
          .header('content-type', 'text/csv; charset=utf-8; header=present')
          .header('content-disposition', `attachment; filename="${jobId}-ledger.csv"`);
        // A stream is sent as it is, whatever the schema of 200 says.
        return reply.send(Readable.from(lines()) as never);
      }
      const { page, totals } = await jobQueries.ledgerPage(jobId, request.query);
      return { ...toList(page.data.map(toLedgerEntry), page.hasMore), totals: toTotals(totals) };
    },
  );
};
