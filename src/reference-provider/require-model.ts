import { NotFoundError } from '../errors.js';
import type { EmojiClip } from './emoji-clip.js';

/** @throws NotFoundError when `name` is not the model's. */
export function requireModel(model: EmojiClip, name: string): void {
  if (name === model.config.name) return;
  throw new NotFoundError({
    code: 'model_not_found',
    message: `The model \`${name}\` does not exist; there is \`${model.config.name}\`.`,
    param: 'model',
  });
}
