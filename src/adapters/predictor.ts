import { refineLogits } from '../craft/head-weights.js';
import type { AdapterWeights } from '../craft/trainer.js';
import type { Database } from '../db/client.js';
import type { Ledger } from '../ledger/ledger.js';
import { ReservationRefusedError } from '../ledger/reservation.js';
import type { Provider, ProviderImage, QueryAmounts } from '../providers/provider.js';
import type { ProviderStore } from '../providers/provider-store.js';
import { decodeAdapter } from './adapter-file.js';
import { adapterNotFound } from './adapter-store.js';
import { scoreImages } from './metered-scoring.js';
import { type LabelScore, rankLabels } from './ranking.js';

export interface Prediction {
  predictions: LabelScore[];
  /** What the black box said before the refinement head, where it was asked for. */
  blackBoxPredictions?: LabelScore[];
}

export interface PredictionAnswer {
  data: Prediction[];
  usage: QueryAmounts;
}

interface WarmAdapter {
  /** The adapter itself, also where one of its checkpoints was asked for. */
  adapterId: string;
  providerId: string;
  provider: Provider;
  weights: AdapterWeights;
  classes: string[];
  checkedAt: number;
}

/** How long a warm adapter is used before Postgres is asked whether its provider's record has changed. */
const RECHECK_MS = 10_000;
const WARM_ADAPTERS = 256;
const CHECKPOINT_ID = /^(.+):ckpt-step-(\d{1,7})$/;

/** Answers predictions: learned prompt to the provider, refinement head, softmax. Warm adapters are kept in memory. */
export class Predictor {
  /** In order of last use, oldest first. */
  private readonly warm = new Map<string, WarmAdapter>();

  constructor(
    private readonly database: Database,
    private readonly ledger: Ledger,
    private readonly providers: ProviderStore,
    private readonly worker: string,
  ) {}

  /**
   * @param id an adapter, or one of its checkpoints as their list names them (`…:ckpt-step-20`)
   * @throws NotFoundError, BudgetExceededError, ProviderCallError
   */
  async predict(
    id: string,
    images: ProviderImage[],
    options: { topK: number; blackBox: boolean; apiKeyId: string | null },
  ): Promise<PredictionAnswer> {
    const { adapterId, weights, classes, provider } = await this.adapter(id);
    let scored: { logits: Float32Array; usage: QueryAmounts };
    try {
      scored = await scoreImages(this.ledger, {
        provider,
        prompt: { kind: 'context', count: 1, values: weights.context },
        classNames: classes,
        classesParam: null,
        images,
        accountId: adapterId,
        purpose: 'predict',
        guard: { kind: 'live_adapter' },
        worker: this.worker,
        apiKeyId: options.apiKeyId,
      });
    } catch (error) {
      if (!(error instanceof ReservationRefusedError)) throw error;
      // Deleted since it was read: the adapter, or its provider.
      this.warm.delete(id);
      await this.adapter(id);
      throw adapterNotFound(id);
    }
    const refined = rankLabels(refineLogits(weights.head, scored.logits), classes, options.topK);
    const unrefined = options.blackBox ? rankLabels(scored.logits, classes, options.topK) : null;
    return {
      data: refined.map((predictions, i) => ({
        predictions,
        ...(unrefined ? { blackBoxPredictions: unrefined[i] } : {}),
      })),
      usage: scored.usage,
    };
  }

  /** The provider's answer without any training, under its own template or another. */
  async zeroShot(
    providerId: string,
    images: ProviderImage[],
    options: { labels: string[]; template?: string; topK: number; apiKeyId: string | null },
  ): Promise<PredictionAnswer> {
    const provider = await this.providers.connect(providerId);
    const template = options.template ?? provider.capabilities.defaultTemplate;
    const { logits, usage } = await scoreImages(this.ledger, {
      provider,
      prompt: { kind: 'template', count: 1, templates: [template] },
      classNames: options.labels,
      classesParam: 'labels',
      images,
      accountId: providerId,
      purpose: 'zero_shot',
      guard: { kind: 'live_provider' },
      worker: this.worker,
      apiKeyId: options.apiKeyId,
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
        known.provider = await this.providers.connect(known.providerId);
        known.checkedAt = Date.now();
      }
      this.warm.delete(id);
      this.warm.set(id, known);
      return known;
    }
    const checkpoint = CHECKPOINT_ID.exec(id);
    const adapterId = checkpoint?.[1] ?? id;
    const row = await this.database.adapter.findUnique({ where: { id: adapterId } });
    if (!row || row.deletedAt) throw adapterNotFound(id);
    const file = checkpoint ? await this.checkpointFile(row.jobId, Number(checkpoint[2])) : row.weights;
    if (!file) throw adapterNotFound(id);
    const provider = await this.providers.connect(row.providerId);
    const { weights, about } = decodeAdapter(file);
    const { providerId } = row;
    const adapter = { adapterId, providerId, provider, weights, classes: about.classes, checkedAt: Date.now() };
    this.warm.set(id, adapter);
    if (this.warm.size > WARM_ADAPTERS) this.warm.delete(this.warm.keys().next().value ?? '');
    return adapter;
  }

  private async checkpointFile(jobId: string | null, generation: number): Promise<Uint8Array | null> {
    if (jobId === null) return null;
    const where = { jobId_generation: { jobId, generation } };
    return (await this.database.checkpoint.findUnique({ where }))?.weights ?? null;
  }
}
