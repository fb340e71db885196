import { randomInt } from 'node:crypto';
import type { Dataset } from '../datasets/dataset.js';
import type { DatasetStore } from '../datasets/dataset-store.js';
import type { Database } from '../db/client.js';
import type { Job } from '../db/generated/client.js';
import { ImageEmbeddings, missingImageCalls } from '../embeddings/image-embeddings.js';
import { InvalidRequestError, NotFoundError } from '../errors.js';
import { BUDGET_PARAMETERS, DEFAULT_PROJECT, type QueryLimits, shortfall, showAmount } from '../ledger/accounts.js';
import type { Ledger } from '../ledger/ledger.js';
import { addAmounts, multiplyAmounts, NOTHING } from '../providers/amounts.js';
import { sentSizes } from '../providers/call-limits.js';
import type { CallLimits } from '../providers/calls.js';
import type { QueryAmounts } from '../providers/provider.js';
import type { ProviderInfo } from '../providers/provider-row.js';
import type { ProviderStore } from '../providers/provider-store.js';
import { QUERIED } from '../views/transforms.js';
import { planEconomy, requireRoomForView } from './economy-plan.js';
import { requireSetsFit } from './images-fit.js';
import { methodFor } from './job-method.js';
import { classTextsOf } from './job-question.js';
import { DEFAULT_VIEWS, type JobMethod, type JobRequest, toBudget, toDeadline, toQueryLimits } from './job-request.js';
import { chooseImages, type LabelledImages } from './labelled-images.js';
import { planTraining, type TrainingPlan } from './plan.js';
import { planInputsOf } from './plan-inputs.js';
import { chooseProbes, chooseStrategy, type StrategyChoice } from './strategy.js';

/** A plan with everything that was decided on the way to it. */
export interface PlannedJob {
  request: JobRequest;
  /** With everything filled in that the request leaves to the provider. */
  method: JobMethod;
  provider: ProviderInfo;
  seed: number;
  plan: TrainingPlan;
}

/** Makes of a request what a job will do and spend, or says what is wrong with it. */
export class JobPlanner {
  constructor(
    private readonly database: Database,
    private readonly ledger: Ledger,
    private readonly datasets: DatasetStore,
    private readonly providers: ProviderStore,
  ) {}

  /**
   * Checks everything that can be known before the first query, and says what the job would do and spend.
   * @throws InvalidRequestError naming the field that is wrong
   */
  async plan(request: JobRequest): Promise<PlannedJob> {
    const provider = await this.providers.findByName(request.model);
    if (!provider) {
      throw new InvalidRequestError({
        code: 'model_not_found',
        param: 'model',
        message: `No provider is named "${request.model}". GET /v1/providers lists them; POST /v1/providers adds one.`,
      });
    }
    const deadline = toDeadline(request.deadline);
    if (deadline && deadline.getTime() <= Date.now()) {
      throw new InvalidRequestError({
        code: 'deadline_passed',
        param: 'deadline',
        message: `The deadline ${deadline.toISOString()} lies in the past. It is a Unix time in seconds.`,
      });
    }
    const seed = request.seed ?? randomInt(2 ** 31 - 1);
    const { training_file: trainingFile, validation_file: validationFile, method } = request;
    const asked = { trainingFile, validationFile: validationFile ?? null, method, seed };
    const planned = await this.planOn(provider, asked, chooseStrategy(method.craft));
    await this.requireSharedLimits(provider.id, planned.plan);
    return { request, provider, seed, ...planned };
  }

  /**
   * Plans a job that has asked nothing yet as one that is created with this budget would be, by the strategy, the kind of
   * prompt and the start of the search that it was created with. It need not fit in what others left of a shared limit:
   * it waits for that, like every job that exists.
   * @param job its plan has `asked`
   * @throws InvalidRequestError where such a job would be refused, naming the field as in the request for it
   */
  async planAnew(job: Job, limits: QueryLimits): Promise<Pick<PlannedJob, 'method' | 'plan'>> {
    const { asked, strategy = 'paper' } = job.plan as unknown as TrainingPlan;
    if (!asked) throw new TypeError('What was asked for is not known of a job this old.');
    const { type, craft } = job.method as unknown as JobMethod;
    const { shots: _, ...others } = craft;
    const shots = asked.shots === null ? {} : { shots: asked.shots };
    const method = { type, craft: { ...others, ...shots, budget: toBudget(limits) } };
    const { trainingFileId: trainingFile, validationFileId: validationFile } = job;
    return this.planOn(
      await this.providers.get(job.providerId),
      { trainingFile, validationFile, method, seed: Number(job.seed) },
      { strategy, reason: asked.reason },
    );
  }

