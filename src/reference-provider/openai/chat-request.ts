import { z } from 'zod';
import { InvalidRequestError } from '../../errors.js';
import { imageFromDataUri } from '../base64-image.js';
import type { ImageInput } from '../image-input.js';
import { parseInput } from '../parse-input.js';
import { type Option, readOptions } from './chat-options.js';

const textPart = z.object({ type: z.literal('text'), text: z.string() });
const imagePart = z.object({ type: z.literal('image_url'), image_url: z.object({ url: z.string() }) });
const part = z.discriminatedUnion('type', [textPart, imagePart]);
const content = z.union([z.string(), z.array(part)], 'must be a text, or a list of parts of type text and image_url');
const maxTokens = z.number().int().min(1).nullish();

const schema = z.object({
  model: z.string(),
  messages: z
    .array(z.object({ role: z.enum(['system', 'developer', 'user', 'assistant']), content }))
    .min(1, 'must hold at least one message'),
  // The most probable option is the answer at every temperature.
  temperature: z.number().min(0).max(2).nullish(),
  max_tokens: maxTokens,
  max_completion_tokens: maxTokens,
  n: z.literal(1, 'there is one answer only').nullish(),
  stream: z.literal(false, 'answers are not streamed here; leave it out').nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.number().int().min(0).max(20).nullish(),
});

type Message = z.infer<typeof schema>['messages'][number];

export interface ChatRequest {
  model: string;
  image: ImageInput;
  options: Option[];
  /** All texts of all messages. */
  texts: string[];
  /** Most tokens of the answer, where the request has a limit. */
  maxTokens: number | undefined;
  /** Alternatives to list with their log probabilities; undefined where none are asked for. */
  topLogprobs: number | undefined;
}

/** Reads a question about one image with options to choose from. @throws InvalidRequestError naming the field. */
export function readChatRequest(body: unknown): ChatRequest {
  const request = parseInput(schema, body);
  if (request.top_logprobs != null && request.logprobs !== true) {
    throw new InvalidRequestError({
      code: 'invalid_input',
      message: 'top_logprobs: needs logprobs: true.',
      param: 'top_logprobs',
    });
  }
  const asked = request.messages.filter((message) => message.role !== 'assistant');
  return {
    model: request.model,
    image: onlyImage(request.messages),
    options: readOptions(textsOf(asked).join('\n')),
    texts: textsOf(request.messages),
    maxTokens: request.max_completion_tokens ?? request.max_tokens ?? undefined,
    topLogprobs: request.logprobs === true ? (request.top_logprobs ?? 0) : undefined,
  };
}

function textsOf(messages: Message[]): string[] {
  return messages.flatMap(({ content }) =>
    typeof content === 'string' ? [content] : content.flatMap((part) => (part.type === 'text' ? [part.text] : [])),
  );
}

function onlyImage(messages: Message[]): ImageInput {
  const images = messages.flatMap(({ content }, m) =>
    typeof content === 'string'
      ? []
      : content.flatMap((part, p) =>
          part.type === 'image_url'
            ? [{ url: part.image_url.url, field: `messages.${m}.content.${p}.image_url.url` }]
            : [],
        ),
  );
  if (images.length !== 1) {
    throw new InvalidRequestError({
      code: 'invalid_image_count',
      message: `messages: ${images.length} images given; send exactly one, as a part of type image_url.`,
      param: 'messages',
    });
  }
  return imageFromDataUri(images[0].url, images[0].field);
}
