import { type CallRange, classIndicesOf } from './calls.js';
import type { BilledAmounts, CallOptions, ClassTexts, Prompts, Provider, ProviderImage } from './provider.js';
import { pickClasses, renderTexts } from './texts.js';

/** What is asked of a provider, in one call or in several. */
export interface Question {
  prompts: Prompts;
  /** None where texts are embedded. */
  images: ProviderImage[];
  classes: ClassTexts;
}

/** The part of a question that one call asks. */
export function questionOf(call: CallRange, whole: Question): Question {
  const { classes } = whole;
  return {
    prompts: pickPrompts(whole.prompts, call.firstPrompt, call.promptCount),
    images: whole.images.slice(call.firstImage, call.firstImage + call.imageCount),
    classes: call.classCount === classes.names.length ? classes : pickClasses(classes, classIndicesOf(call)),
  };
}

/** @returns `count` prompts from `first` on; contexts without copying */
export function pickPrompts(prompts: Prompts, first: number, count: number): Prompts {
  if (prompts.kind === 'template') {
    return { kind: 'template', count, templates: prompts.templates.slice(first, first + count) };
  }
  const length = prompts.values.length / prompts.count;
  return { kind: 'context', count, values: prompts.values.subarray(first * length, (first + count) * length) };
}

/**
 * Sends one call.
 * @returns logits [P, N, C], or, of a provider that embeds, embeddings [P, C, D] of the texts
 * @throws ProviderCallError
 */
export async function ask(
  provider: Provider,
  question: Question,
  options: CallOptions,
): Promise<{ answer: Float32Array; billed: BilledAmounts | null }> {
  if (provider.kind === 'scoring') {
    const { logits, billed } = await provider.score({ ...question, ...options });
    return { answer: logits, billed };
  }
  const { embeddings, billed } = await provider.embedTexts(textsOf(question), options);
  return { answer: embeddings, billed };
}

/** How many texts a call embeds. */
export function embeddedTexts(provider: Pick<Provider, 'kind'>, { prompts, classes }: Question): number {
  return provider.kind === 'embedding' ? prompts.count * classes.names.length : 0;
}

function textsOf({ prompts, classes }: Question): string[] {
  if (prompts.kind !== 'template') throw new TypeError('Only text prompts can be embedded.');
  return prompts.templates.flatMap((template) => renderTexts(template, classes));
}