  private async planOn(
    provider: ProviderInfo,
    asked: { trainingFile: string; validationFile: string | null; method: JobRequest['method']; seed: number },
    choice: StrategyChoice,
  ): Promise<Pick<PlannedJob, 'method' | 'plan'>> {
    const { seed } = asked;
    const opened: Dataset[] = [];
    try {
      const open = async (id: string, param: string) => {
        const dataset = await this.openFile(id, param);
        opened.push(dataset);
        return dataset;
      };
      const training = await open(asked.trainingFile, 'training_file');
      const validation = asked.validationFile ? await open(asked.validationFile, 'validation_file') : null;
      let method = methodFor(provider, asked.method);
      const { craft } = method;
      const asksOnce = choice.strategy === 'economy';
      const images = chooseImages(training, validation, { ...craft, asksOnce }, seed);
      if (craft.checkpoint_selection === 'best_validation' && images.validation.images.length === 0) {
        throw new InvalidRequestError({
          code: 'validation_images_missing',
          param: 'method.craft.checkpoint_selection',
          message:
            'best_validation needs validation images: a validation_file, a validation/ folder or validation_fraction.',
        });
      }
      const files = { training, validation };
      let plan: TrainingPlan;
      if (choice.strategy === 'paper') plan = await this.planPaperOn(provider, method, images, files);
      else ({ plan, method } = await this.planWithin(provider, method, images, files, seed));
      if (plan.strategy === 'economy') requireRoomForView(plan);
      const { reason } = choice;
      const told = { strategyReason: plan.strategyReason ?? reason, asked: { shots: craft.shots ?? null, reason } };
      return { method, plan: { ...plan, ...told } };
    } finally {
      await Promise.all(opened.map((dataset) => dataset.close()));
    }
  }

  /** A budget that does not pay for one query of each image trains on fewer shots; one that pays for none leaves zero-shot. */
  private async planWithin(
    provider: ProviderInfo,
    method: JobMethod,
    images: LabelledImages,
    files: { training: Dataset; validation: Dataset | null },
    seed: number,
  ): Promise<{ plan: TrainingPlan; method: JobMethod }> {
    const attempt = async (asked: JobMethod, validates: boolean) => {
      const choice = { ...asked.craft, asksOnce: true, validates };
      const chosen = chooseImages(files.training, files.validation, choice, seed);
      return { plan: this.planEconomyOn(provider, asked, chosen, files), method: asked };
    };
    const whole = this.planEconomyOn(provider, method, images, files);
    if (whole.generations > 0) return { plan: whole, method };
    // Where no generation is chosen by them, validation images tell how good the adapter is, and do not make it better.
    const validates = whole.validationImages === 0 || method.craft.checkpoint_selection === 'best_validation';
    const leftOut = validates ? '' : ' There is nothing left for the validation images.';
    const alone = validates ? null : await attempt(method, false);
    if (alone && alone.plan.generations > 0) {
      const strategyReason = `The budget pays for the training images only.${leftOut}`;
      return { plan: { ...alone.plan, strategyReason }, method };
    }
    const withShots = (shots: number): JobMethod => ({ ...method, craft: { ...method.craft, shots } });
    let [most, best] = [0, { plan: alone?.plan ?? whole, method }];
    let least = best.plan;
    for (let [low, high] = [1, largestClass(images) - 1]; low <= high; ) {
      const shots = (low + high) >> 1;
      const candidate = await attempt(withShots(shots), validates);
      if (candidate.plan.generations > 0) {
        [most, best] = [shots, candidate];
        low = shots + 1;
      } else {
        [least, high] = [candidate.plan, shots - 1];
      }
    }
    const strategyReason =
      most > 0
        ? `The budget pays for ${most} ${most === 1 ? 'shot' : 'shots'} of each class, once each.${leftOut}`
        : `${describeLeast(least, method)} The adapter is the untrained model.`;
    return { plan: { ...best.plan, strategyReason }, method: best.method };
  }

  private planEconomyOn(
    provider: ProviderInfo,
    method: JobMethod,
    images: LabelledImages,
    files: { training: Dataset; validation: Dataset | null },
  ): TrainingPlan {
    const { craft } = method;
    const { names } = classTextsOf(images);
    const probes = chooseProbes(craft, provider, names);
    const { embeds, imageCalls, fit, planned } = planInputsOf(provider, method, images, probes);
    requireSetsFit(provider, images, files, fit);
    return planEconomy({
      ...planned,
      classCount: names.length,
      ...(embeds ? { imageCalls: { limits: imageCalls, counts: [] } } : {}),
      mostViews: craft.views ?? DEFAULT_VIEWS,
      transforms: QUERIED[craft.prediction_queries ?? 1],
      probes,
    });
  }

