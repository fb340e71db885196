import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { ModelFiles } from './model-files.js';
import { forbidTelemetry } from './no-telemetry.js';
import {
  END,
  type ThreadStart,
  type TowerAnswer,
  type TowerRequest,
  type TowerRun,
  type TowerSetup,
} from './tower-run.js';

/** The program of a thread. Tests run it from the build, too. */
const PROGRAM = fileURLToPath(new URL('../../dist/reference-provider/tower-thread.js', import.meta.url));

const MAX_THREADS = 4;
/** Runs that share a message, because a message costs a tenth of a run. */
const RUNS_PER_MESSAGE = 4;
/** Runs that a thread has been sent at most: when it has answered one message, it has the next. */
const RUNS_AHEAD = 2 * RUNS_PER_MESSAGE;

interface Waiting {
  request: TowerRequest;
  resolve(features: Float32Array): void;
  reject(error: Error): void;
}

interface Thread {
  worker: Worker;
  running: Map<number, Waiting>;
}

/**
 * The towers of the model, each run on one of several threads. Runs are small, so that sharing one out among threads
 * gains nothing; whole runs side by side gain all, and the event loop stays free.
 */
export class TowerThreads {
  private readonly threads: Thread[] = [];
  private readonly queue: Waiting[] = [];
  private nextId = 0;
  private closed = false;

  private constructor(private readonly setup: TowerSetup) {}

  /**
   * @param count threads; by default the number of cores, at most {@link MAX_THREADS}
   * @throws Error where the models cannot be opened
   */
  static async open(files: ModelFiles, count = Math.min(availableParallelism(), MAX_THREADS)): Promise<TowerThreads> {
    forbidTelemetry();
    const { config, tokenEmbedding, visionPath, textPath } = files;
    const shared = new Float32Array(new SharedArrayBuffer(tokenEmbedding.byteLength));
    shared.set(tokenEmbedding);
    const towers = new TowerThreads({
      visionPath,
      textPath,
      imageSize: config.image.size,
      embedDimension: config.embed_dim,
      textWidth: config.text.width,
      tokenEmbedding: shared,
    });
    const started = await Promise.allSettled(Array.from({ length: count }, () => towers.start()));
    for (const outcome of started) {
      if (outcome.status === 'fulfilled') continue;
      await towers.close();
      throw outcome.reason;
    }
    return towers;
  }

  /** As many runs at a time as keep every thread busy; who has more to do leaves room for others between them. */
  get lanes(): number {
    return Math.max(1, this.threads.length) * RUNS_AHEAD;
  }

  /** @returns L2-normalised features [rows, embed_dim] */
  run(run: TowerRun): Promise<Float32Array> {
    if (this.closed) return Promise.reject(new Error('The model was closed.'));
    return new Promise((resolve, reject) => {
      this.queue.push({ request: { id: this.nextId++, run }, resolve, reject });
      // What is asked for in the same turn goes together.
      if (this.queue.length === 1) setImmediate(() => this.dispatch());
    });
  }

  /** Gives up what was asked for, and lets the threads end: one that is terminated in a run takes the process with it. */
  async close(): Promise<void> {
    this.closed = true;
    const threads = this.threads.splice(0);
    for (const { reject } of [...this.queue.splice(0), ...threads.flatMap(({ running }) => [...running.values()])]) {
      reject(new Error('The model was closed.'));
    }
    const ended = threads.map(({ worker }) => new Promise((resolve) => worker.once('exit', resolve)));
    for (const { worker } of threads) {
      worker.ref();
      worker.postMessage(END);
    }
    await Promise.all(ended);
  }

  private dispatch(): void {
    while (this.queue.length > 0 && this.threads.length > 0) {
      const thread = this.threads.reduce((best, one) => (one.running.size < best.running.size ? one : best));
      const room = RUNS_AHEAD - thread.running.size;
      if (room <= 0) return;
      const share = Math.ceil(this.queue.length / this.threads.length);
      const sent = this.queue.splice(0, Math.min(room, RUNS_PER_MESSAGE, share));
      for (const waiting of sent) thread.running.set(waiting.request.id, waiting);
      thread.worker.ref();
      thread.worker.postMessage(sent.map(({ request }) => request));
    }
  }

  private async start(): Promise<void> {
    const worker = new Worker(PROGRAM, { workerData: this.setup });
    const thread: Thread = { worker, running: new Map() };
    let cause: Error | undefined;
    worker.on('error', (error: Error) => {
      cause = error;
    });
    const reasonOf = (code: number) => cause ?? new Error(`A thread of the model ended with status ${code}.`);
    await new Promise<void>((resolve, reject) => {
      worker.once('message', ({ failure }: ThreadStart) =>
        failure === undefined ? resolve() : reject(Error(failure)),
      );
      worker.once('exit', (code) => reject(reasonOf(code)));
    });
    if (this.closed) {
      worker.postMessage(END);
      return;
    }
    worker.on('message', (answers: TowerAnswer[]) => this.receive(thread, answers));
    worker.on('exit', (code) => this.lose(thread, reasonOf(code)));
    // Only what it is at keeps the process alive.
    worker.unref();
    this.threads.push(thread);
    this.dispatch();
  }

  private receive({ running, worker }: Thread, answers: TowerAnswer[]): void {
    for (const { id, features, failure } of answers) {
      const waiting = running.get(id);
      running.delete(id);
      if (features) waiting?.resolve(features);
      else waiting?.reject(new Error(failure));
    }
    // Whoever closes waits for its end.
    if (running.size === 0 && !this.closed) worker.unref();
    this.dispatch();
  }

  /** What a thread that ended was at is lost; another one takes its place. */
  private lose(thread: Thread, error: Error): void {
    for (const { reject } of thread.running.values()) reject(error);
    const place = this.threads.indexOf(thread);
    if (place >= 0) this.threads.splice(place, 1);
    if (this.closed) return;
    this.start().catch((failure: Error) => {
      if (this.threads.length > 0) return;
      this.closed = true;
      for (const { reject } of this.queue.splice(0)) reject(failure);
    });
  }
}
