import { setMaxListeners } from 'node:events';
import type { Logger } from 'pino';
import { decodeAdapter } from '../adapters/adapter-file.js';
import type { ComputeName } from '../craft/compute.js';
import type { PromptProblem } from '../craft/trainer.js';
import type { GenerationReport, TrainedAdapter, Trainer } from '../craft/trainer-interface.js';
import type { DatasetStore } from '../datasets/dataset-store.js';
import type { Database } from '../db/client.js';
import { newId } from '../ids.js';
import type { Ledger } from '../ledger/ledger.js';
import { DeadlinePassedError, ReservationRefusedError } from '../ledger/reservation.js';
import type { ClassTexts, Provider } from '../providers/provider.js';
import { ProviderCallError } from '../providers/provider-call-error.js';
import type { ProviderStore } from '../providers/provider-store.js';
import { isBetter, type JobMetrics, toEvent, toJobMetrics, withFigures } from './generation-metrics.js';
import type { GenerationRecord } from './generation-record.js';
import { JobAdapters } from './job-adapters.js';
import { JobOwnership, OwnershipLostError } from './job-ownership.js';
import { classTextsOf, promptProblemOf } from './job-question.js';
import { type JobMethod, promptSpaceOf } from './job-request.js';
import { type LabelledImages, openLabelledImages } from './labelled-images.js';
import { type GenerationScorer, openScorer } from './open-scorer.js';
import { openTrainer, selectCompute } from './open-trainer.js';
import { toPause } from './pause.js';
import { HandedBackError } from './persistent-call.js';
import { isWithinFirstView, type TrainingPlan } from './plan.js';
import { PlanExtension } from './plan-extension.js';
import { ScoredPrompts } from './scored-prompts.js';
import { stateInterval } from './state-interval.js';
import { isTerminal, type JobStatus } from './state-machine.js';
import { describeEnd, describeFewerTransforms, type StopReason, stopReasonOf } from './stop-reason.js';
import { StoredAnswers } from './stored-answers.js';
import type { TrainingThreads } from './threads/training-threads.js';
import { toTrainingFailure } from './training-failure.js';
import { headShapeOf, trainingSpecOf } from './training-spec.js';

export interface RunnerOptions {
  database: Database;
  ledger: Ledger;
  datasets: DatasetStore;
  providers: ProviderStore;
  /** Where trainers compute. */
  threads: TrainingThreads;
  compute: ComputeName | 'auto';
  /** Generations between two saved training states, at most. */
  checkpointInterval: number;
  worker: string;
  log: Logger;
  /** Asks the runner to stop between two provider calls and leave the job to another worker. */
  signal: AbortSignal;
}

/** How a run ended: the job is finished (or was never ours), or another worker should go on with it. */
export type RunOutcome = 'finished' | 'handed_back';

/** Adapters are kept about this many times along the way. */
const KEPT_CHECKPOINTS = 20;

/**
 * Runs one training job to its end: joins the trainer, the provider, the ledger and the stored state. A run that dies
 * anywhere is taken up by the next one from the last saved training state.
 */
