import type { Prompts, Score, ScoringRequest } from '../craft/trainer.js';
import type { Ledger } from '../ledger/ledger.js';
import type { MeteredCall } from '../ledger/metered-call.js';
import type { ReservationGuard } from '../ledger/reservation.js';
import type { CallTexts } from '../providers/amounts.js';
import { pickPrompts, questionOf } from '../providers/ask.js';
import { LogitsAssembly, TextsAssembly } from '../providers/assemble.js';
import { sentSizes } from '../providers/call-limits.js';
import { type CallLimits, type CallRange, cutIntoCalls } from '../providers/calls.js';
import type { Circuit } from '../providers/circuit.js';
import { mapConcurrent } from '../providers/map-concurrent.js';
import type { Provider } from '../providers/provider.js';
import { hashQuestion, modelOf } from '../providers/question-hash.js';
import type { EmbeddedImages } from './embedded-images.js';
import { JobCalls } from './job-calls.js';
import { HandedBackError, persistentCall } from './persistent-call.js';
import { probeCall } from './probe-call.js';
import type { ScoredImages } from './scored-images.js';
import { answerSetOf, type ScoredPrompts } from './scored-prompts.js';
import type { AnsweredCall, StoredAnswers } from './stored-answers.js';

export interface MeteredScorerOptions {
  jobId: string;
  /** The API key that created the job. */
  apiKeyId: string | null;
  worker: string;
  guard: ReservationGuard;
  provider: Provider;
  ledger: Ledger;
  circuit: Circuit;
  images: ScoredImages;
  /** What every call names, in the order of the logits. */
  texts: CallTexts;
  /** What an earlier run of the job paid for. */
  answers: StoredAnswers;
  /** Text prompts that the job has had scored; null where each is scored once only. */
  scored: ScoredPrompts | null;
  /** Of a provider that embeds. */
  embedded: EmbeddedImages | null;
  /** How calls are cut: as planned, so that a resumed job asks the very same questions. */
  callLimits: CallLimits;
  /** @throws LimitReachedError when the budget does not pay for a generation with so many candidates to ask about */
  requireBudget(generation: number, candidates: number): Promise<void>;
  /** Stops between two provider calls; what is in flight is awaited, because it is paid for. */
  signal: AbortSignal;
}

/**
 * Answers the trainer's requests with provider calls, each under the ledger, as many in flight as the provider takes.
 * Text prompts that were scored before are not asked about again.
 */
export class MeteredScorer {
  private generation = 0;
  private chunksBefore = 0;
  private lastTurn: Promise<unknown> = Promise.resolve();
  private readonly calls: JobCalls;

  constructor(private readonly options: MeteredScorerOptions) {
    this.calls = new JobCalls(options);
  }

  /** A score function for one generation; the calls of a generation are numbered through. */
  forGeneration(generation: number): Score {
    this.generation = generation;
    this.chunksBefore = 0;
    return (request, receive) => this.score(request, receive);
  }

  private async score(request: ScoringRequest, receive: (promptIndex: number, logits: Float32Array) => void) {
    const { prompts, purpose, imageSet } = request;
    const { unknown, firstChunk } = await this.inTurn(async () => {
      const missing = await this.answerFromMemory(request, receive);
      return { unknown: missing, firstChunk: this.number(imageSet, missing.length) };
    });
    // Nothing is spent on a generation that the budget cannot complete.
    if (purpose === 'candidates') await this.options.requireBudget(this.generation, unknown.length);
    if (unknown.length === 0) return;
    const missing = unknown.length === prompts.count ? prompts : pickTemplates(prompts, unknown);
    await this.askAll({ purpose, imageSet, prompts: missing }, firstChunk, (index, values) => {
      this.remember(request, unknown[index], values);
      receive(unknown[index], this.toLogits(imageSet, values));
    });
    await this.answerRepeated(request, unknown, receive);
  }

