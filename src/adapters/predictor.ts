import type { LearnedPrompt } from '../craft/trainer.js';
import type { Database } from '../db/client.js';
import { ImageEmbeddings } from '../embeddings/image-embeddings.js';
import { CraftError, InvalidRequestError } from '../errors.js';
import type { Ledger } from '../ledger/ledger.js';
import { ReservationRefusedError } from '../ledger/reservation.js';
import { largestMadeBytes } from '../providers/call-limits.js';
import { mapConcurrent } from '../providers/map-concurrent.js';
import type { ClassTexts, Prompts, Provider, ProviderImage, QueryAmounts } from '../providers/provider.js';
import type { ProviderStore } from '../providers/provider-store.js';
import { ImageViews } from '../views/image-views.js';
import type { Transform } from '../views/transforms.js';
import { nthView } from '../views/view-order.js';
import { type AdapterDescription, type AdapterFile, decodeAdapter } from './adapter-file.js';
import { readsAnswers } from './adapter-head.js';
import { adapterNotFound } from './adapter-store.js';
import { requireImagesFit, type Scored, type ScoringOrder, scoreImages, scoringLimits } from './metered-scoring.js';
import { PredictBatches } from './predict-batches.js';
import { type PredictionCost, predictionCost } from './prediction-cost.js';
import { type LabelScore, rankLabels } from './ranking.js';
import { AnswerReader } from './refined-answer.js';
import type { RepeatableCalls } from './repeatable-requests.js';
import { WarmAdapters } from './warm-adapters.js';

export interface Prediction {
  predictions: LabelScore[];
  /** What the black box said before the refinement head, where it was asked for. */
  blackBoxPredictions?: LabelScore[];
}

export interface PredictionAnswer {
  data: Prediction[];
  usage: QueryAmounts;
}

export interface PredictionOptions {
  topK: number;
  /** Whether the answer tells what the black box said, too. */
  blackBox: boolean;
  views?: number;
  apiKeyId: string | null;
  /** Where the caller may send the request again; it then shares no provider calls with others. */
  repeatable?: RepeatableCalls;
}

interface WarmAdapter {
  /** The adapter itself, also where one of its checkpoints was asked for. */
  adapterId: string;
  providerId: string;
  question: Question;
  file: AdapterFile;
  reader: AnswerReader;
  checkedAt: number;
}

/** What every prediction of an adapter asks of its images. */
type Question = Required<Pick<ScoringOrder, 'provider' | 'prompt' | 'classes' | 'classesParam' | 'limits'>>;

/** Views that one prediction averages over at most. */
export const MOST_PREDICTION_VIEWS = 16;
/** Image queries that one prediction asks at most. */
const MOST_QUERIES = 4096;
/** Views that are made at the same time. */
const MADE_AT_ONCE = 8;
/** How long a warm adapter is used before Postgres is asked whether its provider's record has changed. */
const RECHECK_MS = 10_000;
/** What an adapter takes in memory, in lengths of its file: its tensors, and its landmarks once more for each of two terms. */
const PREPARED_PER_FILE = 3;
const CHECKPOINT_ID = /^(.+):ckpt-step-(\d{1,7})$/;

/** Answers predictions: learned prompt to the provider, refinement head, softmax. Warm adapters are kept in memory. */
export class Predictor {
  private readonly warm = new WarmAdapters<WarmAdapter>();
  private readonly embeddings: ImageEmbeddings;
  private readonly views = new ImageViews();
  private readonly batches: PredictBatches;

  /** @param batchMs how long a prediction waits for others of its adapter at most */
  constructor(
    private readonly database: Database,
    private readonly ledger: Ledger,
    private readonly providers: ProviderStore,
    private readonly worker: string,
    batchMs: number,
  ) {
    this.embeddings = new ImageEmbeddings(database);
    this.batches = new PredictBatches((order) => this.score(order), batchMs);
  }

  /** Says that a prediction is being read, so that others wait for it; to be undone when it has been. */
  expect(id: string): () => void {
    return this.batches.expect(id);
  }

