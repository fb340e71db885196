import { type Balance, type QueryLimits, UNITS } from '../ledger/accounts.js';
import type { Ledger } from '../ledger/ledger.js';
import type { JobOwnership } from './job-ownership.js';
import { affordableGenerations, type TrainingPlan, wholeViews } from './plan.js';

/** What is left of a budget, as limits. */
export function leftOf(balance: Balance): QueryLimits {
  return Object.fromEntries(UNITS.map((unit) => [unit, balance[unit].remaining])) as unknown as QueryLimits;
}

/**
 * What prompts that were scored before, or calls that cost less than was reserved, have left at the end of a plan is spent
 * on further generations, where they are whole.
 */
export class PlanExtension {
  /** What was used when the plan was extended last. */
  private spent: string | null = null;

  constructor(
    private readonly ownership: JobOwnership,
    private readonly ledger: Ledger,
    private readonly plan: TrainingPlan,
  ) {}

  /** @returns whether there are further generations now */
  async extend(): Promise<boolean> {
    if (!this.ownership.extendsPlan) return false;
    const room = (this.plan.mostGenerations ?? Number.POSITIVE_INFINITY) - this.ownership.plannedGenerations;
    if (room < 1 || this.plan.generations === 0) return false;
    const balance = await this.ledger.balance(this.ownership.job.id);
    const { perGeneration } = this.plan;
    const { generations: affordable } = affordableGenerations({ perGeneration }, leftOf(balance));
    const { plannedGenerations: planned } = this.ownership;
    const generations = Number.isFinite(affordable)
      ? wholeViews(this.plan, planned + affordable) - planned
      : affordable;
    const spent = UNITS.map((unit) => balance[unit].used).join();
    // Generations that cost nothing say that there is nothing new to be asked; where they have an end, only that what they
    // asked was known.
    const goesInCircles = spent === this.spent && this.plan.mostGenerations === undefined;
    if (!Number.isFinite(generations) || generations < 1 || goesInCircles) return false;
    this.spent = spent;
    return this.ownership.extendPlan(Math.min(generations, room));
  }
}