  /** Requests that are made at the same time are numbered in the order in which they were made, on every run. */
  private async inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.lastTurn.then(work);
    this.lastTurn = turn.catch(() => {});
    return turn;
  }

  /** @returns the number of the first call of a request; those after it are taken, too */
  private number(imageSet: ScoringRequest['imageSet'], promptCount: number): number {
    const first = this.chunksBefore;
    if (promptCount > 0) this.chunksBefore += this.cut(imageSet, promptCount, first).length;
    return first;
  }

  private cut(imageSet: ScoringRequest['imageSet'], promptCount: number, firstChunk: number): CallRange[] {
    const { provider, images, texts, callLimits } = this.options;
    const sizes = sentSizes(provider.capabilities, images[imageSet].images);
    return cutIntoCalls(promptCount, sizes, texts.classes.names.length, callLimits, firstChunk);
  }

  /** @returns the indices of the prompts that have to be asked about */
  private async answerFromMemory(
    { prompts, imageSet }: ScoringRequest,
    receive: (promptIndex: number, logits: Float32Array) => void,
  ): Promise<number[]> {
    const all = Array.from({ length: prompts.count }, (_, index) => index);
    const { scored } = this.options;
    if (prompts.kind === 'context' || !scored) return all;
    const known = await scored.find(this.memoryOf(imageSet), prompts.templates);
    return all.filter((index) => {
      const values = known.get(prompts.templates[index]);
      if (values) receive(index, this.options.embedded ? this.toLogits(imageSet, values) : values.slice());
      // Of equal prompts in one request the first one is asked about.
      return values === undefined && prompts.templates.indexOf(prompts.templates[index]) === index;
    });
  }

  /** Prompts that were asked about for another one of the same request. */
  private async answerRepeated(
    { prompts, imageSet }: ScoringRequest,
    asked: number[],
    receive: (promptIndex: number, logits: Float32Array) => void,
  ): Promise<void> {
    const { scored } = this.options;
    if (prompts.kind === 'context' || !scored) return;
    const first = new Map(asked.map((index) => [prompts.templates[index], index]));
    const repeated = prompts.templates.flatMap((template, index) => {
      const place = first.get(template);
      return place !== undefined && place !== index ? [index] : [];
    });
    if (repeated.length === 0) return;
    const known = await scored.find(this.memoryOf(imageSet), prompts.templates);
    for (const index of repeated) {
      const values = known.get(prompts.templates[index]) as Float32Array;
      receive(index, this.options.embedded ? this.toLogits(imageSet, values) : values.slice());
    }
  }

  private remember({ prompts, imageSet }: ScoringRequest, index: number, values: Float32Array): void {
    const { scored } = this.options;
    if (prompts.kind === 'context' || !scored) return;
    const template = prompts.templates[index];
    scored.add({ imageSet: this.memoryOf(imageSet), template, values: values.slice() });
  }

  private memoryOf(imageSet: ScoringRequest['imageSet']): string {
    return answerSetOf(this.options.provider, imageSet);
  }

  private toLogits(imageSet: ScoringRequest['imageSet'], values: Float32Array): Float32Array {
    return this.options.embedded?.logits(imageSet, values) ?? values;
  }

  /** Sends the calls of a request. @param receive takes logits [N, C] of a prompt, or embeddings [C, D] of its texts */
  private async askAll(
    request: ScoringRequest,
    firstChunk: number,
    receive: (promptIndex: number, values: Float32Array) => void,
  ) {
    const { provider, images, texts, signal } = this.options;
    const calls = this.cut(request.imageSet, request.prompts.count, firstChunk);
    const classCount = texts.classes.names.length;
    const imageCount = images[request.imageSet].images.length;
    const assembly = this.options.embedded
      ? new TextsAssembly(classCount, receive)
      : new LogitsAssembly(imageCount, classCount, receive);
    await mapConcurrent(calls, provider.limits.concurrency, async (call) => {
      if (signal.aborted) throw new HandedBackError('The worker is shutting down.');
      await this.send(request, call, (answer) => assembly.add(call, answer));
    });
  }

  /**
   * @param take gets the answer as soon as it is there, so that the trainer works on it while it is settled: a generation whose
   *   settlement fails is not recorded
   */
  private async send(request: ScoringRequest, call: CallRange, take: (answer: Float32Array) => void): Promise<void> {
    const { ledger, circuit, signal, answers } = this.options;
    const asked = this.asked(request, call);
    const paidFor = await answers.find(asked);
    if (paidFor) return take(paidFor);
    const probe = () => probeCall({ ...this.options, prompt: pickPrompts(asked.prompts, 0, 1) });
    let taking: Promise<void> | null = null;
    const attempt = (useless: number): MeteredCall<Float32Array> => {
      const planned = this.calls.generationCall(request.purpose, call, asked, useless);
      return {
        ...planned,
        send: async () => {
          const answered = await planned.send();
          // Of what is settled a copy is taken: the trainer may move it to its thread. What it refuses is paid for all the same.
          taking ??= Promise.resolve(answered.answer.slice()).then(take);
          taking.catch(() => {});
          return answered;
        },
      };
    };
    await persistentCall(ledger, circuit, signal, attempt, probe);
    await taking;
  }

  private asked({ prompts, imageSet }: ScoringRequest, call: CallRange): AnsweredCall {
    const { images, provider, texts } = this.options;
    const whole = { prompts, images: images[imageSet].images, classes: texts.classes };
    const question = questionOf(call, whole);
    const hash = hashQuestion(modelOf(provider), question);
    return { ...question, generation: this.generation, chunk: call.chunk, hash };
  }
}

function pickTemplates(prompts: Prompts, indices: number[]): Prompts {
  if (prompts.kind === 'context') throw new TypeError('Context prompts are all asked about.');
  return { kind: 'template', count: indices.length, templates: indices.map((index) => prompts.templates[index]) };
}
