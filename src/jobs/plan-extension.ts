import { type Balance, type QueryLimits, UNITS } from '../ledger/accounts.js';
import type { Ledger } from '../ledger/ledger.js';
import type { JobOwnership } from './job-ownership.js';
import { affordableGenerations, type TrainingPlan } from './plan.js';

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
    const balance = await this.ledger.balance(this.ownership.job.id);
    const { perGeneration } = this.plan;
    const { generations } = affordableGenerations({ perGeneration }, leftOf(balance));
    const spent = UNITS.map((unit) => balance[unit].used).join();
    // Generations that cost nothing say that there is nothing new to be asked.
    if (!Number.isFinite(generations) || generations < 1 || spent === this.spent) return false;
    this.spent = spent;
    return this.ownership.extendPlan(generations);
  }
}
