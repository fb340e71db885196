import { TextPromptSpace } from '../craft/text-prompt-space.js';
import type { LearnedPrompt, PromptProblem, Prompts } from '../craft/trainer.js';
import type { CallTexts } from '../providers/amounts.js';
import type { ClassTexts, PromptSpace, ProviderCapabilities } from '../providers/provider.js';
import { startContextOf } from '../providers/start-context.js';
import type { JobMethod } from './job-request.js';
import type { LabelledImages } from './labelled-images.js';

/** What a job asks about, made of its data set, its method and its provider. */

/** The classes as prompts are completed with them. */
export function classTextsOf(images: Pick<LabelledImages, 'classes' | 'descriptions'>): ClassTexts {
  const { classes: names, descriptions } = images;
  return descriptions?.some((text) => text !== null) ? { names, descriptions } : { names };
}

/** The labels that a query names: the classes, then probe labels. */
export function withProbes({ names, descriptions }: ClassTexts, probes: string[]): ClassTexts {
  if (probes.length === 0) return descriptions ? { names, descriptions } : { names };
  return {
    names: [...names, ...probes],
    ...(descriptions ? { descriptions: [...descriptions, ...probes.map(() => null)] } : {}),
  };
}

/** Where the search starts and what it searches. */
export function promptProblemOf(
  space: PromptSpace,
  { craft }: Pick<JobMethod, 'craft'>,
  capabilities: ProviderCapabilities,
  classes: ClassTexts,
): PromptProblem {
  if (space === 'text') {
    return {
      space,
      // Fixed when the job was created: the provider's own may change while the job goes on.
      startTemplate: craft.prompts?.start ?? capabilities.defaultTemplate,
      templates: craft.prompts?.templates ?? [],
      words: craft.prompts?.words ?? [],
      descriptions: classes.descriptions !== undefined,
    };
  }
  const { contextTokens, contextWidth } = capabilities;
  return {
    space,
    contextTokens: contextTokens ?? 0,
    contextWidth: contextWidth ?? 0,
    initialContext: startContextOf(capabilities),
  };
}

/** What decides how large the texts of a call can be. */
export function callTextsOf(problem: PromptProblem, classes: ClassTexts): CallTexts {
  return { classes, templateBytes: problem.space === 'text' ? new TextPromptSpace(problem).longestTemplateBytes : 0 };
}

/** The prompt that a search starts from, as an adapter holds it. */
export function startOf(problem: PromptProblem): LearnedPrompt {
  if (problem.space === 'text') return { space: 'text', template: problem.startTemplate };
  const { contextTokens, contextWidth, initialContext } = problem;
  return { space: 'soft', contextTokens, contextWidth, context: initialContext };
}

/** The prompt that a search starts from, as a provider is asked about it. */
export function startPromptOf(problem: PromptProblem): Prompts {
  if (problem.space === 'text') return { kind: 'template', count: 1, templates: [problem.startTemplate] };
  return { kind: 'context', count: 1, values: problem.initialContext };
}
