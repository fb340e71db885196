import type { Score, ScoringRequest } from '../craft/trainer.js';
import type { Ledger } from '../ledger/ledger.js';
import type { MeteredCall } from '../ledger/metered-call.js';
import { type CallLimits, type CallRange, cutIntoCalls, promptEvaluationsOf } from '../providers/calls.js';
import type { Circuit } from '../providers/circuit.js';
import { mapConcurrent } from '../providers/map-concurrent.js';
import { costMicroUsd, type Provider } from '../providers/provider.js';
import type { LabelledImages } from './labelled-images.js';
import { HandedBackError, persistentCall } from './persistent-call.js';
import { probeCall } from './probe-call.js';
import { type AnsweredCall, hashCall, purchaseKey, type StoredAnswers, toPaidAnswer } from './stored-answers.js';

export interface MeteredScorerOptions {
  jobId: string;
  epoch: number;
  /** The API key that created the job. */
  apiKeyId: string | null;
  worker: string;
  provider: Provider;
  ledger: Ledger;
  circuit: Circuit;
  images: LabelledImages;
  /** What an earlier run of the job paid for. */
  answers: StoredAnswers;
  /** How calls are cut: as planned, so that a resumed job asks the very same questions. */
  callLimits: CallLimits;
  /** Stops between two provider calls; what is in flight is awaited, because it is paid for. */
  signal: AbortSignal;
}

/** Answers the trainer's requests with provider calls, each under the ledger, as many in flight as the provider takes. */
export class MeteredScorer {
  private generation = 0;
  private chunksBefore = 0;

  constructor(private readonly options: MeteredScorerOptions) {}

  /** A score function for one generation; the calls of a generation are numbered through. */
  forGeneration(generation: number): Score {
    this.generation = generation;
    this.chunksBefore = 0;
    return (request, receive) => this.score(request, receive);
  }

  private async score(request: ScoringRequest, receive: (promptIndex: number, logits: Float32Array) => void) {
    const { provider, images, signal, callLimits } = this.options;
    const imageSizes = images[request.imageSet].images.map(({ size }) => size);
    const imageCount = imageSizes.length;
    const classCount = images.classes.length;
    const calls = cutIntoCalls(request.promptCount, imageSizes, callLimits, this.chunksBefore);
    this.chunksBefore += calls.length;
    const answers = new PromptAnswers(imageCount, classCount, receive);
    await mapConcurrent(calls, provider.limits.concurrency, async (call) => {
      if (signal.aborted) throw new HandedBackError('The worker is shutting down.');
      answers.add(call, await this.send(request, call));
    });
  }

  private async send(request: ScoringRequest, call: CallRange): Promise<Float32Array> {
    const { ledger, circuit, signal, answers } = this.options;
    const asked = this.asked(request, call);
    const paidFor = await answers.find(asked);
    if (paidFor) return paidFor;
    const probe = () => probeCall({ ...this.options, context: asked.prompts, guard: this.guard });
    const attempt = (useless: number) => this.meteredCall(request, call, asked, useless);
    return persistentCall(ledger, circuit, signal, attempt, probe);
  }

  private get guard() {
    return { kind: 'running_job' as const, epoch: this.options.epoch };
  }

  private meteredCall(
    request: ScoringRequest,
    call: CallRange,
    asked: AnsweredCall,
    useless: number,
  ): MeteredCall<Float32Array> {
    const { jobId, apiKeyId, worker, provider, signal } = this.options;
    const imageQueries = call.promptCount * call.imageCount;
    const { idempotency } = provider.capabilities;
    const key = idempotency ? purchaseKey(jobId, provider, asked, useless) : undefined;
    return {
      reservation: {
        accountId: jobId,
        providerId: provider.id,
        purpose: request.purpose,
        amounts: {
          promptEvaluations: promptEvaluationsOf(call),
          imageQueries,
          requests: 1,
          costMicroUsd: costMicroUsd(provider.prices, 1, imageQueries),
        },
        guard: this.guard,
        generation: this.generation,
        chunk: call.chunk,
        worker,
        apiKeyId,
        purchase: idempotency && key ? { key, windowSeconds: idempotency.windowSeconds } : undefined,
      },
      send: async () => {
        const { prompts, images, classNames } = asked;
        const { logits, billed } = await provider.score({
          prompts: { kind: 'context', count: call.promptCount, values: prompts },
          images,
          classNames,
          idempotencyKey: key,
          signal,
        });
        return { answer: logits, billed };
      },
      keep: (logits) => toPaidAnswer(asked, logits),
    };
  }

  private asked(request: ScoringRequest, call: CallRange): AnsweredCall {
    const { images, provider } = this.options;
    const promptLength = request.prompts.length / request.promptCount;
    const question = {
      model: `${provider.protocol} ${provider.remoteModel}`,
      prompts: request.prompts.subarray(
        call.firstPrompt * promptLength,
        (call.firstPrompt + call.promptCount) * promptLength,
      ),
      images: images[request.imageSet].images.slice(call.firstImage, call.firstImage + call.imageCount),
      classNames: images.classes,
    };
    return { ...question, generation: this.generation, chunk: call.chunk, hash: hashCall(question) };
  }
}

/** Puts the logits of a prompt together from the calls that carried parts of its images. */
class PromptAnswers {
  private readonly partial = new Map<number, { logits: Float32Array; missing: number }>();

  constructor(
    private readonly imageCount: number,
    private readonly classCount: number,
    private readonly receive: (promptIndex: number, logits: Float32Array) => void,
  ) {}

  /** @param logits [call's prompts, call's images, C] */
  add(call: CallRange, logits: Float32Array): void {
    const size = call.imageCount * this.classCount;
    for (let i = 0; i < call.promptCount; i++) {
      const part = logits.subarray(i * size, (i + 1) * size);
      const prompt = call.firstPrompt + i;
      if (call.imageCount === this.imageCount) {
        this.receive(prompt, part);
        continue;
      }
      const entry = this.partial.get(prompt) ?? {
        logits: new Float32Array(this.imageCount * this.classCount),
        missing: this.imageCount,
      };
      this.partial.set(prompt, entry);
      entry.logits.set(part, call.firstImage * this.classCount);
      entry.missing -= call.imageCount;
      if (entry.missing === 0) {
        this.partial.delete(prompt);
        this.receive(prompt, entry.logits);
      }
    }
  }
}
