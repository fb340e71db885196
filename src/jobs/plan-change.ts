import type { Database, Prisma } from '../db/client.js';
import type { Job } from '../db/generated/client.js';
import { ConflictError, InvalidRequestError } from '../errors.js';
import { type QueryLimits, UNITS } from '../ledger/accounts.js';
import type { Ledger } from '../ledger/ledger.js';
import type { BudgetChange } from './budget-change.js';
import { holdInputs } from './hold-inputs.js';
import type { JobPlanner, PlannedJob } from './job-planner.js';
import type { TrainingPlan } from './plan.js';
import { illegalTransition } from './state-machine.js';
import { KEPT_DAYS } from './training-states.js';

/** A new plan of a job, made for one revision of its budget and the change that is asked for. */
export interface PlanDraft extends Pick<PlannedJob, 'method' | 'plan'> {
  revision: number;
}

/** Plans a job anew for another budget, while nothing of it has been asked. */
export class PlanChange {
  constructor(
    private readonly database: Database,
    private readonly ledger: Ledger,
    private readonly planner: Pick<JobPlanner, 'planAnew'>,
  ) {}

  /**
   * Made without a lock: whoever applies it looks again, under the lock of the job's row, whether it still applies, to the
   * same revision.
   * @returns null where the plan stays
   * @throws InvalidRequestError where a new job with this budget would be refused; ConflictError as `requireChangeable`
   */
  async draft(id: string, change: BudgetChange): Promise<PlanDraft | null> {
    const job = await this.database.job.findUnique({ where: { id } });
    if (!job || !(await this.appliesTo(this.database, job, change))) return null;
    await requireChangeable(this.database, job, change);
    const balance = await this.ledger.balance(id);
    const limits = Object.fromEntries(
      UNITS.map((unit) => [unit, change.limits[unit] ?? balance[unit].limit]),
    ) as unknown as QueryLimits;
    try {
      return { revision: job.budgetRevision, ...(await this.planner.planAnew(job, limits)) };
    } catch (error) {
      throw error instanceof InvalidRequestError ? ofBudgetChange(error) : error;
    }
  }

  /**
   * Whether such a change of a job's budget changes its plan: its limits are changed, the plan may be extended, it has no
   * worker, and nothing of it was asked or is being asked. It stays so while its row is locked, which a call's reservation
   * waits for.
   */
  async appliesTo(tx: Prisma.TransactionClient, job: Job, { limits, extend }: BudgetChange): Promise<boolean> {
    const waits = job.status === 'queued' || job.status === 'paused' || job.status === 'succeeded';
    const knows = (job.plan as unknown as TrainingPlan).asked !== undefined;
    if (!waits || !knows || !extend || Object.keys(limits).length === 0 || job.generation > 0) return false;
    const balance = (await this.ledger.balancesIn(tx, [job.id])).get(job.id)!;
    if (UNITS.some((unit) => balance[unit].used > 0 || balance[unit].reserved > 0)) return false;
    const where = { jobId: job.id };
    return (await tx.storedAnswer.count({ where })) + (await tx.trainingState.count({ where })) === 0;
  }
}

/** @throws ConflictError when no budget lets the job go on */
export async function requireChangeable(
  tx: Prisma.TransactionClient,
  job: Job,
  change: Pick<BudgetChange, 'deadline'>,
): Promise<void> {
  if (job.status === 'failed' || job.status === 'cancelled') {
    throw illegalTransition(job.id, 'given another budget', job.status);
  }
  const deadline = change.deadline === undefined ? job.deadline : change.deadline;
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

/** The budget's fields have no path in such a request. */
function ofBudgetChange({ code, message, param }: InvalidRequestError): InvalidRequestError {
  const BUDGET = 'method.craft.budget';
  if (param === BUDGET) return new InvalidRequestError({ code, message, param: null });
  return new InvalidRequestError({ code, message, param: param?.replace(`${BUDGET}.`, '') });
}
