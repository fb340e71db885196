import { ask, type Question, questionOf } from '../../src/providers/ask.js';
import { LogitsAssembly, TextsAssembly } from '../../src/providers/assemble.js';
import { type CallRange, cutIntoCalls } from '../../src/providers/calls.js';
import { cosineLogits } from '../../src/providers/cosine.js';
import type { EmbeddingProvider, Provider } from '../../src/providers/provider.js';
import { limitsFor } from './contract.js';

export interface WholeScoring {
  /** Of each template, logits [N, C]. */
  logits: Float32Array[];
  /** Calls that scored images, or embedded texts. */
  calls: number;
}

/** Asks a provider a question that may need several calls, and puts their answers together. */
export async function scoreWhole(
  provider: Provider,
  question: Omit<Question, 'prompts'>,
  templates: string[],
): Promise<WholeScoring> {
  const limits = limitsFor(provider, question, templates);
  const whole: Question = { ...question, prompts: { kind: 'template', count: templates.length, templates } };
  const classCount = question.classes.names.length;
  const parts: Float32Array[] = [];
  const receive = (prompt: number, values: Float32Array) => {
    parts[prompt] = values.slice();
  };
  const assembly =
    provider.kind === 'embedding'
      ? new TextsAssembly(classCount, receive)
      : new LogitsAssembly(question.images.length, classCount, receive);
  const calls = cutIntoCalls(templates.length, limits.sizes, classCount, limits.calls);
  for (const call of calls) assembly.add(call, (await ask(provider, questionOf(call, whole), {})).answer);
  if (provider.kind === 'scoring') return { logits: parts, calls: calls.length };
  const { values, width } = await embedAll(
    provider,
    question,
    cutIntoCalls(1, limits.sizes, classCount, limits.images),
  );
  return { logits: parts.map((texts) => cosineLogits(values, texts, width, provider.scale)), calls: calls.length };
}

async function embedAll(provider: EmbeddingProvider, { images }: Pick<Question, 'images'>, calls: CallRange[]) {
  const rows: number[] = [];
  for (const { firstImage, imageCount } of calls) {
    const { embeddings } = await provider.embedImages(images.slice(firstImage, firstImage + imageCount), {});
    rows.push(...embeddings);
  }
  return { values: Float32Array.from(rows), width: rows.length / images.length };
}
