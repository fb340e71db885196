import { randomInt } from 'node:crypto';
import { InvalidProblemError } from '../craft/errors.js';
import { fillHyperparameters } from '../craft/hyperparameters.js';
import { TextPromptSpace } from '../craft/text-prompt-space.js';
import type { PromptProblem } from '../craft/trainer.js';
import type { Dataset } from '../datasets/dataset.js';
import type { DatasetStore } from '../datasets/dataset-store.js';
import type { Database } from '../db/client.js';
import { ImageEmbeddings, missingImageCalls } from '../embeddings/image-embeddings.js';
import { InvalidRequestError, NotFoundError } from '../errors.js';
import { DEFAULT_PROJECT, shortfall } from '../ledger/accounts.js';
import type { Ledger } from '../ledger/ledger.js';
import { addAmounts, NOTHING } from '../providers/amounts.js';
import { callLimits, imageCallLimits, imageTooLarge, sentSizes } from '../providers/call-limits.js';
import { type CallLimits, largestImageBytes } from '../providers/calls.js';
import type { ProviderInfo } from '../providers/provider-row.js';
import type { ProviderStore } from '../providers/provider-store.js';
import { QUERIED } from '../views/transforms.js';
import { planEconomy, requireRoomForView } from './economy-plan.js';
import { callTextsOf, classTextsOf, promptProblemOf, withProbes } from './job-question.js';
import {
  DEFAULT_VIEWS,
  type JobMethod,
  type JobRequest,
  promptSpaceOf,
  toDeadline,
  toQueryLimits,
} from './job-request.js';
import { chooseImages, type LabelledImages, type LabelledSet } from './labelled-images.js';
import { planTraining, type TrainingPlan } from './plan.js';
import { chooseProbes, chooseStrategy } from './strategy.js';

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
    const opened: Dataset[] = [];
    try {
      const open = async (id: string, param: string) => {
        const dataset = await this.openFile(id, param);
        opened.push(dataset);
        return dataset;
      };
      const training = await open(request.training_file, 'training_file');
      const validation = request.validation_file ? await open(request.validation_file, 'validation_file') : null;
      const choice = chooseStrategy(request.method.craft);
      let method = methodFor(provider, request.method);
      const { craft } = method;
      const images = chooseImages(training, validation, craft, seed);
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
      if (choice.strategy === 'paper') plan = await this.planFor(provider, method, images, files);
      else ({ plan, method } = await this.planWithin(provider, method, images, files, seed));
      if (plan.strategy === 'economy') requireRoomForView(plan);
      plan = { ...plan, strategyReason: plan.strategyReason ?? choice.reason };
      await this.requireSharedLimits(provider.id, plan);
      return { request, method, provider, seed, plan };
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
    const whole = await this.planEconomyFor(provider, method, images, files);
    if (whole.generations > 0) return { plan: whole, method };
    const withShots = (shots: number): JobMethod => ({ ...method, craft: { ...method.craft, shots } });
    let [most, plan]: [number, TrainingPlan] = [0, whole];
    for (let [low, high] = [1, largestClass(images) - 1]; low <= high; ) {
      const shots = (low + high) >> 1;
      const fewer = chooseImages(files.training, files.validation, withShots(shots).craft, seed);
      const candidate = await this.planEconomyFor(provider, withShots(shots), fewer, files);
      if (candidate.generations > 0) {
        [most, plan] = [shots, candidate];
        low = shots + 1;
      } else {
        high = shots - 1;
      }
    }
    const strategyReason =
      most > 0
        ? `The budget pays for ${most} shots of each class, once each.`
        : 'The budget does not pay for one image query of each class: the adapter is the untrained model.';
    return { plan: { ...plan, strategyReason }, method: most > 0 ? withShots(most) : method };
  }

  private async planEconomyFor(
    provider: ProviderInfo,
    method: JobMethod,
    images: LabelledImages,
    files: { training: Dataset; validation: Dataset | null },
  ): Promise<TrainingPlan> {
    const { capabilities, limits, prices } = provider;
    const { craft } = method;
    const space = promptSpaceOf(method);
    const classes = classTextsOf(images);
    const probes = chooseProbes(craft, provider, classes.names);
    const asked = withProbes(classes, probes);
    const texts = callTextsOf(checkedProblem(space, method, capabilities, classes), asked);
    const calls = callLimits(provider, { space, ...texts }, 'training_file');
    const embeds = capabilities.returns === 'embeddings';
    const imageCalls = embeds ? imageCallLimits(provider) : calls;
    const sizes = (set: Pick<LabelledSet, 'images'>) => sentSizes(capabilities, set.images);
    requireSetsFit(provider, images, files, { largest: largestImageBytes(imageCalls), sizes });
    return planEconomy({
      trainingImages: sizes(images.training),
      validationImages: sizes(images.validation),
      classCount: classes.names.length,
      texts,
      limits: toQueryLimits(craft.budget),
      calls,
      ...(embeds ? { imageCalls: { limits: imageCalls, counts: [] } } : {}),
      provider: { requestsPerSecond: limits.requestsPerSecond, prices, capabilities },
      mostViews: craft.views ?? DEFAULT_VIEWS,
      transforms: QUERIED[craft.prediction_queries ?? 1],
      probes,
    });
  }

  /** @throws InvalidRequestError when the images do not fit in a request, or the budget does not pay for a generation */
  private async planFor(
    provider: ProviderInfo,
    method: JobMethod,
    images: LabelledImages,
    files: { training: Dataset; validation: Dataset | null },
  ): Promise<TrainingPlan> {
    const { capabilities, limits, prices } = provider;
    const space = promptSpaceOf(method);
    const classes = classTextsOf(images);
    const texts = callTextsOf(checkedProblem(space, method, capabilities, classes), classes);
    const calls = callLimits(provider, { space, ...texts }, 'training_file');
    const embeds = capabilities.returns === 'embeddings';
    if (space === 'text' && !embeds) requireRoomForAnswers(method, images);
    const imageCalls = embeds ? imageCallLimits(provider) : calls;
    const sizes = (set: Pick<LabelledSet, 'images'>) => sentSizes(capabilities, set.images);
    requireSetsFit(provider, images, files, { largest: largestImageBytes(imageCalls), sizes });
    return planTraining({
      space,
      populationSize: method.craft.hyperparameters.population_size,
      trainingImages: sizes(images.training),
      validationImages: sizes(images.validation),
      texts,
      limits: toQueryLimits(method.craft.budget),
      calls,
      ...(embeds ? { imageCalls: await this.imageCallsFor(provider, images, imageCalls) } : {}),
      provider: { requestsPerSecond: limits.requestsPerSecond, prices, capabilities },
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
    { generations, perGeneration, setup }: TrainingPlan,
  ): Promise<void> {
    if (generations === 0) return;
    const needed = addAmounts(setup ?? NOTHING, perGeneration);
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

function largestClass({ training, classes }: LabelledImages): number {
  const counts = new Int32Array(classes.length);
  for (const label of training.labels) counts[label]++;
  return Math.max(...counts);
}

/** @throws InvalidRequestError */
function requireSetsFit(
  { name: providerName }: ProviderInfo,
  images: LabelledImages,
  files: { training: Dataset; validation: Dataset | null },
  room: { largest: number; sizes(set: Pick<LabelledSet, 'images'>): number[] },
): void {
  const fits = { ...room, providerName };
  requireImagesFit(images.training, { ...fits, file: files.training, param: 'training_file' });
  requireImagesFit(images.validation, {
    ...fits,
    ...(files.validation
      ? { file: files.validation, param: 'validation_file' }
      : { file: files.training, param: 'training_file' }),
  });
}

/** @throws InvalidRequestError naming an image that no request to the provider has room for */
function requireImagesFit(
  { images }: Pick<LabelledSet, 'images'>,
  where: {
    providerName: string;
    largest: number;
    sizes(set: Pick<LabelledSet, 'images'>): number[];
    file: Dataset;
    param: string;
  },
): void {
  const { providerName, largest, sizes, file, param } = where;
  const sent = sizes({ images });
  const tooLarge = sent.findIndex((size) => size > largest);
  if (tooLarge < 0) return;
  const name = file.images.find(({ sha256 }) => sha256 === images[tooLarge].sha256)?.name;
  throw new InvalidRequestError({ ...imageTooLarge(providerName, `Image ${name}`, sent[tooLarge], largest), param });
}

/** @throws InvalidRequestError when the provider does not take such prompts */
function methodFor(provider: ProviderInfo, { type, craft }: JobRequest['method']): JobMethod {
  const { promptSpace, promptSpaces = [promptSpace] } = provider.capabilities;
  const space = craft.prompt_space ?? promptSpace;
  if (!promptSpaces.includes(space)) {
    throw new InvalidRequestError({
      code: 'prompt_space_not_supported',
      param: 'method.craft.prompt_space',
      message: `Provider "${provider.name}" takes ${promptSpaces.join(' and ')} prompts, not ${space} ones. Leave prompt_space out, or set it to "${promptSpaces[0]}".`,
    });
  }
  if (space === 'soft' && craft.prompts) {
    throw new InvalidRequestError({
      code: 'prompts_not_used',
      param: 'method.craft.prompts',
      message:
        'Templates and words are for text prompts; this job has soft ones. Leave prompts out, or set prompt_space to "text".',
    });
  }
  const hyperparameters = fillHyperparameters(craft.hyperparameters, space);
  const { prompts = { templates: [], words: [] } } = craft;
  const start = prompts.start ?? provider.capabilities.defaultTemplate;
  return {
    type,
    craft: {
      ...craft,
      prompt_space: space,
      hyperparameters,
      ...(space === 'text' ? { prompts: { ...prompts, start } } : {}),
    },
  };
}

/** @throws InvalidRequestError when a template or word of the request cannot be used */
function checkedProblem(...parts: Parameters<typeof promptProblemOf>): PromptProblem {
  const problem = promptProblemOf(...parts);
  try {
    if (problem.space === 'text') new TextPromptSpace(problem);
    return problem;
  } catch (error) {
    if (!(error instanceof InvalidProblemError)) throw error;
    throw new InvalidRequestError({ code: 'invalid_prompts', param: 'method.craft.prompts', message: error.message });
  }
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