export async function runTrainingJob(jobId: string, options: RunnerOptions): Promise<RunOutcome> {
  const log = options.log.child({ jobId });
  const ownership = await JobOwnership.claim(options.database, jobId, options.worker);
  if (!ownership) {
    const job = await options.database.job.findUnique({ where: { id: jobId }, select: { status: true } });
    // It ended while nobody ran it; what its last worker left open cannot be known any more.
    if (job && isTerminal(job.status as JobStatus)) await options.ledger.leaveUnknownOf(jobId);
    return 'finished';
  }
  const lost = await options.ledger.leaveUnknownBefore(jobId, ownership.epoch);
  if (lost > 0) log.warn({ calls: lost }, 'calls of a lost worker stay counted');
  const watch = ownership.watch();
  const signal = AbortSignal.any([options.signal, watch.signal]);
  // Every call that waits for its turn listens.
  setMaxListeners(0, signal);
  const run = new Run(ownership, { ...options, signal });
  try {
    return (await run.toTheEnd()) ? 'finished' : 'handed_back';
  } catch (error) {
    if (watch.signal.aborted || error instanceof OwnershipLostError || error instanceof ReservationRefusedError) {
      log.info('job was ended, paused or taken over, or its budget was changed');
      // A job that is still ours goes on with its new budget.
      return (await ownership.holds()) ? 'handed_back' : 'finished';
    }
    if (error instanceof HandedBackError) return 'handed_back';
    // A call that failed while we were asked to stop says nothing about the job: its next worker tries again.
    if (options.signal.aborted && error instanceof ProviderCallError) return 'handed_back';
    const pause = toPause(error);
    if (pause) {
      log.warn({ err: error, reason: pause.reason }, 'training is paused');
      return await settleEnd(ownership, ownership.pause(pause, run.budgetRevision));
    }
    log.error({ err: error }, 'training failed');
    const failure = toTrainingFailure(error);
    if (!failure) throw error;
    return await settleEnd(ownership, ownership.fail(failure, run.budgetRevision));
  } finally {
    watch.stop();
    await run.close();
  }
}

/** An end that was refused is no end: somebody else decided otherwise, or the budget changed. */
async function settleEnd(ownership: JobOwnership, end: Promise<void>): Promise<RunOutcome> {
  try {
    await end;
    return 'finished';
  } catch (refused) {
    if (!(refused instanceof OwnershipLostError)) throw refused;
    return (await ownership.holds()) ? 'handed_back' : 'finished';
  }
}

class Run {
  private readonly method: JobMethod;
  private best: JobMetrics | null;
  /** Of a trainer that has it between generations only. */
  private taken: TrainedAdapter | null = null;
  /** Of the last generation that this run completed. */
  private current: JobMetrics | null = null;
  private provider!: Provider;
  private images!: LabelledImages;
  private trainer!: Trainer;
  private answers!: StoredAnswers;
  private scored!: ScoredPrompts;
  private adapters!: JobAdapters;
  private prompt!: PromptProblem;
  private classes!: ClassTexts;
  /** The job's budget as it was when the present generation was begun: what its outcome is decided on. */
  budgetRevision: number;
  /** The write of the last generation. */
  private recorded: Promise<void> = Promise.resolve();
  private closeImages: () => Promise<void> = async () => {};
  private giveBack = () => {};

  constructor(
    private readonly ownership: JobOwnership,
    private readonly options: RunnerOptions,
  ) {
    this.method = ownership.job.method as unknown as JobMethod;
    this.best = ownership.job.bestMetrics as JobMetrics | null;
    this.budgetRevision = ownership.budgetRevision;
  }

