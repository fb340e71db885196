import type { Logger } from 'pino';
import { type AdapterDescription, decodeAdapter, encodeAdapter } from '../adapters/adapter-file.js';
import { type Compute, type ComputeName, selectCompute } from '../craft/compute.js';
import { type AdapterWeights, CraftTrainer, type GenerationReport, type TrainingProblem } from '../craft/trainer.js';
import type { Dataset } from '../datasets/dataset.js';
import type { DatasetStore } from '../datasets/dataset-store.js';
import type { Database } from '../db/client.js';
import { BudgetExceededError } from '../errors.js';
import { newId } from '../ids.js';
import { type Ledger, ReservationRefusedError, shortfall } from '../ledger/ledger.js';
import type { Provider } from '../providers/provider.js';
import { ProviderCallError } from '../providers/provider-call-error.js';
import type { ProviderStore } from '../providers/provider-store.js';
import type { NewJobEvent } from './events.js';
import { initialContextOf } from './initial-context.js';
import { type JobMetrics, JobOwnership, OwnershipLostError, toJobMetrics } from './job-ownership.js';
import type { JobMethod } from './job-request.js';
import { chooseImages, type LabelledImages } from './labelled-images.js';
import { HandedBackError, MeteredScorer } from './metered-scorer.js';
import type { TrainingPlan } from './plan.js';
import { StoredAnswers } from './stored-answers.js';
import { toTrainingFailure } from './training-failure.js';

export interface RunnerOptions {
  database: Database;
  ledger: Ledger;
  datasets: DatasetStore;
  providers: ProviderStore;
  compute: ComputeName | 'auto';
  /** Generations between two saved training states. */
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
    // It ended while nobody ran it; what its last worker left open cannot be known any more.
    await options.ledger.leaveUnknownOf(jobId);
    return 'finished';
  }
  const lost = await options.ledger.leaveUnknownBefore(jobId, ownership.epoch);
  if (lost > 0) log.warn({ calls: lost }, 'calls of a lost worker stay counted');
  const opened: Dataset[] = [];
  const watch = ownership.watch();
  try {
    const signal = AbortSignal.any([options.signal, watch.signal]);
    await new Run(ownership, { ...options, signal }, opened).toTheEnd();
    return 'finished';
  } catch (error) {
    if (watch.signal.aborted) return 'finished';
    if (error instanceof HandedBackError) return 'handed_back';
    // A call that failed while we were asked to stop says nothing about the job: its next worker tries again.
    if (options.signal.aborted && error instanceof ProviderCallError) return 'handed_back';
    if (error instanceof OwnershipLostError || error instanceof ReservationRefusedError) {
      log.info('job was cancelled or is owned by another worker');
      return 'finished';
    }
    log.error({ err: error }, 'training failed');
    const failure = toTrainingFailure(error);
    if (!failure) throw error;
    await ownership.fail(failure).catch((refused: unknown) => {
      if (!(refused instanceof OwnershipLostError)) throw refused;
    });
    return 'finished';
  } finally {
    watch.stop();
    await Promise.all(opened.map((dataset) => dataset.close()));
  }
}

class Run {
  private readonly method: JobMethod;
  private best: JobMetrics | null;
  /** Of the last generation that this run completed. */
  private current: JobMetrics | null = null;
  private provider!: Provider;
  private images!: LabelledImages;
  private trainer!: CraftTrainer;

  constructor(
    private readonly ownership: JobOwnership,
    private readonly options: RunnerOptions,
    private readonly opened: Dataset[],
  ) {
    this.method = ownership.job.method as unknown as JobMethod;
    this.best = ownership.job.bestMetrics as JobMetrics | null;
  }

