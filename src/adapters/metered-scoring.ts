import { randomUUID } from 'node:crypto';
import type { ImageEmbeddings } from '../embeddings/image-embeddings.js';
import { PayloadTooLargeError } from '../errors.js';
import type { Ledger } from '../ledger/ledger.js';
import { meteredCall, PREDICTION_RETRIES } from '../ledger/metered-call.js';
import type { QueryPurpose, ReservationGuard } from '../ledger/reservation.js';
import { addAmounts, amountsOfCall, billedAmounts, NOTHING } from '../providers/amounts.js';
import { ask, embeddedTexts, questionOf } from '../providers/ask.js';
import { LogitsAssembly, TextsAssembly } from '../providers/assemble.js';
import { callLimits, imageCallLimits, imageTooLarge, sentSizes } from '../providers/call-limits.js';
import { type CallLimits, type CallRange, cutIntoCalls, largestImageBytes } from '../providers/calls.js';
import { distinctImages, pickRows } from '../providers/distinct-images.js';
import { mapConcurrent } from '../providers/map-concurrent.js';
import type { ClassTexts, Prompts, Provider, ProviderImage, QueryAmounts } from '../providers/provider.js';
import { ProviderCallError } from '../providers/provider-call-error.js';
import { hashQuestion, modelOf } from '../providers/question-hash.js';
import { type CallMeter, type CallToMeter, embeddedLogits } from './embedded-scoring.js';
import type { RepeatableCalls } from './repeatable-requests.js';

export interface ScoringOrder {
  provider: Provider;
  /** Exactly one prompt. */
  prompt: Prompts;
  classes: ClassTexts;
  /** [C, D] of the prompt's texts, where they are known already. */
  textEmbeddings?: Float32Array;
  /** The request field that the classes come from, for errors; null where they are the adapter's. */
  classesParam: string | null;
  images: ProviderImage[];
  accountId: string;
  purpose: QueryPurpose;
  guard: ReservationGuard;
  worker: string;
  apiKeyId: string | null;
  /** Where its caller may send the request again. */
  repeatable?: RepeatableCalls;
  /** How often a call is tried at most; the policy of predictions where it is left out. */
  attempts?: number;
  /** As {@link scoringLimits} says, where it was asked before: it counts the bytes of all texts. */
  limits?: ScoringLimits;
}

/** How the calls of a question are cut: those with all of it, and those that carry its images. */
export interface ScoringLimits {
  question: CallLimits;
  images: CallLimits;
}

export interface Scored {
  /** [N, C] */
  logits: Float32Array;
  /** [N, D] of the images, where the provider embeds. */
  embeddings?: Float32Array;
  /** What the ledger counts of them. */
  usage: QueryAmounts;
  /** [C, D] of the prompt's texts, where they were asked for. */
  textEmbeddings?: Float32Array;
}

/**
 * Scores images under one prompt for a caller who waits: cut into provider calls, each under the ledger. Equal images are asked
 * about once.
 * @throws InvalidRequestError, PayloadTooLargeError when the provider does not take so many classes or so large an image
 */
export async function scoreImages(ledger: Ledger, embeddings: ImageEmbeddings, order: ScoringOrder): Promise<Scored> {
  const { provider, images } = order;
  const { question: limits, images: imageLimits } = order.limits ?? scoringLimits(order);
  requireImagesFit(order, imageLimits);
  const meter = new Meter(ledger, order);
  let asked: Float32Array | undefined;
  const texts = async () => {
    asked = await textEmbeddings(order, meter, limits);
    return asked;
  };
  const scored =
    provider.kind === 'embedding'
      ? await embeddedLogits(
          embeddings,
          meter,
          {
            provider,
            images,
            sizes: sentSizes(provider.capabilities, images),
            limits: imageLimits,
            classCount: order.classes.names.length,
            owner: order.repeatable?.owner,
          },
          () => order.textEmbeddings ?? texts(),
        )
      : { logits: await directLogits(order, meter, limits) };
  return { ...scored, usage: meter.usage, ...(asked ? { textEmbeddings: asked } : {}) };
}

/** Sends calls under the ledger and adds up what it counts of them: what was billed, and attempts that may have been. */
export class Meter implements CallMeter {
  usage: QueryAmounts = NOTHING;

  constructor(
    private readonly ledger: Ledger,
    private readonly order: ScoringOrder,
  ) {}