  /** @returns false when the job is not at its end after all, because its budget was changed at the last moment */
  async toTheEnd(): Promise<boolean> {
    const { job } = this.ownership;
    const { provider: borrowed, giveBack } = await this.options.providers.borrow(job.providerId);
    this.provider = borrowed;
    this.giveBack = giveBack;
    // It was woken because the provider answers, or lost its process; a job that begins waits as all others do.
    if (job.epoch > 1) borrowed.endHold();
    const { images: chosen, close } = await openLabelledImages(this.options.datasets, job);
    this.images = chosen;
    this.closeImages = close;
    const { provider, images } = this;
    const compute = await selectCompute(this.options, job, headShapeOf(this.method, this.plan, images));
    await this.ownership.setCompute(compute, job.compute);
    this.options.log.info({ jobId: job.id, compute }, 'training on compute backend');
    this.classes = classTextsOf(images);
    this.prompt = promptProblemOf(promptSpaceOf(this.method), this.method, provider.capabilities, this.classes);
    this.answers = await StoredAnswers.open(this.options.database, job.id);
    this.scored = await ScoredPrompts.open(this.options.database, job.id);
    const { method, plan, classes } = this;
    this.adapters = new JobAdapters({ method, plan, classes, provider, seed: Number(job.seed) }, this.scored);
    const spec = trainingSpecOf({ method, plan, images, prompt: this.prompt, provider, seed: Number(job.seed) });
    this.trainer = await openTrainer(this.options, job, { spec, compute, answers: this.answers });
    const extension = new PlanExtension(this.ownership, this.options.ledger, this.plan);

    let stop: StopReason | null = null;
    let hasAdapter = this.startsWithAdapter;
    if (hasAdapter) await this.take();
    let scorer: GenerationScorer | null = null;
    while ((await this.hasMore()) || (await extension.extend())) {
      if (this.options.signal.aborted) throw new HandedBackError('The worker is shutting down.');
      this.budgetRevision = this.ownership.budgetRevision;
      if (this.trainer.isFinished) {
        stop = 'plateau';
        break;
      }
      let report: GenerationReport;
      try {
        scorer ??= await this.openScorer();
        const score = scorer.forGeneration(this.trainer.generation + 1);
        if (this.isReplayed) {
          await this.trainer.replayGeneration(score);
          continue;
        }
        report = await this.trainer.runGeneration(score);
      } catch (error) {
        stop = stopReasonOf(error);
        if (stop === 'budget_exhausted' && this.trainer.generation === 0 && this.plan.generations > 0) {
          // What is spent on a first generation is not given up for so little: a larger budget lets it go on.
          if (!this.isOverdue) throw error;
          stop = 'deadline';
          if (!hasAdapter) throw new DeadlinePassedError('The deadline of the job has passed.', { cause: error });
        }
        const waits = stop === null && !(this.isBeyondPlan && toPause(error));
        // Without one whole generation there is no adapter to end with.
        if (waits || !hasAdapter) throw error;
        break;
      }
      hasAdapter = true;
      await this.take();
      await this.record(report);
    }
    await this.recorded;
    // The end of the plan, as it is by now.
    if (stop === null) this.budgetRevision = this.ownership.budgetRevision;
    return this.finish(stop);
  }

  /** Whether there is a generation of the plan to run, as the plan is once everything is written. */
  private async hasMore(): Promise<boolean> {
    if (this.trainer.generation < this.ownership.plannedGenerations) return true;
    await this.recorded;
    return this.trainer.generation < this.ownership.plannedGenerations;
  }

  /**
   * Takes the adapter as of the last whole generation: a budget that ends inside the next one leaves it as the result. A
   * trainer whose state is the answers has it at any time, and fits a head only then.
   */
  private async take(): Promise<void> {
    if (this.plan.strategy !== 'economy') this.taken = await this.trainer.adapter();
  }

  private async weights(): Promise<TrainedAdapter> {
    return this.taken ?? this.trainer.adapter();
  }

  /** A head that starts from nothing is the untrained model, and an adapter like any other. */
  private get startsWithAdapter(): boolean {
    return this.trainer.generation > 0 || this.plan.strategy === 'economy';
  }

  /** Whether the next generation is reported already, and makes its state of the answers alone. */
  private get isReplayed(): boolean {
    return this.plan.strategy === 'economy' && this.trainer.generation < this.ownership.job.generation;
  }

  /** Generations beyond the first plan, which nobody has asked for, are not waited for. */
  private get isBeyondPlan(): boolean {
    return this.ownership.budgetRevision === 0 && this.trainer.generation >= this.plan.generations;
  }

  private get isOverdue(): boolean {
    const { deadline } = this.ownership.job;
    return deadline !== null && deadline.getTime() <= Date.now();
  }

  private openScorer(): Promise<GenerationScorer> {
    const { ownership, provider, images, prompt, plan, answers, scored } = this;
    return openScorer({ ...this.options, ownership, provider, images, prompt, plan, answers, scored });
  }

  async close(): Promise<void> {
    this.trainer?.dispose();
    await this.recorded.catch(() => {});
    this.giveBack();
    await this.closeImages();
  }

  private get plan(): TrainingPlan {
    return this.ownership.job.plan as unknown as TrainingPlan;
  }

