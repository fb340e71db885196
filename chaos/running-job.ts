import { setTimeout as sleep } from 'node:timers/promises';
import { adapterDigest } from './adapter-digest.js';
import { type Amounts, add, exceeds, NOTHING, subtract, times } from './amounts.js';
import { type ApiClient, RefusedError } from './api-client.js';
import type { Books, Reservation } from './books.js';
import { type JobKind, LARGEST_CALL, toBudget } from './jobs.js';

interface JobAnswer {
  id: string;
  status: string;
  stop_reason: string | null;
  pause_reason: string | null;
  fine_tuned_model: string | null;
  budget: { requests: { limit: number } };
}

const POLL_MS = 150;
const PATH = '/v1/fine_tuning/jobs';
/** What a raised budget has to spare: an answer that was spoilt may not have been asked for again yet. */
const SPARE_CALLS_AFTER_RAISE = 6;

/** A job of a round, watched over HTTP until it has reached its planned end. */
export class RunningJob {
  /** What it may spend now. */
  limit: Amounts;
  raises = 0;
  ended = false;
  /** As last seen. */
  status = 'created';

  private constructor(
    private readonly client: ApiClient,
    readonly kind: JobKind,
    readonly id: string,
  ) {
    this.limit = kind.limit;
  }

  /** @param name of this one job; creating it is repeated under it until the API has answered */
  static async create(client: ApiClient, kind: JobKind, name: string): Promise<RunningJob> {
    const { id } = await client.post<JobAnswer>(PATH, kind.request, name);
    return new RunningJob(client, kind, id);
  }

  /**
   * Waits for the job's end. Where calls whose outcome nobody knows have used up its budget, what was lost is added to it
   * and the job goes on.
   * @throws Error when the budget is used up though nothing was lost
   */
  async toItsEnd(books: Books, signal: AbortSignal, log: (line: string) => void): Promise<void> {
    while (!signal.aborted) {
      const job = await this.client.get<JobAnswer>(`${PATH}/${this.id}`);
      const status = [job.status, job.pause_reason ?? job.stop_reason].filter((part) => part !== null).join(', ');
      if (status !== this.status) log(`${this.id} is ${status}`);
      this.status = status;
      if (['failed', 'cancelled'].includes(job.status)) break;
      if (job.status === 'succeeded') {
        if (job.stop_reason === null) break;
        await this.raise(books);
      }
      await sleep(POLL_MS);
    }
    this.ended = !signal.aborted;
  }

  /** Digest of the adapter that the API names as its result. */
  async adapterDigest(): Promise<string | null> {
    const { fine_tuned_model: adapter } = await this.client.get<JobAnswer>(`${PATH}/${this.id}`);
    return adapter === null ? null : adapterDigest(await this.client.download(`/v1/adapters/${adapter}/export`));
  }

  pause(): Promise<void> {
    return this.ask('pause');
  }

  resume(): Promise<void> {
    return this.ask('resume');
  }

  /** A repetition of a request that had arrived is refused, as is one to a job that has ended. */
  private async ask(what: 'pause' | 'resume'): Promise<void> {
    try {
      await this.client.post(`${PATH}/${this.id}/${what}`);
    } catch (error) {
      if (!(error instanceof RefusedError) || error.status !== 409) throw error;
    }
  }

  private async raise(books: Books): Promise<void> {
    const wasted = wastedBy(await books.reservations([this.id]));
    const needed = add(this.kind.plan, wasted);
    if (exceeds(needed, this.limit) === undefined) {
      throw new Error(
        `${this.id} has used up its budget of ${JSON.stringify(this.limit)}, though it lost no more than ` +
          `${JSON.stringify(wasted)} beside its plan of ${JSON.stringify(this.kind.plan)}.`,
      );
    }
    this.limit = add(needed, times(LARGEST_CALL, SPARE_CALLS_AFTER_RAISE));
    this.raises++;
    try {
      await this.client.post(`${PATH}/${this.id}/budget`, { ...toBudget(this.limit), extend: false });
    } catch (error) {
      // The answer to an earlier attempt may have been lost.
      const { budget } = await this.client.get<JobAnswer>(`${PATH}/${this.id}`);
      if (budget.requests.limit !== this.limit.requests) throw error;
    }
  }
}

/** What was spent beside the first settled call of each place in the plan. */
function wastedBy(reservations: Reservation[]): Amounts {
  const spent = reservations.filter(({ state }) => state === 'settled' || state === 'unknown');
  const useful = new Map(
    spent
      .filter(({ state, purpose }) => state === 'settled' && purpose !== 'probe')
      .map(({ generation, chunk, amounts }) => [`${generation}/${chunk}`, amounts]),
  );
  const sum = (amounts: Amounts[]) => add(NOTHING, ...amounts);
  return subtract(sum(spent.map(({ amounts }) => amounts)), sum([...useful.values()]));
}
