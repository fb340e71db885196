import type { Logger } from 'pino';
import { type Database, Prisma } from '../db/client.js';
import type { Job } from '../db/generated/client.js';
import { InvalidRequestError } from '../errors.js';
import { BUDGET_PARAMETERS, type QueryLimits, showAmount, UNITS } from '../ledger/accounts.js';
import type { Ledger } from '../ledger/ledger.js';
import type { BudgetChange } from './budget-change.js';
import {
  budgetIsNow,
  describePaid,
  nothingMoreToAsk,
  nothingToBeginWith,
  nothingToGoOnWith,
  whatStays,
} from './budget-texts.js';
import { describePlan } from './describe-plan.js';
import { endUnsuccessfully, pauseJob } from './endings.js';
import { recordEvents } from './events.js';
import type { JobPlanner } from './job-planner.js';
import type { JobDetails, JobQueries } from './job-queries.js';
import type { JobQueue } from './job-service.js';
import { affordableGenerations, requireBounded, type TrainingPlan, wholeViews } from './plan.js';
import { PlanChange, type PlanDraft, requireChangeable } from './plan-change.js';
import { leftOf } from './plan-extension.js';
import { illegalTransition, transition } from './state-machine.js';

/** What people may do to a job that exists: cancel, pause, resume it, and change its budget. */
export class JobControl {
  private readonly planChange: PlanChange;

  constructor(
    private readonly database: Database,
    private readonly ledger: Ledger,
    planner: Pick<JobPlanner, 'planAnew'>,
    private readonly queries: JobQueries,
    private readonly queue: JobQueue,
    private readonly log: Logger,
  ) {
    this.planChange = new PlanChange(database, ledger, planner);
  }

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
   * Changes a job's limits. While nothing of it has been asked, a job is planned anew, as one that is created with the new
   * budget. A job that has met its old limits, or its end, goes on from its last saved training state; a running one learns
   * of it between two generations; one that is paused for another reason stays paused.
   * @throws InvalidRequestError when a limit is below what is spent, or no job can be planned on it; ConflictError when the
   * job cannot go on
   */
  async changeBudget(id: string, change: BudgetChange): Promise<JobDetails> {
    let goesOn: boolean | null;
    do {
      // Reading images takes longer than a row should be locked for.
      const draft = await this.planChange.draft(id, change);
      goesOn = await this.database.$transaction(async (tx) => {
        const [locked] = await tx.$queryRaw<{ id: string }[]>`SELECT id FROM jobs WHERE id = ${id} FOR UPDATE`;
        if (!locked) await this.queries.get(id);
        const job = await tx.job.findUniqueOrThrow({ where: { id } });
        await requireChangeable(tx, job, change);
        if (!(await this.planChange.appliesTo(tx, job, change))) return this.changeWithin(tx, job, change);
        return draft?.revision === job.budgetRevision ? this.changeWhole(tx, job, change, draft) : null;
      });
    } while (goesOn === null);
    if (goesOn) await this.enqueue(id);
    return this.queries.get(id);
  }

  /** A new plan. Nobody works by the one before: the job has no worker, and the next one reads this. */
  private async changeWhole(
    tx: Prisma.TransactionClient,
    job: Job,
    { limits, deadline }: BudgetChange,
    { method, plan }: PlanDraft,
  ): Promise<boolean> {
    if (job.status === 'succeeded' && plan.generations === 0) throw nothingToBeginWith(job.id, plan);
    const { after } = await this.changeLimits(tx, job.id, limits);
    await tx.job.update({
      where: { id: job.id },
      data: {
        method: method as unknown as Prisma.InputJsonObject,
        plan: plan as unknown as Prisma.InputJsonObject,
        plannedGenerations: plan.generations,
        budgetRevision: { increment: 1 },
        extendsPlan: true,
        // Chosen for the number of images.
        compute: null,
        ...(deadline === undefined ? {} : { deadline }),
      },
    });
    return this.goOn(tx, job, `${budgetIsNow(after)}. Nothing has been asked yet: planned anew. ${describePlan(plan)}`);
  }

  /** The plan stays, and with it what is asked about; the number of generations follows the budget. */
  private async changeWithin(
    tx: Prisma.TransactionClient,
    job: Job,
    { limits, extend, deadline }: BudgetChange,
  ): Promise<boolean> {
    const { id } = job;
    const { after, left } = await this.changeLimits(tx, id, limits);
    const plan = job.plan as unknown as TrainingPlan;
    const { generations: inAll, decidedBy } = affordableGenerations(plan, after);
    // What was done may have cost less than was expected at most.
    const begun = job.generation > 0;
    const further = affordableGenerations(begun ? { perGeneration: plan.perGeneration } : plan, left).generations;
    const most = plan.mostGenerations ?? Number.POSITIVE_INFINITY;
    const generations = Math.min(most, Math.max(inAll, job.generation + further));
    requireBounded(generations, BUDGET_PARAMETERS[decidedBy]);
    const planned = extend ? Math.max(job.plannedGenerations, wholeViews(plan, generations)) : job.plannedGenerations;
    await tx.job.update({
      where: { id },
      data: {
        budgetRevision: { increment: 1 },
        plannedGenerations: planned,
        extendsPlan: extend,
        ...(deadline === undefined ? {} : { deadline }),
      },
    });
    const kept = extend ? whatStays(job, generations) : '';
    if (job.status === 'succeeded' && job.generation >= planned) {
      throw planned >= most ? nothingMoreToAsk(id, planned) : nothingToGoOnWith(id, planned, plan, kept);
    }
    return this.goOn(tx, job, `${budgetIsNow(after)}; ${describePaid(generations, planned)}${kept}`);
  }

  /** @returns whether it is to be queued now */
  private async goOn(tx: Prisma.TransactionClient, job: Job, message: string): Promise<boolean> {
    const event = { level: 'info', type: 'message', message } as const;
    if (job.status === 'succeeded' || job.pauseReason === 'budget_exhausted') {
      return transition(tx, job.id, { to: 'queued', event });
    }
    await recordEvents(tx, job.id, [event]);
    return false;
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
        message: `${showAmount(unit, used + reserved)} of ${BUDGET_PARAMETERS[unit]} are spent or reserved already. Set it to that or more.`,
      });
    }
    await this.ledger.setLimits(tx, id, limits);
    const changed = (await this.ledger.balancesIn(tx, [id])).get(id)!;
    const after = Object.fromEntries(UNITS.map((unit) => [unit, changed[unit].limit])) as unknown as QueryLimits;
    return { after, left: leftOf(changed) };
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
