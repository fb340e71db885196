import type { ClassTexts } from './provider.js';

/** Where the class name and its description go in a template. */
const NAME = '{}';
const DESCRIPTION = '{description}';
const PLACES = /\{\}|\{description\}/g;

/** One sentence for a class. A class without a description leaves the place empty. */
export function renderText(template: string, name: string, description: string | null | undefined): string {
  return template.replace(PLACES, (place) => (place === NAME ? name : (description ?? ''))).trim();
}

/** All sentences of a template, in the order of the classes. */
export function renderTexts(template: string, { names, descriptions }: ClassTexts): string[] {
  return names.map((name, c) => renderText(template, name, descriptions?.[c]));
}

/**
 * The form in which a template goes to a provider that completes it with class names by itself. One that uses
 * descriptions is completed here, and what the provider gets are whole sentences.
 */
export function templateAndLabels(template: string, classes: ClassTexts): { template: string; labels: string[] } {
  // Where no class has a description, sentences differ by the names alone.
  if (!classes.descriptions) return { template: template.replaceAll(DESCRIPTION, '').trim(), labels: classes.names };
  if (!template.includes(DESCRIPTION)) return { template, labels: classes.names };
  return { template: NAME, labels: renderTexts(template, classes) };
}

/** Bytes that a class adds to a template at most. */
export function textBytes({ names, descriptions }: ClassTexts, c: number): number {
  return Buffer.byteLength(names[c]) + Buffer.byteLength(descriptions?.[c] ?? '');
}

/** The classes of one call: a group of them, behind the anchor where the provider's scores need one. */
export function pickClasses({ names, descriptions }: ClassTexts, indices: number[]): ClassTexts {
  return {
    names: indices.map((c) => names[c]),
    ...(descriptions ? { descriptions: indices.map((c) => descriptions[c] ?? null) } : {}),
  };
}
