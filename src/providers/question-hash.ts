import { createHash } from 'node:crypto';
import type { Question } from './ask.js';
import type { Provider, ProviderImage } from './provider.js';

/** The model that answers, by protocol and name. Its address is no part of it: that changes with a restart. */
export function modelOf({ protocol, remoteModel }: Pick<Provider, 'protocol' | 'remoteModel'>): string {
  return `${protocol} ${remoteModel}`;
}

/** SHA-256 of all that a call asks. @param model as {@link modelOf} says */
export function hashQuestion(model: string, { prompts, images, classes }: Question): Uint8Array<ArrayBuffer> {
  const hash = createHash('sha256');
  const { values, templates } =
    prompts.kind === 'context'
      ? { values: prompts.values, templates: [] }
      : { values: null, templates: prompts.templates };
  if (values) hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  const texts = values ? [] : [templates, classes.descriptions ?? null];
  hash.update(JSON.stringify([model, images.map(({ sha256 }) => sha256), classes.names, ...texts]));
  return new Uint8Array(hash.digest());
}

/** Of a call that embeds images. @param space all that decides their embeddings */
export function hashImages(space: string, images: ProviderImage[]): Uint8Array<ArrayBuffer> {
  const hash = createHash('sha256').update(JSON.stringify([space, images.map(({ sha256 }) => sha256)]));
  return new Uint8Array(hash.digest());
}
