import type { EmojiClip } from '../../../src/reference-provider/emoji-clip.js';
import { readImageInput } from '../../../src/reference-provider/image-input.js';

/** What the tests of the provider's JSON protocols need. */

export const base64 = (image: Uint8Array): string => Buffer.from(image).toString('base64');

export const dataUri = (image: Uint8Array): string => `data:image/png;base64,${base64(image)}`;

export const postJson = (url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });

// biome-ignore lint/suspicious/noExplicitAny: the tests look into answers whose shape they check
export async function okJson(response: Response): Promise<any> {
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
  return response.json();
}

export async function failure(response: Response): Promise<{ status: number; body: unknown }> {
  return { status: response.status, body: await response.json() };
}

/** Logits of one image against class names under a template, from the model itself. */
export async function logitsFor(
  model: EmojiClip,
  image: Uint8Array,
  classNames: string[],
  template: string,
): Promise<number[]> {
  return [...(await model.score({ images: [readImageInput(image, 0)], classNames, prompts: [{ template }] }))];
}

export function softmax(logits: number[]): number[] {
  const powers = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
