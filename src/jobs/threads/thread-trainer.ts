import { ScoringContractError, TrainerStateError } from '../../craft/errors.js';
import type { Score, ScoringRequest } from '../../craft/scoring.js';
import type { GenerationReport, TrainedAdapter, Trainer } from '../../craft/trainer-interface.js';
import { movable, type Reached, type ThreadTask, type ToThread } from './messages.js';

/** What a trainer needs of its thread. */
interface OwnThread {
  perform(task: ThreadTask, trainer: ThreadTrainer): Promise<unknown>;
  post(message: ToThread, moved?: ArrayBuffer[]): void;
  release(trainer: number): void;
}

interface Scoring {
  /** Why no more logits are taken. */
  refused: Error | null;
  /** What `score` threw. */
  failure: { error: unknown } | null;
}

/**
 * A trainer in a training thread. Nothing but its arithmetic happens there: `score` is called here, and what it throws comes
 * out of {@link runGeneration} as the very same object.
 */
export class ThreadTrainer implements Trainer {
  private current: Reached = { generation: 0, isFinished: false };
  private score: Score | null = null;
  private readonly scorings = new Map<number, Scoring>();
  private readonly underWay = new Set<Promise<void>>();

  constructor(
    private readonly id: number,
    private readonly thread: OwnThread,
  ) {}

  /** Of whole generations: one that failed after its candidates were judged does not count. */
  get generation(): number {
    return this.current.generation;
  }

  get isFinished(): boolean {
    return this.current.isFinished;
  }

  /** @throws as the trainer does; ThreadLostError, once all that was in flight for it has come back */
  async runGeneration(score: Score): Promise<GenerationReport> {
    return (await this.perform('run', score)) as GenerationReport;
  }

  /** @throws as {@link runGeneration} does */
  async replayGeneration(score: Score): Promise<void> {
    await this.perform('replay', score);
  }

  private async perform(kind: 'run' | 'replay', score: Score): Promise<unknown> {
    if (this.score) throw new TrainerStateError('A generation is running; wait for it first.');
    this.score = score;
    try {
      return await this.thread.perform({ kind, trainer: this.id }, this);
    } finally {
      // Of a thread that is lost. What is in flight is paid for, and is kept by those who asked.
      await Promise.all(this.underWay);
      this.scorings.clear();
      this.score = null;
    }
  }

  serialise(): Promise<Uint8Array | null> {
    return this.thread.perform({ kind: 'serialise', trainer: this.id }, this) as Promise<Uint8Array | null>;
  }

  adapter(): Promise<TrainedAdapter> {
    return this.thread.perform({ kind: 'adapter', trainer: this.id }, this) as Promise<TrainedAdapter>;
  }

  dispose(): void {
    this.thread.release(this.id);
  }

  /** What its thread tells of it, for its thread alone, as everything below. */
  reached(current: Reached): void {
    this.current = current;
  }

  scoreFor({ scoring: id, request }: { scoring: number; request: ScoringRequest }): Promise<void> {
    const scoring: Scoring = { refused: null, failure: null };
    this.scorings.set(id, scoring);
    const work = this.answer(id, scoring, request).finally(() => this.underWay.delete(work));
    this.underWay.add(work);
    return work;
  }

  /** Logits of a scoring are not taken; whoever sends more of them is told so. */
  refuse(scoring: number, error: Error): void {
    const found = this.scorings.get(scoring);
    if (found) found.refused ??= error;
  }

  refuseAll(error: Error): void {
    for (const scoring of this.scorings.keys()) this.refuse(scoring, error);
  }

  failureOf(scoring: number): unknown {
    return this.scorings.get(scoring)?.failure?.error;
  }

  private async answer(id: number, scoring: Scoring, request: ScoringRequest): Promise<void> {
    const receive = (promptIndex: number, logits: Float32Array) => {
      if (scoring.refused) throw scoring.refused;
      // An array that is part of another one is copied: its neighbours belong to others.
      const own = movable(logits).length > 0 ? logits : logits.slice();
      this.thread.post({ kind: 'logits', scoring: id, promptIndex, logits: own }, movable(own));
    };
    try {
      if (!this.score) throw new TrainerStateError('No generation is running.');
      await this.score(request, receive);
    } catch (error) {
      scoring.failure = { error };
    }
    scoring.refused ??= new ScoringContractError('Logits arrived after scoring had ended.');
    this.thread.post({ kind: 'scored', scoring: id, failed: scoring.failure !== null });
  }
}
