import { Worker } from 'node:worker_threads';
import type { ComputeName, HeadShape } from '../../craft/compute.js';
import type { TrainingSpec } from '../../craft/training.js';
import type { FromThread, ThreadTask, ToThread } from './messages.js';
import { receiveError } from './sent-error.js';
import { ThreadTrainer } from './thread-trainer.js';

/** What a thread runs. Tests run it from the build, too. */
const PROGRAM = new URL('../../../dist/jobs/threads/thread.js', import.meta.url);

/** A training thread is gone, with all of its trainers. Says nothing against the training: it can be gone on with. */
export class ThreadLostError extends Error {
  override readonly name = 'ThreadLostError';
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  trainer: ThreadTrainer | undefined;
}

/** One thread that computes with one backend, seen from the thread that started it. */
export class TrainingThread {
  /** The backend that it computes with, once it is ready. @throws ComputeUnavailableError, ThreadLostError */
  readonly compute: Promise<ComputeName>;
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private readonly trainers = new Map<number, ThreadTrainer>();
  private readonly exited: Promise<void>;
  private lastId = 0;
  private lost: ThreadLostError | null = null;

  /**
   * @param shape of the heads that `auto` is chosen for
   * @param onLost is called once, when the thread has ended for whatever reason
   */
  constructor(choice: ComputeName | 'auto', shape: HeadShape | null, onLost: () => void) {
    // What the command line gives to Node's main thread, such as a program to evaluate, is not for this one.
    this.worker = new Worker(PROGRAM, { execArgv: [] });
    let failure: unknown;
    this.worker.on('message', (message: FromThread) => this.take(message));
    this.worker.on('error', (error) => {
      failure = error;
    });
    this.exited = new Promise((resolve) =>
      this.worker.once('exit', (status) => {
        this.lose(new ThreadLostError(`A training thread ended with status ${status}.`, { cause: failure }));
        onLost();
        resolve();
      }),
    );
    this.compute = this.perform({ kind: 'select', choice, shape }) as Promise<ComputeName>;
    // Whoever opens a trainer meets it.
    this.compute.catch(() => {});
  }

  /** Trainers that it holds, those that are being opened included. */
  get load(): number {
    return this.trainers.size;
  }

  /** @throws as `openTraining` does; ThreadLostError, ComputeUnavailableError */
  async open(spec: TrainingSpec, state?: Uint8Array): Promise<ThreadTrainer> {
    const id = ++this.lastId;
    const trainer = new ThreadTrainer(id, this);
    this.trainers.set(id, trainer);
    try {
      await this.compute;
      await this.perform({ kind: 'open', trainer: id, spec, state }, trainer);
      return trainer;
    } catch (error) {
      this.release(id);
      throw error;
    }
  }

  /** @throws what the task throws, in its class; ThreadLostError */
  perform(task: ThreadTask, trainer?: ThreadTrainer): Promise<unknown> {
    if (this.lost) return Promise.reject(this.lost);
    return new Promise((resolve, reject) => {
      const id = ++this.lastId;
      this.waiting.set(id, { resolve, reject, trainer });
      this.post({ kind: 'task', id, task });
    });
  }

  /** Does nothing once the thread is gone. @param moved memory that is given away with the message */
  post(message: ToThread, moved: ArrayBuffer[] = []): void {
    if (!this.lost) this.worker.postMessage(message, moved);
  }

  /** Frees a trainer, which is of no further use. */
  release(trainer: number): void {
    if (this.trainers.delete(trainer)) this.post({ kind: 'dispose', trainer });
  }

  async close(): Promise<void> {
    await this.worker.terminate();
    await this.exited;
  }

  private take(message: FromThread): void {
    switch (message.kind) {
      case 'done':
      case 'failed':
        this.end(message);
        return;
      case 'score':
        void this.trainers.get(message.trainer)?.scoreFor(message);
        return;
      case 'refused':
        for (const trainer of this.trainers.values()) trainer.refuse(message.scoring, receiveError(message.error));
    }
  }

  private end(message: FromThread & { kind: 'done' | 'failed' }): void {
    const waiting = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    if (message.kind === 'done') {
      if (message.reached) waiting?.trainer?.reached(message.reached);
      waiting?.resolve(message.value);
      return;
    }
    const { scoring, error } = message;
    waiting?.reject((scoring !== undefined && waiting.trainer?.failureOf(scoring)) || receiveError(error));
  }

  private lose(error: ThreadLostError): void {
    this.lost = error;
    for (const trainer of this.trainers.values()) trainer.refuseAll(error);
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
    this.trainers.clear();
  }
}
