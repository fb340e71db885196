import { z } from 'zod';
import { mostTokens } from './amounts.js';
import { bytesOfTokens, complaintOf, listOf } from './answer-bounds.js';
import { HttpProvider, textCapabilities } from './http-provider.js';
import { isAzure, isOpenAi, requireModel } from './openai-models.js';
import { logProbabilitiesOfKeys, optionKeys } from './option-keys.js';
import type {
  ProviderCapabilities,
  ProviderImage,
  ProviderPrices,
  ScoreAnswer,
  ScoreRequest,
  ScoringProvider,
} from './provider.js';
import type { ConnectionOf } from './provider-connection.js';
import { renderTexts } from './texts.js';

/**
 * OpenAI-compatible chat completions (OpenAI, Azure, vLLM, Ollama, …): the image and one option a class, answered by one
 * token, the key of an option; its log-probabilities are the scores.
 */

/** Roles, separators and what templates of chats add. */
const TOKENS_PER_REQUEST = 64;

/** One of each was asked for. */
const MOST_CHOICES = 16;
const MOST_TOKENS = 16;
const MOST_LOGPROBS = 200;

const topLogprobs = listOf(z.looseObject({ token: z.string(), logprob: z.number() }), MOST_LOGPROBS);
const logprobs = z.looseObject({ content: listOf(z.looseObject({ top_logprobs: topLogprobs }), MOST_TOKENS) });
const chatAnswer = z.looseObject({
  choices: listOf(z.looseObject({ logprobs: logprobs.nullish() }), MOST_CHOICES),
  usage: z.looseObject({ prompt_tokens: z.unknown(), completion_tokens: z.unknown() }).nullish(),
});

/** @throws ProviderError, InvalidRequestError as {@link requireModel} does */
export async function describeOpenAiChat(connection: ConnectionOf<'openai_chat'>): Promise<ProviderCapabilities> {
  const { settings } = connection;
  await requireModel(connection);
  return textCapabilities(connection, {
    defaultTemplate: 'a photo of a {}.',
    returns: 'top_log_probabilities',
    billingUnit: 'token',
    maxClassesPerRequest: settings.top_logprobs,
    imageReferences: settings.image_url !== undefined,
    tokens: {
      perImage: settings.max_image_tokens,
      perRequest: TOKENS_PER_REQUEST + Buffer.byteLength(settings.instruction),
      bytesPerToken: settings.bytes_per_token,
      outputPerRequest: 1,
    },
  });
}

export class OpenAiChatProvider extends HttpProvider<'openai_chat'> implements ScoringProvider {
  readonly kind = 'scoring';

  constructor(connection: ConnectionOf<'openai_chat'>, capabilities: ProviderCapabilities, prices: ProviderPrices) {
    super(connection, capabilities, prices, {
      largeAnswerRemedy: 'Lower settings.top_logprobs in its record.',
    });
  }

  async score({ prompts, images, classes, ...options }: ScoreRequest): Promise<ScoreAnswer> {
    if (prompts.kind !== 'template') throw new TypeError('Chat completions take text prompts.');
    const { settings } = this.connection;
    const texts = renderTexts(prompts.templates[0], classes).map((text) => text.replace(/\s+/g, ' '));
    const keys = optionKeys(settings.option_keys, texts.length);
    const text = [settings.instruction, ...texts.map((option, i) => `${keys[i]}: ${option}`)].join('\n');
    const answer = await this.postJson(
      settings.path,
      {
        ...settings.extra_body,
        model: this.remoteModel,
        messages: [{ role: 'user', content: [{ type: 'text', text }, await this.imagePart(images[0])] }],
        temperature: 0,
        [this.maxTokensParameter()]: 1,
        logprobs: true,
        top_logprobs: settings.top_logprobs,
      },
      { ...options, content: { images: 1, texts: [text] }, maxResponseBytes: bytesOfTokens(MOST_LOGPROBS) },
    );
    const parsed = chatAnswer.safeParse(answer);
    if (!parsed.success) throw this.invalidAnswer(`It is no chat completion (${complaintOf(parsed.error)}).`);
    const top = parsed.data.choices[0]?.logprobs?.content[0]?.top_logprobs;
    if (!top) {
      throw this.invalidAnswer(
        'It has no log-probabilities. Use a model, and a server, that returns logprobs with top_logprobs.',
      );
    }
    const most = mostTokens(this, { images: 1, texts: Buffer.byteLength(text) });
    const { prompt_tokens: input, completion_tokens: output } = parsed.data.usage ?? {};
    return {
      logits: logProbabilitiesOfKeys(top, keys, settings.logprob_floor),
      billed: this.billedByTokens(1, { input, output }, most),
    };
  }

  private maxTokensParameter(): string {
    const { settings, baseUrl } = this.connection;
    if (settings.max_tokens_parameter !== 'auto') return settings.max_tokens_parameter;
    return isOpenAi(baseUrl) || isAzure(baseUrl) ? 'max_completion_tokens' : 'max_tokens';
  }

  private async imagePart(image: ProviderImage) {
    const { image_url: address, image_detail: detail } = this.connection.settings;
    const url = address?.replaceAll('{sha256}', image.sha256) ?? (await this.images.dataUri(image));
    return { type: 'image_url', image_url: { url, ...(detail ? { detail } : {}) } };
  }
}
