import { z } from 'zod';
import { bytesOfScores, complaintOf, listOf } from './answer-bounds.js';
import { HttpProvider, textCapabilities } from './http-provider.js';
import type { ProviderCapabilities, ProviderPrices, ScoreAnswer, ScoreRequest, ScoringProvider } from './provider.js';
import type { ConnectionOf } from './provider-connection.js';
import { matchLabels, toLogProbabilities } from './score-lists.js';
import { templateAndLabels } from './texts.js';

/**
 * Hugging Face's zero-shot image classification, serverless and dedicated endpoints: one image and its candidate labels a
 * request, answered by probabilities over the labels.
 */

/** Times what was asked about: an answer that is somewhat too long is told from one that is no list of scores. */
const MOST_SCORES = 2;

const answerOf = (labels: string[]) =>
  listOf(z.looseObject({ label: z.string(), score: z.number() }), MOST_SCORES * labels.length);

/** The protocol has no request that costs nothing, so that nothing is checked but the record. */
export async function describeHuggingFace(connection: ConnectionOf<'hugging_face'>): Promise<ProviderCapabilities> {
  const { settings } = connection;
  return textCapabilities(connection, {
    defaultTemplate: settings.hypothesis_template,
    returns: 'probabilities',
    billingUnit: 'request',
    maxClassesPerRequest: settings.max_labels ?? null,
  });
}

export class HuggingFaceProvider extends HttpProvider<'hugging_face'> implements ScoringProvider {
  readonly kind = 'scoring';

  constructor(connection: ConnectionOf<'hugging_face'>, capabilities: ProviderCapabilities, prices: ProviderPrices) {
    super(connection, capabilities, prices, {
      unbilledWhileLoading: true,
      largeAnswerRemedy: 'Lower settings.max_labels in its record.',
    });
  }

  async score({ prompts, images, classes, ...options }: ScoreRequest): Promise<ScoreAnswer> {
    if (prompts.kind !== 'template') throw new TypeError('Hugging Face takes text prompts.');
    const { template, labels } = templateAndLabels(prompts.templates[0], classes);
    const answer = await this.postJson(
      '',
      {
        inputs: await this.images.base64(images[0]),
        parameters: { candidate_labels: labels, hypothesis_template: template },
      },
      { ...options, content: { images: 1, texts: labels }, maxResponseBytes: bytesOfScores(labels) },
    );
    const parsed = answerOf(labels).safeParse(answer);
    if (!parsed.success) throw this.invalidAnswer(`It is no list of {label, score} (${complaintOf(parsed.error)}).`);
    const scores = matchLabels(
      parsed.data.map(({ label }) => label),
      parsed.data.map(({ score }) => score),
      labels,
    );
    if (typeof scores === 'string') throw this.invalidAnswer(scores);
    const logits = toLogProbabilities(scores, this.connection.settings.score_floor);
    if (typeof logits === 'string') throw this.invalidAnswer(logits);
    return { logits, billed: null };
  }
}
