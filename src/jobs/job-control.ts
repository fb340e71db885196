import type { Logger } from 'pino';
import { type Database, Prisma } from '../db/client.js';
import type { Job } from '../db/generated/client.js';
import { ConflictError, InvalidRequestError } from '../errors.js';
import { BUDGET_PARAMETERS, type QueryLimits, UNITS } from '../ledger/accounts.js';
import type { Ledger } from '../ledger/ledger.js';
import type { BudgetChange } from './budget-change.js';
import { endUnsuccessfully, pauseJob } from './endings.js';
import { recordEvents } from './events.js';
import { holdInputs } from './hold-inputs.js';
import type { JobDetails, JobQueries } from './job-queries.js';
import type { JobQueue } from './job-service.js';
import { affordableGenerations, requireBounded, type TrainingPlan, wholeViews } from './plan.js';
import { leftOf } from './plan-extension.js';
import { illegalTransition, transition } from './state-machine.js';
import { KEPT_DAYS } from './training-states.js';

/** What people may do to a job that exists: cancel, pause, resume it, and change its budget. */
export class JobControl {
  constructor(
    private readonly database: Database,
    private readonly ledger: Ledger,
    private readonly queries: JobQueries,
    private readonly queue: JobQueue,
    private readonly log: Logger,
  ) {}

  /** Stops a job for good: its worker is refused at its next provider call. @throws ConflictError when it is finished */
  async cancel(id: string): Promise<JobDetails> {
    const event = { level: 'info', type: 'message', message: 'The job was cancelled.' } as const;
    await this.change(id, 'cancelled', (tx) => endUnsuccessfully(tx, id, { to: 'cancelled', event }));
    await this.unqueue(id).catch((err) => this.log.warn({ err, jobId: id }, 'could not unqueue a cancelled job'));
    return this.queries.get(id);
  }

  /** Stops a job for a while: calls in flight are awaited and kept. @throws ConflictError when it is not active */
  async pause(id: string): Promise<JobDetails> {
    await this.change(id, 'paused', (tx) => pauseJob(tx, id, { reason: 'user', message: 'by request.' }));
    await this.queue.remove(id).catch((err) => this.log.warn({ err, jobId: id }, 'could not unqueue a paused job'));
    return this.queries.get(id);
  }

  /** Lets a paused job go on, whatever it was paused for. @throws ConflictError when it is not paused */
  async resume(id: string): Promise<JobDetails> {
    const event = { level: 'info', type: 'message', message: 'Resumed by request.' } as const;
    const where = Prisma.sql`status = 'paused'`;
    await this.change(id, 'resumed', (tx) => transition(tx, id, { to: 'queued', event, where }));
    await this.enqueue(id);
    return this.queries.get(id);
  }

  /**
   * Changes a job's limits. A job that has met its old ones, or its end, goes on from its last saved training state; a
   * running one learns of it between two generations; one that is paused for another reason stays paused.
   * @throws InvalidRequestError when a limit is below what is spent; ConflictError when the job cannot go on
   */
  async changeBudget(id: string, change: BudgetChange): Promise<JobDetails> {
    const { limits, extend, deadline } = change;
    const goesOn = await this.database.$transaction(async (tx) => {
      const [job] = await tx.$queryRaw<{ id: string }[]>`SELECT id FROM jobs WHERE id = ${id} FOR UPDATE`;
      if (!job) await this.queries.get(id);
      const row = await tx.job.findUniqueOrThrow({ where: { id } });
      await this.requireChangeable(tx, row, deadline === undefined ? row.deadline : deadline);
      const { after, left } = await this.changeLimits(tx, id, limits);
      const plan = row.plan as unknown as TrainingPlan;
      const { generations: inAll, decidedBy } = affordableGenerations(plan, after);
      // What was done may have cost less than was expected at most.
      const begun = row.generation > 0;
      const further = affordableGenerations(begun ? { perGeneration: plan.perGeneration } : plan, left).generations;
      const most = plan.mostGenerations ?? Number.POSITIVE_INFINITY;
      const generations = Math.min(most, Math.max(inAll, row.generation + further));
      requireBounded(generations, BUDGET_PARAMETERS[decidedBy]);
      const planned = extend ? Math.max(row.plannedGenerations, wholeViews(plan, generations)) : row.plannedGenerations;
      const message = `The budget is now ${describeLimits(after)}; ${planned} generations are planned.`;
      await tx.job.update({
        where: { id },
        data: {
          budgetRevision: { increment: 1 },
          plannedGenerations: planned,
          extendsPlan: extend,
          ...(deadline === undefined ? {} : { deadline }),
        },
      });
      const event = { level: 'info', type: 'message', message } as const;
      if (row.status === 'succeeded' && row.generation >= planned) {
        throw planned >= most ? nothingMoreToAsk(id, planned) : nothingToGoOnWith(id, planned);
      }
      if (row.status === 'succeeded' || row.pauseReason === 'budget_exhausted') {
        return transition(tx, id, { to: 'queued', event });
      }
      await recordEvents(tx, id, [event]);
      return false;
    });
    if (goesOn) await this.enqueue(id);
    return this.queries.get(id);
  }

