import { setTimeout as sleep } from 'node:timers/promises';
import { type Amounts, subtract, withCost } from './amounts.js';
import type { Books } from './books.js';
import { withinLimits } from './checks.js';
import type { ProviderControl } from './provider-control.js';
import type { RunningJob } from './running-job.js';

const EVERY_MS = 100;

/** Checks throughout a round what must hold at every moment: limits, and that nothing is sent without a reservation. */
export class Monitor {
  /** Without repetitions of the same job's. */
  readonly breaches = new Map<string, string[]>();
  looks = 0;
  private readonly stopping = new AbortController();
  private readonly running: Promise<void>;

  constructor(
    private readonly control: ProviderControl,
    private readonly books: Books,
    private readonly jobs: RunningJob[],
    /** What the provider had served to each job's key before the round. */
    private readonly before: Map<RunningJob, Amounts>,
  ) {
    this.running = this.run();
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    await this.running;
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      // While either of them is away there is nothing to look at.
      await this.look().catch(() => undefined);
      await sleep(EVERY_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /** The provider is asked first: what it has served by then must be reserved when the ledger is read. */
  private async look(): Promise<void> {
    const served = await Promise.all(this.jobs.map(({ kind }) => this.control.served(kind.key)));
    const accounts = await this.books.accounts(this.jobs.map(({ id }) => id));
    for (const [index, job] of this.jobs.entries()) {
      const soFar = subtract(withCost(served[index]), this.before.get(job)!);
      const found = withinLimits(job.id, soFar, accounts.get(job.id)!);
      if (found.length > 0) this.breaches.set(job.id, found);
    }
    this.looks++;
  }
}