  async toTheEnd(): Promise<void> {
    const { job, epoch } = this.ownership;
    const { ledger, worker, signal } = this.options;
    const compute = await this.selectCompute();
    this.options.log.info({ jobId: job.id, compute: compute.name }, 'training on compute backend');
    this.provider = await this.options.providers.connect(job.providerId);
    this.images = await this.openImages();
    const { provider, images } = this;
    this.trainer = await this.openTrainer(compute);
    const answers = await StoredAnswers.open(this.options.database, job.id);
    const callLimits = job.plan as unknown as TrainingPlan;
    const jobId = job.id;
    const scorer = new MeteredScorer({ jobId, epoch, worker, provider, ledger, images, answers, callLimits, signal });

    let stopReason: string | null = null;
    // Of the state after the last whole generation; a budget that ends inside the next one leaves this as the result.
    let weights: AdapterWeights | null = this.trainer.generation > 0 ? await this.trainer.adapter() : null;
    while (!this.trainer.done) {
      if (signal.aborted) throw new HandedBackError('The worker is shutting down.');
      let report: GenerationReport;
      try {
        await this.requireBudget(this.trainer.generation + 1, answers);
        report = await this.trainer.runGeneration(scorer.forGeneration(this.trainer.generation + 1));
      } catch (error) {
        if (!(error instanceof BudgetExceededError) || weights === null) throw error;
        stopReason = 'budget_exhausted';
        break;
      }
      weights = await this.trainer.adapter();
      await this.record(report, weights);
    }
    if (weights === null) throw new Error('A trainer without a generation to run has no adapter.');
    await this.finish(weights, stopReason);
    this.trainer.dispose();
  }

  /** A resumed job goes on with the backend it began with, where it can be had: only there are its numbers the same. */
  private async selectCompute(): Promise<Compute> {
    const { compute: before } = this.ownership.job;
    const { compute: choice } = this.options;
    const same =
      before !== null && choice === 'auto' ? await selectCompute(before as ComputeName).catch(() => null) : null;
    const compute = same ?? (await selectCompute(choice));
    await this.ownership.setCompute(compute.name, before);
    return compute;
  }

  /** Nothing is spent on a generation that the budget cannot complete; one that is partly paid for is tried. */
  private async requireBudget(generation: number, answers: StoredAnswers): Promise<void> {
    if (answers.hasOf(generation)) return;
    const { job } = this.ownership;
    const { perGeneration } = job.plan as unknown as TrainingPlan;
    const missing = shortfall(perGeneration, await this.options.ledger.balance(job.id));
    if (missing) throw missing;
  }

  private async openImages(): Promise<LabelledImages> {
    const { job } = this.ownership;
    const open = async (id: string) => {
      const dataset = await this.options.datasets.open(id);
      this.opened.push(dataset);
      return dataset;
    };
    const training = await open(job.trainingFileId);
    const validation = job.validationFileId ? await open(job.validationFileId) : null;
    return chooseImages(training, validation, {
      validationFraction: this.method.craft.validation_fraction,
      seed: Number(job.seed),
    });
  }

  private async openTrainer(compute: Compute): Promise<CraftTrainer> {
    const { job } = this.ownership;
    const { capabilities } = this.provider;
    const problem: TrainingProblem = {
      classCount: this.images.classes.length,
      labels: this.images.training.labels,
      validationLabels: this.images.validation.labels,
      contextTokens: capabilities.contextTokens ?? 0,
      contextWidth: capabilities.contextWidth ?? 0,
      initialContext: initialContextOf(capabilities),
      plannedGenerations: job.plannedGenerations,
    };
    const saved = await this.options.database.trainingState.findUnique({ where: { jobId: job.id } });
    const { hyperparameters } = this.method.craft;
    const seed = Number(job.seed);
    if (!saved) return CraftTrainer.create(problem, hyperparameters, seed, compute);
    return CraftTrainer.restore(saved.state, problem, hyperparameters, seed, compute);
  }