  /** @throws InvalidRequestError when the images do not fit in a request, or the budget does not pay for a generation */
  private async planPaperOn(
    provider: ProviderInfo,
    method: JobMethod,
    images: LabelledImages,
    files: { training: Dataset; validation: Dataset | null },
  ): Promise<TrainingPlan> {
    const { space, embeds, imageCalls, fit, planned } = planInputsOf(provider, method, images);
    if (space === 'text' && !embeds) requireRoomForAnswers(method, images);
    requireSetsFit(provider, images, files, fit);
    return planTraining({
      ...planned,
      space,
      populationSize: method.craft.hyperparameters.population_size,
      ...(embeds ? { imageCalls: await this.imageCallsFor(provider, images, imageCalls) } : {}),
    });
  }

  /** The calls that bring the embeddings of images that nobody has paid for yet. */
  private async imageCallsFor(provider: ProviderInfo, images: LabelledImages, limits: CallLimits) {
    const all = [...images.training.images, ...images.validation.images];
    const known = await new ImageEmbeddings(this.database).known(
      await this.providers.embeddingSource(provider.id),
      all,
    );
    const calls = missingImageCalls(all, sentSizes(provider.capabilities, all), known, limits);
    return { limits, counts: calls.map((call) => call.images.length) };
  }

  /** Nobody should wait for a job that what others left of a shared limit cannot even begin. @throws LimitReachedError */
  private async requireSharedLimits(
    providerId: string,
    { generations, perGeneration, setup, transforms, imageCalls }: TrainingPlan,
  ): Promise<void> {
    if (generations === 0) return;
    // Part of a view tells nothing. Of a provider that embeds, what of it is kept already costs nothing.
    const begun = imageCalls ? 1 : (transforms?.length ?? 1);
    const needed = addAmounts(setup ?? NOTHING, multiplyAmounts(perGeneration, begun));
    const balances = await this.ledger.balances([providerId, DEFAULT_PROJECT]);
    for (const [id, kind] of [
      [providerId, 'provider'],
      [DEFAULT_PROJECT, 'project'],
    ] as const) {
      const shortage = shortfall(id, kind, needed, balances.get(id)!);
      if (shortage) throw shortage;
    }
  }

  private async openFile(id: string, param: string): Promise<Dataset> {
    try {
      return await this.datasets.open(id);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      throw new InvalidRequestError({
        code: 'file_not_found',
        param,
        message: `There is no file ${id}. Upload it with POST /v1/files first.`,
      });
    }
  }
}

/** What one shot of each class would take, which the budget does not pay for. @param plan of so many */
function describeLeast(
  { setup = NOTHING, perGeneration, decidedBy, validationImages }: TrainingPlan,
  { craft }: JobMethod,
) {
  const unit = decidedBy as keyof QueryAmounts;
  const needed = setup[unit] + perGeneration[unit];
  const validation = validationImages > 0 ? ` and ${validationImages} validation images` : '';
  return `One shot of each class${validation} would take ${showAmount(unit, needed)} of ${BUDGET_PARAMETERS[unit]}, but the budget is ${showAmount(unit, toQueryLimits(craft.budget)[unit] ?? 0)}.`;
}

function largestClass({ training, classes }: LabelledImages): number {
  const counts = new Int32Array(classes.length);
  for (const label of training.labels) counts[label]++;
  return Math.max(...counts);
}

/** Answers to text prompts are kept, because none is asked for twice; a generation of them is held in memory. */
const LARGEST_GENERATION_BYTES = 1024 ** 3;

/** @throws InvalidRequestError */
function requireRoomForAnswers({ craft }: JobMethod, { training, validation, classes }: LabelledImages): void {
  const images = training.images.length + validation.images.length;
  const bytes = craft.hyperparameters.population_size * images * classes.length * Float32Array.BYTES_PER_ELEMENT;
  if (bytes <= LARGEST_GENERATION_BYTES) return;
  throw new InvalidRequestError({
    code: 'job_too_large',
    param: 'training_file',
    message: `The answers of one generation would take ${bytes} bytes; ${LARGEST_GENERATION_BYTES} are possible. Train on fewer images (shots), or lower population_size.`,
  });
}