  /**
   * @param id an adapter, or one of its checkpoints as their list names them (`…:ckpt-step-20`)
   * @throws NotFoundError, BudgetExceededError, ProviderCallError; PayloadTooLargeError naming an image
   */
  async predict(id: string, images: ProviderImage[], options: PredictionOptions): Promise<PredictionAnswer> {
    const warm = await this.adapter(id);
    const { adapterId, file, question } = warm;
    const { about, textEmbeddings } = file;
    const { classes } = about;
    const { provider } = question;
    const views = viewsOf(file, options.views ?? 1);
    let scored: Scored;
    try {
      const order: ScoringOrder = {
        ...question,
        textEmbeddings: usable(textEmbeddings, about, provider),
        images: await this.viewed(images, views, about.transforms ?? ['identity'], question),
        accountId: adapterId,
        purpose: 'predict',
        guard: { kind: 'live_adapter' },
        worker: this.worker,
        apiKeyId: options.apiKeyId,
        repeatable: options.repeatable,
      };
      // In company a repetition would not be the same calls again.
      scored = await (options.repeatable ? this.score(order) : this.batches.score(id, order));
    } catch (error) {
      if (!(error instanceof ReservationRefusedError)) throw error;
      // Deleted since it was read: the adapter, or its provider.
      this.warm.delete(id);
      await this.adapter(id);
      throw adapterNotFound(id);
    }
    if (scored.textEmbeddings && provider.kind === 'embedding') {
      // For another model than the adapter was trained with they are asked for once in this process.
      warm.file = {
        ...file,
        about: { ...about, textSpace: provider.textSpace },
        textEmbeddings: scored.textEmbeddings,
      };
    }
    const answer = await warm.reader.read(scored, views);
    const refined = rankLabels(answer.refined, classes, options.topK);
    const unrefined = options.blackBox ? rankLabels(answer.blackBox, classes, options.topK) : null;
    return {
      data: refined.map((predictions, i) => ({
        predictions,
        ...(unrefined ? { blackBoxPredictions: unrefined[i] } : {}),
      })),
      usage: scored.usage,
    };
  }

  /** What a prediction costs; null where none can be asked for: of a provider that is gone, or takes no such question. */
  async cost(id: string): Promise<PredictionCost | null> {
    try {
      // Being told of makes no adapter warm.
      const { file, providerId } = this.warm.get(id) ?? (await this.read(id)).adapter;
      // The provider's record may have changed since.
      const question = questionOf(file, await this.providers.connect(providerId));
      return predictionCost(question, file.about.transforms ?? ['identity']);
    } catch (error) {
      if (error instanceof CraftError) return null;
      throw error;
    }
  }

  /** What is asked about every image, one image after another: its views, each in all transforms. */
  private async viewed(
    images: ProviderImage[],
    views: number,
    transforms: Transform[],
    { provider, limits }: Question,
  ): Promise<ProviderImage[]> {
    if (views * transforms.length === 1) return images;
    const each = views * transforms.length;
    if (images.length * each > MOST_QUERIES) {
      throw new InvalidRequestError({
        code: 'too_many_image_queries',
        param: views > 1 ? 'views' : 'images',
        message: `${images.length} images would be ${images.length * each} image queries; a prediction asks ${MOST_QUERIES} at most. Send fewer images at once${views > 1 ? ', or ask for fewer views' : ''}.`,
      });
    }
    requireImagesFit({ provider, images }, limits.images);
    // As in training: a file that is made of an image may be larger than the image's own.
    const mostBytes = largestMadeBytes(provider.capabilities, limits.images);
    const viewed: ProviderImage[] = new Array(images.length * each);
    await mapConcurrent([...viewed.keys()], MADE_AT_ONCE, async (at) => {
      const view = nthView(Math.floor((at % each) / transforms.length), transforms);
      const transform = transforms[at % transforms.length];
      viewed[at] = await this.views.view(images[Math.floor(at / each)], view, transform, mostBytes);
    });
    return viewed;
  }

  /** The provider's answer without any training, under its own template or another. */
  async zeroShot(
    providerId: string,
    images: ProviderImage[],
    options: Pick<PredictionOptions, 'topK' | 'apiKeyId' | 'repeatable'> & { labels: string[]; template?: string },
  ): Promise<PredictionAnswer> {
    const provider = await this.providers.connect(providerId);
    const template = options.template ?? provider.capabilities.defaultTemplate;
    const { logits, usage } = await scoreImages(this.ledger, this.embeddings, {
      provider,
      prompt: { kind: 'template', count: 1, templates: [template] },
      classes: { names: options.labels },
      classesParam: 'labels',
      images,
      accountId: providerId,
      purpose: 'zero_shot',
      guard: { kind: 'live_provider' },
      worker: this.worker,
      apiKeyId: options.apiKeyId,
      repeatable: options.repeatable,
    }).catch(async (error: unknown) => {
      // Deleted since it was read: asking for it again says so.
      if (error instanceof ReservationRefusedError) await this.providers.connect(providerId);
      throw error;
    });
    return { data: rankLabels(logits, options.labels, options.topK).map((predictions) => ({ predictions })), usage };
  }