  private async changeLimits(
    tx: Prisma.TransactionClient,
    id: string,
    limits: Partial<QueryLimits>,
  ): Promise<{ after: QueryLimits; left: QueryLimits }> {
    const balance = (await this.ledger.balancesIn(tx, [id])).get(id)!;
    for (const unit of UNITS) {
      const limit = limits[unit];
      const { used, reserved } = balance[unit];
      if (limit === undefined || limit === null || limit >= used + reserved) continue;
      throw new InvalidRequestError({
        code: 'budget_below_spent',
        param: BUDGET_PARAMETERS[unit],
        message: `${used + reserved} are spent or reserved already${unit === 'costMicroUsd' ? ' (micro-dollars)' : ''}. Set ${BUDGET_PARAMETERS[unit]} to that or more, or pause the job.`,
      });
    }
    await this.ledger.setLimits(tx, id, limits);
    const changed = (await this.ledger.balancesIn(tx, [id])).get(id)!;
    const after = Object.fromEntries(UNITS.map((unit) => [unit, changed[unit].limit])) as unknown as QueryLimits;
    return { after, left: leftOf(changed) };
  }

  private async requireChangeable(tx: Prisma.TransactionClient, job: Job, deadline: Date | null): Promise<void> {
    if (job.status === 'failed' || job.status === 'cancelled') {
      throw illegalTransition(job.id, 'given another budget', job.status);
    }
    if (deadline && deadline.getTime() <= Date.now()) {
      throw new ConflictError({
        code: 'deadline_passed',
        param: 'deadline',
        message: `The job's deadline ${deadline.toISOString()} has passed. Set a later one, or null.`,
      });
    }
    if (job.status !== 'succeeded') return;
    await holdInputs(tx, job.providerId, [job.trainingFileId, job.validationFileId ?? job.trainingFileId]);
    // One that ended with nothing begins anew.
    if (job.generation === 0) return;
    const where = { jobId: job.id };
    // Before its first saved state a job goes on from its answers alone.
    if ((await tx.trainingState.count({ where })) + (await tx.storedAnswer.count({ where })) > 0) return;
    throw new ConflictError({
      code: 'training_state_gone',
      param: 'fine_tuning_job_id',
      message: `What job ${job.id} would go on from is no longer kept (${KEPT_DAYS} days after its end). Create a new job.`,
    });
  }

  private async change(
    id: string,
    action: string,
    work: (tx: Prisma.TransactionClient) => Promise<boolean>,
  ): Promise<void> {
    if (await this.database.$transaction(work)) return;
    throw illegalTransition(id, action, (await this.queries.get(id)).job.status);
  }

  private async enqueue(id: string): Promise<void> {
    await this.queue.add(id).catch((err) => this.log.error({ err, jobId: id }, 'could not queue a job yet'));
  }

  /** A worker that has the job finds it cancelled and closes its calls; where none has it, they are closed here. */
  private async unqueue(id: string): Promise<void> {
    await this.queue.remove(id);
    if (!(await this.queue.has(id))) await this.ledger.leaveUnknownOf(id);
  }
}

function nothingToGoOnWith(id: string, planned: number): ConflictError {
  return new ConflictError({
    code: 'budget_pays_for_nothing_more',
    param: 'fine_tuning_job_id',
    message: `Job ${id} has trained the ${planned} generations that this budget pays for. Raise a limit by at least one generation (plan.per_generation), without "extend": false.`,
  });
}

function nothingMoreToAsk(id: string, planned: number): ConflictError {
  return new ConflictError({
    code: 'plan_is_complete',
    param: 'fine_tuning_job_id',
    message: `Job ${id} has asked about all ${planned} views that it asks about, whatever the budget. Create a job with more images, or with more views where "views" allowed fewer than help.`,
  });
}

function describeLimits(limits: QueryLimits): string {
  const set = UNITS.filter((unit) => limits[unit] !== null);
  return set
    .map((unit) => `${BUDGET_PARAMETERS[unit]} ${unit === 'costMicroUsd' ? limits[unit]! / 1e6 : limits[unit]}`)
    .join(', ');
}