  /**
   * Takes what a generation leaves behind and writes it while the next one is under way: its calls need not wait for the
   * disk, because their answers are kept by themselves. A write that fails is met before the one after it.
   */
  private async record(report: GenerationReport): Promise<void> {
    const reported = toJobMetrics(report);
    const { generation } = reported;
    const previousBest = this.best;
    const improved = isBetter(reported, previousBest);
    const last = generation >= this.ownership.plannedGenerations;
    const keepsBest = this.method.craft.checkpoint_selection === 'best_validation';
    const keep = last || this.isMilestone(generation) || (improved && keepsBest);
    const save = last || generation % this.stateInterval === 0;
    // An earlier run got further than the state it saved: what it told already is not told again.
    const isNew = generation > this.ownership.job.generation;
    const adapter = keep && (isNew || save) ? await this.weights() : null;
    const metrics = withFigures(reported, adapter?.figures);
    this.current = metrics;
    if (improved) this.best = metrics;
    if (!isNew && !save) return;
    const record: GenerationRecord = {
      generation,
      metrics,
      progress: isNew
        ? { best: this.best ?? metrics, events: [toEvent(metrics, this.ownership.plannedGenerations)] }
        : undefined,
      state: save ? await this.state() : undefined,
      checkpoint: adapter ? await this.adapters.file(adapter, metrics) : undefined,
      superseded:
        improved && keepsBest && previousBest && !this.isMilestone(previousBest.generation)
          ? previousBest.generation
          : undefined,
    };
    await this.recorded;
    const scored = this.scored.take();
    const writing = this.ownership.recordGeneration({ ...record, scored: scored.prompts }).then(scored.written);
    writing.catch(() => {});
    this.recorded = writing;
  }

  private async state(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const bytes = await this.trainer.serialise();
    return bytes ? new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength) : undefined;
  }

  private get stateInterval(): number {
    const { training, classes } = this.images;
    const prompts = this.method.craft.hyperparameters.population_size + 1;
    const size = { prompts, images: training.images.length, classes: classes.length };
    return stateInterval(this.options.checkpointInterval, size);
  }

  private isMilestone(generation: number): boolean {
    const interval = Math.max(1, Math.ceil(this.plan.generations / KEPT_CHECKPOINTS));
    // Within the first view the head would be chosen anew: worth it only for an adapter to end with.
    return generation % interval === 0 && !isWithinFirstView(this.plan, generation);
  }

  private async finish(stop: StopReason | null): Promise<boolean> {
    const { job } = this.ownership;
    let weights = await this.weights();
    let textEmbeddings: Float32Array | undefined;
    const current = await this.currentMetrics(weights);
    let metrics = current ?? { generation: 0 as const };
    if (
      this.method.craft.checkpoint_selection === 'best_validation' &&
      this.best &&
      this.best.generation !== metrics.generation
    ) {
      const checkpoint = await this.options.database.checkpoint.findUniqueOrThrow({
        where: { jobId_generation: { jobId: job.id, generation: this.best.generation } },
      });
      ({ weights, textEmbeddings } = decodeAdapter(checkpoint.weights));
      metrics = this.best;
    }
    const adapterId = `ft:${this.provider.name}:${job.suffix ?? ''}:${newId('').slice(0, 12)}`;
    return this.ownership.succeed({
      adapterId,
      file: await this.adapters.file(weights, metrics, textEmbeddings),
      about: this.adapters.describe(weights, metrics),
      current,
      stopReason: stop,
      budgetRevision: this.budgetRevision,
      message: (id) =>
        `Training succeeded with generation ${metrics.generation}; the adapter is ${id}.${describeEnd(stop, this.plan, this.trainer.generation)}${describeFewerTransforms(this.plan, weights)}`,
      openAccount: (tx, id, providerId) => this.options.ledger.openAccount(tx, { id, kind: 'adapter', providerId }),
    });
  }

  /** Those of the generation that training ended with; null of the untrained model. */
  private async currentMetrics({ figures }: TrainedAdapter): Promise<JobMetrics | null> {
    const { generation } = this.trainer;
    if (generation === 0) return null;
    return withFigures(this.current ?? (await this.ownership.metricsOf(generation)), figures);
  }
}