  private async adapter(id: string): Promise<WarmAdapter> {
    const known = this.warm.get(id);
    if (known) {
      if (Date.now() - known.checkedAt > RECHECK_MS) {
        const provider = await this.providers.connect(known.providerId);
        if (provider !== known.question.provider) known.question = questionOf(known.file, provider);
        known.checkedAt = Date.now();
      }
      return known;
    }
    const { adapter, bytes } = await this.read(id);
    this.warm.set(id, adapter, bytes * PREPARED_PER_FILE);
    return adapter;
  }

  private async read(id: string): Promise<{ adapter: WarmAdapter; bytes: number }> {
    const checkpoint = CHECKPOINT_ID.exec(id);
    const adapterId = checkpoint?.[1] ?? id;
    const row = await this.database.adapter.findUnique({ where: { id: adapterId } });
    if (!row || row.deletedAt) throw adapterNotFound(id);
    const file = checkpoint ? await this.checkpointFile(row.jobId, Number(checkpoint[2])) : row.weights;
    if (!file) throw adapterNotFound(id);
    const provider = await this.providers.connect(row.providerId);
    const { providerId } = row;
    const decoded = decodeAdapter(file);
    const reader = new AnswerReader(decoded.weights.head);
    const question = questionOf(decoded, provider);
    const adapter = { adapterId, providerId, question, file: decoded, reader, checkedAt: Date.now() };
    return { adapter, bytes: file.length };
  }

  private async score(order: ScoringOrder): Promise<Scored> {
    const scored = await scoreImages(this.ledger, this.embeddings, order);
    // What is known already is not asked for, and so nobody looked whether the adapter is still there.
    if (scored.usage.requests === 0) await this.requireLive(order.accountId);
    return scored;
  }

  /** @throws ReservationRefusedError as a call of an adapter that was deleted does */
  private async requireLive(id: string): Promise<void> {
    const where = { id, deletedAt: null, provider: { deletedAt: null } };
    if ((await this.database.adapter.count({ where })) === 0) throw new ReservationRefusedError(`${id} was deleted.`);
  }

  private async checkpointFile(jobId: string | null, generation: number): Promise<Uint8Array | null> {
    if (jobId === null) return null;
    const where = { jobId_generation: { jobId, generation } };
    return (await this.database.checkpoint.findUnique({ where }))?.weights ?? null;
  }
}

/** Embeddings of texts are those of one model: another provider of the same name may have another. */
function usable(
  textEmbeddings: Float32Array | undefined,
  { textSpace }: AdapterDescription,
  provider: Provider,
): Float32Array | undefined {
  return provider.kind === 'embedding' && provider.textSpace === textSpace ? textEmbeddings : undefined;
}

function questionOf(file: AdapterFile, provider: Provider): Question {
  const asked = { provider, prompt: promptOf(file.weights.prompt), classes: classTextsOf(file), classesParam: null };
  return { ...asked, limits: scoringLimits(asked) };
}

function promptOf(prompt: LearnedPrompt): Prompts {
  if (prompt.space === 'text') return { kind: 'template', count: 1, templates: [prompt.template] };
  return { kind: 'context', count: 1, values: prompt.context };
}

/** The classes, then the probe labels. */
function classTextsOf({ about: { classes, descriptions, probes = [] } }: AdapterFile): ClassTexts {
  const names = [...classes, ...probes];
  return descriptions ? { names, descriptions: [...descriptions, ...probes.map(() => null)] } : { names };
}

/** @throws InvalidRequestError when views are asked for that the adapter has not learned from */
function viewsOf({ weights }: AdapterFile, asked: number): number {
  if (asked === 1 || readsAnswers(weights.head)) return asked;
  throw new InvalidRequestError({
    code: 'views_not_supported',
    param: 'views',
    message: 'This adapter was trained by strategy "paper", which knows images as they are. Leave views out.',
  });
}
