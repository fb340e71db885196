import { LimitReachedError, UNITS } from '../ledger/accounts.js';
import { NOTHING } from '../providers/amounts.js';
import { sentSizes } from '../providers/call-limits.js';
import { type CallLimits, cutIntoCalls } from '../providers/calls.js';
import { distinctImages, pickRows } from '../providers/distinct-images.js';
import type { Provider, ProviderImage, QueryAmounts } from '../providers/provider.js';
import { ProviderCallError } from '../providers/provider-call-error.js';
import { Crowd } from './crowd.js';
import { requireImagesFit, type Scored, type ScoringOrder, scoringLimits } from './metered-scoring.js';

/** Statuses with which a provider refuses what a request holds, as it does for one image that it cannot read. */
const CONTENT_REFUSED = [400, 413, 415, 422];

/** Crowds that are kept without a look at which of them are forgotten. */
const FEWEST_CROWDS = 256;

interface Caller {
  order: ScoringOrder;
  /** The batch's row for each of its images. */
  rows: number[];
  /** Images that nobody before it in the batch asked for: those that it pays for. */
  own: number;
  resolve(scored: Scored): void;
  reject(error: unknown): void;
}

interface Batch {
  id: string;
  callers: Caller[];
  /** Each once. */
  images: ProviderImage[];
  /** By SHA-256. */
  rowOf: Map<string, number>;
  /** When the window ends. */
  end: NodeJS.Timeout;
  /** When it is quiet. */
  quiet: NodeJS.Timeout | undefined;
  /** It waits for nobody any longer, but perhaps for its turn. */
  isDue: boolean;
}

/** What batches ask of one provider at a time. */
interface Lane {
  underWay: number;
  due: Batch[];
}

/**
 * Joins predictions that are made at the same time, with one adapter and one API key, into one provider call under one
 * reservation, in which equal images are sent once. A batch is sent when none is still being read and nobody has come for a quarter
 * of the window, or, where a call more would cost nothing, when all are there who ask again and again; at the end of the window
 * in any case; and, where the provider is asked as much as it may be, when it is its turn.
 *
 * A batch that is refused for what it holds, or because a budget does not cover all of it, is asked again caller by caller;
 * any other failure is every caller's.
 */
export class PredictBatches {
  /** Batches that may be joined, by adapter: one for each API key. */
  private readonly open = new Map<string, Batch[]>();
  /** Who asks, by adapter. */
  private readonly crowds = new Map<string, Crowd>();
  private mostCrowds = FEWEST_CROWDS;
  private readonly lanes = new Map<string, Lane>();

  /** @param windowMs how long a prediction waits for others at most; 0: each is asked for by itself */
  constructor(
    private readonly scoreImages: (order: ScoringOrder) => Promise<Scored>,
    private readonly windowMs: number,
  ) {}

  /**
   * Says that a prediction is being read.
   * @param id the adapter or checkpoint, as {@link score} will be told
   * @returns to be called when it has been read, whatever came of it
   */
  expect(id: string): () => void {
    const crowd = this.crowd(id);
    crowd.comes();
    return () => {
      crowd.hasBeenRead();
      // Anybody may name adapters that do not exist.
      if (crowd.isForgotten) this.crowds.delete(id);
      if (!crowd.isReading) for (const batch of this.open.get(id) ?? []) this.sendWhenQuiet(batch);
    };
  }

  /**
   * Scores a prediction's images, in company where there is any.
   * @param id names all that the order asks with, but for its images and API key
   * @returns its own logits, and its share of what was drawn: shares are whole numbers and add up to it
   * @throws as scoring the images alone does
   */
  async score(id: string, order: ScoringOrder): Promise<Scored> {
    const { images: limits } = order.limits ?? scoringLimits(order);
    requireImagesFit(order, limits);
    const fits = (images: ProviderImage[]) => fitOneCall(order, images, limits);
    if (this.windowMs === 0 || !mayJoin(limits) || !fits(missing(new Map(), order.images)))
      return this.scoreImages(order);
    let batch = this.open.get(id)?.find(({ callers: [{ order: first }] }) => first.apiKeyId === order.apiKeyId);
    const isOther = batch && batch.callers[0].order.provider !== order.provider;
    if (batch && (isOther || !fits([...batch.images, ...missing(batch.rowOf, order.images)]))) {
      this.close(batch);
      this.send(batch);
      batch = undefined;
    }
    const joined = batch ?? this.begin(id);
    const scored = new Promise<Scored>((resolve, reject) => {
      joined.callers.push({ order, ...place(joined, order.images), resolve, reject });
    });
    this.crowd(id).waits();
    this.sendWhenQuiet(joined);
    return scored;
  }

  private begin(id: string): Batch {
    const end = setTimeout(() => this.send(batch), this.windowMs);
    const batch: Batch = { id, callers: [], images: [], rowOf: new Map(), end, quiet: undefined, isDue: false };
    this.open.set(id, [...(this.open.get(id) ?? []), batch]);
    return batch;
  }

  private close(batch: Batch): void {
    const others = (this.open.get(batch.id) ?? []).filter((other) => other !== batch);
    if (others.length > 0) this.open.set(batch.id, others);
    else this.open.delete(batch.id);
  }

