import { createHash } from 'node:crypto';
import type { ScoreRequest } from './emoji-clip.js';

/**
 * What a request asks, as a SHA-256 in hexadecimal. Requests that must be answered with the same logits have the same
 * hash: it does not matter whether images come in full or by reference, or how the body is encoded.
 */
export function questionHash({ classNames, images, prompts }: ScoreRequest): string {
  const templates = prompts.map((prompt) => ('template' in prompt ? prompt.template : null));
  const hash = createHash('sha256').update(JSON.stringify([classNames, images.map((image) => image.hash), templates]));
  for (const prompt of prompts) if ('context' in prompt) hash.update(prompt.context);
  return hash.digest('hex');
}