  async send(chunk: number, amounts: QueryAmounts, call: CallToMeter): Promise<Float32Array> {
    const { provider, accountId, purpose, guard, worker, apiKeyId, repeatable } = this.order;
    const { idempotency } = provider.capabilities;
    const { accountFingerprint } = provider;
    const name = () => repeatable?.purchaseKey({ accountId, accountFingerprint, hash: call.hash() });
    const key = idempotency ? (name() ?? `${purpose}/${randomUUID()}`) : undefined;
    const purchase = idempotency && key ? { key, windowSeconds: idempotency.windowSeconds } : undefined;
    const reservation = {
      accountId,
      providerId: provider.id,
      purpose,
      amounts,
      guard,
      chunk,
      worker,
      apiKeyId,
      purchase,
    };
    const counted: QueryAmounts[] = [];
    // All attempts at a purchase are one, which the last of them settled.
    const usage = () => (purchase ? counted.slice(-1) : counted).reduce(addAmounts, NOTHING);
    const send = async () => {
      try {
        const sent = await call.send({ idempotencyKey: key, patienceMs: PREDICTION_RETRIES.maxRetryAfterMs });
        counted.push(billedAmounts(amounts, sent.billed));
        // Before it is settled: should this process die in between, it counts in any case.
        await call.keepFirst?.({ answer: sent.answer, usage: usage() });
        return sent;
      } catch (failure) {
        if (!(failure instanceof ProviderCallError) || failure.billing !== 'unbilled') counted.push(amounts);
        throw failure;
      }
    };
    const answer = await meteredCall(
      this.ledger,
      {
        ...call,
        reservation,
        // The reservation is on disk, and counts until it is settled: the caller need not wait for that.
        settleLater: true,
        send,
      },
      { ...PREDICTION_RETRIES, maxAttempts: this.order.attempts ?? PREDICTION_RETRIES.maxAttempts },
    );
    this.add(usage());
    return answer;
  }

  add(usage: QueryAmounts): void {
    this.usage = addAmounts(this.usage, usage);
  }
}

async function directLogits(order: ScoringOrder, meter: Meter, limits: CallLimits): Promise<Float32Array> {
  const { distinct: images, rows } = distinctImages(order.images);
  const sizes = sentSizes(order.provider.capabilities, images);
  let logits = new Float32Array();
  const assembly = new LogitsAssembly(images.length, order.classes.names.length, (_, all) => {
    logits = all as Float32Array<ArrayBuffer>;
  });
  const calls = cutIntoCalls(1, sizes, order.classes.names.length, limits);
  await sendAll({ ...order, images }, meter, calls, assembly);
  return images.length === rows.length ? logits : pickRows(logits, rows, images.length);
}

async function textEmbeddings(order: ScoringOrder, meter: Meter, limits: CallLimits): Promise<Float32Array> {
  let embeddings = new Float32Array();
  const assembly = new TextsAssembly(order.classes.names.length, (_, all) => {
    embeddings = all as Float32Array<ArrayBuffer>;
  });
  await sendAll(order, meter, cutIntoCalls(1, [], order.classes.names.length, limits), assembly);
  return embeddings;
}

async function sendAll(
  order: ScoringOrder,
  meter: Meter,
  calls: CallRange[],
  assembly: { add(call: CallRange, answer: Float32Array): void },
): Promise<void> {
  const { provider, images, classes, prompt } = order;
  const texts = textsOf(order);
  // With the answer to a single call the whole request is answered.
  const kept = calls.length > 1 ? order.repeatable : undefined;
  await mapConcurrent(calls, provider.limits.concurrency, async (call) => {
    const { chunk } = call;
    const question = questionOf(call, { prompts: prompt, images, classes });
    let hashed: Uint8Array<ArrayBuffer> | undefined;
    const hash = () => {
      hashed ??= hashQuestion(modelOf(provider), question);
      return hashed;
    };
    const known = await kept?.find(chunk, hash());
    if (known) meter.add(known.usage);
    const answer =
      known?.answer ??
      (await meter.send(chunk, amountsOfCall(provider, call, texts), {
        send: (options) => ask(provider, question, options),
        texts: embeddedTexts(provider, question),
        hash,
        keepFirst: (answered) => kept?.keep(chunk, hash(), answered),
      }));
    assembly.add(call, answer);
  });
}

function spaceOf(prompt: Prompts) {
  return prompt.kind === 'context' ? 'soft' : 'text';
}

/** What the texts of a question cost where they are billed. */
export function textsOf({ prompt, classes }: Pick<ScoringOrder, 'prompt' | 'classes'>) {
  return { classes, templateBytes: prompt.kind === 'template' ? Buffer.byteLength(prompt.templates[0]) : 0 };
}

/** @throws InvalidRequestError when the provider does not take so many classes */
export function scoringLimits(
  order: Pick<ScoringOrder, 'provider' | 'prompt' | 'classes' | 'classesParam'>,
): ScoringLimits {
  const { provider, prompt, classesParam } = order;
  const question = callLimits(provider, { space: spaceOf(prompt), ...textsOf(order) }, classesParam);
  return { question, images: provider.kind === 'embedding' ? imageCallLimits(provider) : question };
}

/** @throws PayloadTooLargeError naming the image that no call has room for */
export function requireImagesFit(
  { provider, images }: Pick<ScoringOrder, 'provider' | 'images'>,
  limits: CallLimits,
): void {
  const sizes = sentSizes(provider.capabilities, images);
  const largest = largestImageBytes(limits);
  const tooLarge = sizes.findIndex((size) => size > largest);
  if (tooLarge < 0) return;
  const detail = imageTooLarge(provider.name, 'The image', sizes[tooLarge], largest);
  throw new PayloadTooLargeError({ ...detail, param: `images.${tooLarge}` });
}