  private crowd(id: string): Crowd {
    const known = this.crowds.get(id);
    if (known) return known;
    if (this.crowds.size >= this.mostCrowds) this.dropForgotten();
    const crowd = new Crowd();
    this.crowds.set(id, crowd);
    return crowd;
  }

  /** Of adapters that are not asked any more. Looked for when there are twice as many as were left, so that it costs little. */
  private dropForgotten(): void {
    for (const [id, crowd] of this.crowds) if (crowd.isForgotten) this.crowds.delete(id);
    this.mostCrowds = Math.max(FEWEST_CROWDS, 2 * this.crowds.size);
  }

  private sendWhenQuiet(batch: Batch): void {
    clearTimeout(batch.quiet);
    const crowd = this.crowd(batch.id);
    if (batch.isDue || crowd.isReading) return;
    if (crowd.isComplete && requestsAreFree(batch.callers[0].order.provider)) {
      this.send(batch);
      return;
    }
    batch.quiet = setTimeout(() => {
      if (!crowd.isReading) this.send(batch);
    }, this.windowMs / 4);
  }

  /** Sends a batch as soon as it is its turn; until then it may be joined. */
  private send(batch: Batch): void {
    if (batch.isDue) return;
    batch.isDue = true;
    clearTimeout(batch.end);
    clearTimeout(batch.quiet);
    const { provider } = batch.callers[0].order;
    const lane = this.lanes.get(provider.id) ?? { underWay: 0, due: [] };
    this.lanes.set(provider.id, lane);
    lane.due.push(batch);
    if (lane.underWay < provider.limits.concurrency) void this.sendNext(provider.id, lane);
  }

  private async sendNext(providerId: string, lane: Lane): Promise<void> {
    lane.underWay++;
    for (let batch = lane.due.shift(); batch; batch = lane.due.shift()) {
      this.close(batch);
      await this.answer(batch);
    }
    lane.underWay--;
    if (lane.underWay === 0 && this.lanes.get(providerId) === lane) this.lanes.delete(providerId);
  }

  private async answer({ id, callers, images }: Batch): Promise<void> {
    const [{ order }] = callers;
    const crowd = this.crowd(id);
    crowd.areSent(callers.length);
    try {
      const { logits, embeddings, usage, textEmbeddings } = await this.scoreImages({ ...order, images });
      const shares = shareOut(
        usage,
        callers.map(({ own }) => own),
      );
      for (const [i, { rows, resolve }] of callers.entries()) {
        resolve({
          logits: pickRows(logits, rows, images.length),
          ...(embeddings ? { embeddings: pickRows(embeddings, rows, images.length) } : {}),
          usage: shares[i],
          ...(textEmbeddings ? { textEmbeddings } : {}),
        });
      }
    } catch (error) {
      if (callers.length > 1 && isOfContent(error)) {
        await Promise.all(callers.map(({ order, resolve, reject }) => this.scoreImages(order).then(resolve, reject)));
        return;
      }
      for (const { reject } of callers) reject(error);
    } finally {
      crowd.areAnswered(callers.length);
    }
  }
}

/**
 * Cuts amounts into whole shares that add up to them, in proportion to whole weights. What cannot be divided goes to those
 * who come first.
 */
export function shareOut(amounts: QueryAmounts, weights: number[]): QueryAmounts[] {
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  const shares = weights.map(() => ({ ...NOTHING }));
  for (const unit of UNITS) {
    let before = 0;
    let given = 0;
    for (const [i, weight] of weights.entries()) {
      before += weight;
      const upToHere = Number((BigInt(amounts[unit]) * BigInt(before) + BigInt(whole) - 1n) / BigInt(whole));
      shares[i][unit] = upToHere - given;
      given = upToHere;
    }
  }
  return shares;
}

/** Whether a call takes more than one image, and answers whatever number of classes by itself. */
function mayJoin({ imagesPerRequest, classesPerRequest }: CallLimits): boolean {
  return imagesPerRequest > 1 && classesPerRequest === undefined;
}

function fitOneCall({ provider }: ScoringOrder, images: ProviderImage[], limits: CallLimits): boolean {
  return cutIntoCalls(1, sentSizes(provider.capabilities, images), 1, limits).length === 1;
}

/** Whether a call more is no loss, should somebody come after all. */
function requestsAreFree({ prices, limits }: Provider): boolean {
  return prices.perRequestNanoUsd === 0n && limits.requestsPerSecond === null;
}

/** The images of a prediction that a batch does not hold. */
function missing(rowOf: Map<string, number>, wanted: ProviderImage[]): ProviderImage[] {
  return distinctImages(wanted).distinct.filter(({ sha256 }) => !rowOf.has(sha256));
}

/** Gives each image a row of the batch. */
function place({ images, rowOf }: Batch, wanted: ProviderImage[]): { rows: number[]; own: number } {
  const added = missing(rowOf, wanted);
  for (const image of added) rowOf.set(image.sha256, images.push(image) - 1);
  return { rows: wanted.map(({ sha256 }) => rowOf.get(sha256) as number), own: added.length };
}

/**
 * Whether some of a batch may succeed where all of it did not. What a provider refused may have been billed, and stays counted;
 * the callers' own next attempts would draw the same again.
 */
function isOfContent(error: unknown): boolean {
  if (error instanceof LimitReachedError) return true;
  return error instanceof ProviderCallError && CONTENT_REFUSED.includes(error.providerStatus ?? 0);
}