  private async record(report: GenerationReport, weights: AdapterWeights): Promise<void> {
    const metrics = toJobMetrics(report);
    this.current = metrics;
    const { generation } = metrics;
    const previousBest = this.best;
    const improved = isBetter(metrics, previousBest);
    if (improved) this.best = metrics;
    const last = this.trainer.done;
    const keepsBest = this.method.craft.checkpoint_selection === 'best_validation';
    const keep = last || this.isMilestone(generation) || (improved && keepsBest);
    const save = last || generation % this.options.checkpointInterval === 0;
    // An earlier run got further than the state it saved: what it told already is not told again.
    const isNew = generation > this.ownership.job.generation;
    if (!isNew && !save) return;
    await this.ownership.recordGeneration({
      generation,
      metrics,
      progress: isNew
        ? { best: this.best ?? metrics, events: [toEvent(metrics, this.ownership.job.plannedGenerations)] }
        : undefined,
      state: save ? ownBytes(await this.trainer.serialise()) : undefined,
      checkpoint: keep ? encodeAdapter(weights, this.describeAdapter(metrics)) : undefined,
      superseded:
        improved && keepsBest && previousBest && !this.isMilestone(previousBest.generation)
          ? previousBest.generation
          : undefined,
    });
  }

  private isMilestone(generation: number): boolean {
    return generation % Math.max(1, Math.ceil(this.ownership.job.plannedGenerations / KEPT_CHECKPOINTS)) === 0;
  }

  private async finish(lastWeights: AdapterWeights, stopReason: string | null): Promise<void> {
    const { job } = this.ownership;
    const { database, ledger } = this.options;
    let weights = lastWeights;
    let metrics = this.current ?? (await this.ownership.metricsOf(this.trainer.generation));
    if (
      this.method.craft.checkpoint_selection === 'best_validation' &&
      this.best &&
      this.best.generation !== metrics.generation
    ) {
      const checkpoint = await database.checkpoint.findUniqueOrThrow({
        where: { jobId_generation: { jobId: job.id, generation: this.best.generation } },
      });
      weights = decodeAdapter(checkpoint.weights).weights;
      metrics = this.best;
    }
    const adapterId = `ft:${this.provider.name}:${job.suffix ?? ''}:${newId('').slice(0, 12)}`;
    const reason = stopReason === null ? '' : ' The budget did not pay for a further generation.';
    await this.ownership.succeed({
      adapterId,
      weights,
      about: this.describeAdapter(metrics),
      stopReason,
      message: `Training succeeded with generation ${metrics.generation}; the adapter is ${adapterId}.${reason}`,
      openAccount: (tx, id, providerId) => ledger.openAccount(tx, id, providerId),
    });
  }

  private describeAdapter(metrics: JobMetrics): AdapterDescription {
    const { job } = this.ownership;
    return {
      classes: this.images.classes,
      provider: { name: this.provider.name, protocol: this.provider.protocol, remoteModel: this.provider.remoteModel },
      hyperparameters: { ...this.method.craft.hyperparameters, seed: Number(job.seed) },
      metrics,
    };
  }
}

/** Validation accuracy decides, then validation loss; without validation images the loss of the centre. */
function isBetter(metrics: JobMetrics, best: JobMetrics | null): boolean {
  if (best === null) return true;
  if (metrics.validation_accuracy === null || best.validation_accuracy === null) {
    return metrics.centre_loss < best.centre_loss;
  }
  if (metrics.validation_accuracy !== best.validation_accuracy) {
    return metrics.validation_accuracy > best.validation_accuracy;
  }
  return (metrics.validation_loss ?? 0) < (best.validation_loss ?? 0);
}

function toEvent(metrics: JobMetrics, planned: number): NewJobEvent {
  return {
    level: 'info',
    type: 'metrics',
    message: describe(metrics, planned),
    data: { step: metrics.generation, ...metrics },
  };
}

function describe(metrics: JobMetrics, planned: number): string {
  const percent = (share: number) => `${(share * 100).toFixed(2)} %`;
  const validation =
    metrics.validation_accuracy === null ? '' : `, validation accuracy ${percent(metrics.validation_accuracy)}`;
  return (
    `Generation ${metrics.generation}/${planned}: loss ${metrics.centre_loss.toFixed(4)}, ` +
    `training accuracy ${percent(metrics.train_accuracy)}${validation}`
  );
}

function ownBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}
