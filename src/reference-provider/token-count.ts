import type { EmojiClip } from './emoji-clip.js';

/** What an image counts as where usage is told in tokens. */
export const TOKENS_PER_IMAGE = 85;

/** Tokens of texts, as the model's own tokenizer cuts them, without start and end. */
export function textTokens(model: EmojiClip, texts: string[]): number {
  return texts.reduce((sum, text) => sum + model.countTokens(text), 0);
}
