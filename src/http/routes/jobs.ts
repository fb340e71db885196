import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { budgetChangeSchema, toBudgetChange } from '../../jobs/budget-change.js';
import { jobRequestSchema } from '../../jobs/job-request.js';
import { errorResponses, pageQuery, repeatableHeaders, toList } from '../schemas/common.js';
import { jobListQuery } from '../schemas/job-list-query.js';
import {
  checkpointListSchema,
  dryRunSchema,
  jobListSchema,
  jobSchema,
  toCheckpoint,
  toJob,
  toPlan,
} from '../schemas/jobs.js';
import type { Services } from '../services.js';

const params = z.object({ fine_tuning_job_id: z.string().max(128) });
const PATH = '/fine_tuning/jobs';

export const jobRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { planner, jobs, jobControl, jobQueries } = services;

  app.post(
    PATH,
    {
      schema: {
        tags: ['Fine-tuning'],
        operationId: 'createFineTuningJob',
        summary: 'Create a training job',
        description:
          'Everything that can be known to be wrong is refused here. With ?dry_run=true nothing is created: the answer is the plan with its queries, requests, cost and time.',
        querystring: z.object({
          dry_run: z.enum(['true', 'false']).default('false').describe('true: answer the plan and create nothing.'),
        }),
        headers: repeatableHeaders('A repetition with the same key answers the job of the first request.'),
        body: jobRequestSchema,
        response: { 200: z.union([jobSchema, dryRunSchema]), ...errorResponses },
      },
    },
    async (request) => {
      if (request.query.dry_run === 'true') {
        const { provider, method, seed, plan } = await planner.plan(request.body);
        return {
          object: 'fine_tuning.plan' as const,
          model: provider.name,
          seed,
          method,
          plan: toPlan(plan),
        };
      }
      const idempotencyKey = request.headers['idempotency-key'];
      const { apiKeyId } = request.caller;
      return toJob(await jobs.create(request.body, { apiKeyId, idempotencyKey }));
    },
  );

  app.get(
    PATH,
    {
      schema: {
        tags: ['Fine-tuning'],
        operationId: 'listFineTuningJobs',
        summary: 'List jobs, newest first',
        querystring: jobListQuery,
        response: { 200: jobListSchema, ...errorResponses },
      },
    },
    async (request) => {
      const page = await jobQueries.list(request.query);
      return toList(page.data.map(toJob), page.hasMore);
    },
  );

  app.get(
    `${PATH}/:fine_tuning_job_id`,
    {
      schema: {
        tags: ['Fine-tuning'],
        operationId: 'retrieveFineTuningJob',
        summary: 'One job: status, progress, budget, metrics',
        params,
        response: { 200: jobSchema, ...errorResponses },
      },
    },
    async (request) => toJob(await jobQueries.get(request.params.fine_tuning_job_id)),
  );

  app.post(
    `${PATH}/:fine_tuning_job_id/cancel`,
    {
      schema: {
        tags: ['Fine-tuning'],
        operationId: 'cancelFineTuningJob',
        summary: 'Cancel a job',
        description: 'It stops within one provider call. 409 when it is finished.',
        params,
        response: { 200: jobSchema, ...errorResponses },
      },
    },
    async (request) => toJob(await jobControl.cancel(request.params.fine_tuning_job_id)),
  );

  app.post(
    `${PATH}/:fine_tuning_job_id/pause`,
    {
      schema: {
        tags: ['Fine-tuning'],
        operationId: 'pauseFineTuningJob',
        summary: 'Pause a job',
        description:
          'It sends no further provider call; those in flight are awaited, and their answers kept. 409 when it is neither queued nor running.',
        params,
        response: { 200: jobSchema, ...errorResponses },
      },
    },
    async (request) => toJob(await jobControl.pause(request.params.fine_tuning_job_id)),
  );

  app.post(
    `${PATH}/:fine_tuning_job_id/resume`,
    {
      schema: {
        tags: ['Fine-tuning'],
        operationId: 'resumeFineTuningJob',
        summary: 'Resume a paused job',
        description:
          'It goes on from its last saved training state and pays for nothing twice. 409 when it is not paused.',
        params,
        response: { 200: jobSchema, ...errorResponses },
      },
    },
    async (request) => toJob(await jobControl.resume(request.params.fine_tuning_job_id)),
  );

  app.post(
    `${PATH}/:fine_tuning_job_id/budget`,
    {
      schema: {
        tags: ['Fine-tuning'],
        operationId: 'changeFineTuningJobBudget',
        summary: "Change a job's budget or deadline",
        description:
          'Of a running, queued or paused job; and of one that has succeeded, which then goes on from its last saved training state and makes another adapter. Limits may be lowered to what is spent. While the job has asked nothing and no worker has it, it is planned anew, as a job that is created with the new budget; from then on its shots and transforms stay, and the budget decides on its generations. 409 when the job failed or was cancelled, or when a job that has succeeded could not train one generation more.',
        params,
        body: budgetChangeSchema,
        response: { 200: jobSchema, ...errorResponses },
      },
    },
    async (request) =>
      toJob(await jobControl.changeBudget(request.params.fine_tuning_job_id, toBudgetChange(request.body))),
  );

  app.get(
    `${PATH}/:fine_tuning_job_id/checkpoints`,
    {
      schema: {
        tags: ['Fine-tuning'],
        operationId: 'listFineTuningJobCheckpoints',
        summary: "A job's checkpoints, newest first",
        params,
        querystring: pageQuery,
        response: { 200: checkpointListSchema, ...errorResponses },
      },
    },
    async (request) => {
      const page = await jobQueries.checkpoints(request.params.fine_tuning_job_id, request.query);
      return toList(
        page.data.map((row) => toCheckpoint(row, page.fineTunedModel)),
        page.hasMore,
      );
    },
  );
};
