import { type ComputeName, gpuPays, type HeadShape } from '../../craft/compute.js';
import type { Trainer } from '../../craft/trainer-interface.js';
import type { TrainingSpec } from '../../craft/training.js';
import { TrainingThread } from './training-thread.js';

/** Backends with one device that all share: a second thread would only take memory from it. */
const ON_ONE_DEVICE: ReadonlySet<string> = new Set(['tfjs-node-gpu', 'webgpu']);

/**
 * A bounded pool of threads for the arithmetic of any number of trainings, so that it delays nobody who waits for events.
 * Threads are started as they are needed, at most so many for each compute backend in use; one that is lost is replaced.
 */
export class TrainingThreads {
  private readonly pools = new Map<ComputeName, TrainingThread[]>();
  /** What `auto` is, by whether a GPU would pay. */
  private readonly automatic = new Map<boolean, Promise<ComputeName>>();
  private readonly all = new Set<TrainingThread>();

  /** @param size threads per compute backend */
  constructor(private readonly size: number) {}

  /**
   * Makes sure that a compute backend can be had.
   * @returns its name: of `auto`, the best one on this machine for a head of this shape
   * @throws ComputeUnavailableError, ThreadLostError
   */
  async select(choice: ComputeName | 'auto', shape: HeadShape | null = null): Promise<ComputeName> {
    if (choice !== 'auto') return this.threadOf(choice).compute;
    const pays = shape !== null && gpuPays(shape);
    const best = this.automatic.get(pays) ?? this.findBest(shape);
    this.automatic.set(pays, best);
    try {
      return await best;
    } catch (error) {
      this.automatic.delete(pays);
      throw error;
    }
  }

  /**
   * Opens a trainer in the thread that has the fewest.
   * @throws as `openTraining` does; ComputeUnavailableError, ThreadLostError
   */
  open(spec: TrainingSpec, compute: ComputeName, state?: Uint8Array): Promise<Trainer> {
    return this.threadOf(compute).open(spec, state);
  }

  /** Ends all threads; trainers that are still there are of no further use. */
  async close(): Promise<void> {
    await Promise.all([...this.all].map((thread) => thread.close()));
  }

  private async findBest(shape: HeadShape | null): Promise<ComputeName> {
    const thread = this.start('auto', shape);
    const name = await thread.compute;
    if (this.all.has(thread)) this.poolOf(name).push(thread);
    return name;
  }

  private threadOf(compute: ComputeName): TrainingThread {
    const pool = this.poolOf(compute);
    const [lightest] = pool.toSorted((a, b) => a.load - b.load);
    const isFull = pool.length >= (ON_ONE_DEVICE.has(compute) ? 1 : this.size);
    if (lightest && (isFull || lightest.load === 0)) return lightest;
    const started = this.start(compute);
    pool.push(started);
    return started;
  }

  private poolOf(compute: ComputeName): TrainingThread[] {
    const pool = this.pools.get(compute) ?? [];
    this.pools.set(compute, pool);
    return pool;
  }

  private start(choice: ComputeName | 'auto', shape: HeadShape | null = null): TrainingThread {
    const thread = new TrainingThread(choice, shape, () => this.forget(thread));
    this.all.add(thread);
    // A thread whose backend cannot be had is of no use; a later one may have it.
    thread.compute.catch(() => {
      this.forget(thread);
      void thread.close();
    });
    return thread;
  }

  private forget(thread: TrainingThread): void {
    this.all.delete(thread);
    for (const pool of this.pools.values()) {
      const place = pool.indexOf(thread);
      if (place >= 0) pool.splice(place, 1);
    }
  }
}
