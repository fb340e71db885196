import { InvalidProblemError } from '../craft/errors.js';
import type { PromptProblem } from '../craft/prompts.js';
import { TextPromptSpace } from '../craft/text-prompt-space.js';
import { InvalidRequestError } from '../errors.js';
import { callLimits, imageCallLimits, sentSizes } from '../providers/call-limits.js';
import { largestImageBytes } from '../providers/calls.js';
import type { ProviderInfo } from '../providers/provider-row.js';
import { callTextsOf, classTextsOf, promptProblemOf, withProbes } from './job-question.js';
import { type JobMethod, promptSpaceOf, toQueryLimits } from './job-request.js';
import type { LabelledImages, LabelledSet } from './labelled-images.js';

/**
 * What a plan of either strategy is made of: what a query names, how calls are cut, and how much is sent of the images.
 * @param probes labels that are named beside the classes
 * @throws InvalidRequestError when a template or word cannot be used, or the provider does not take so many classes
 */
export function planInputsOf(provider: ProviderInfo, method: JobMethod, images: LabelledImages, probes: string[] = []) {
  const { capabilities, limits, prices } = provider;
  const space = promptSpaceOf(method);
  const classes = classTextsOf(images);
  const problem = checkedProblem(space, method, capabilities, classes);
  const texts = callTextsOf(problem, withProbes(classes, probes));
  const calls = callLimits(provider, { space, ...texts }, 'training_file');
  const embeds = capabilities.returns === 'embeddings';
  const imageCalls = embeds ? imageCallLimits(provider) : calls;
  const sizes = (set: Pick<LabelledSet, 'images'>) => sentSizes(capabilities, set.images);
  return {
    space,
    embeds,
    /** Of the calls that carry images. */
    imageCalls,
    /** For {@link requireSetsFit}. */
    fit: { largest: largestImageBytes(imageCalls), sizes },
    planned: {
      trainingImages: sizes(images.training),
      validationImages: sizes(images.validation),
      texts,
      limits: toQueryLimits(method.craft.budget),
      calls,
      provider: { requestsPerSecond: limits.requestsPerSecond, prices, capabilities },
    },
  };
}

/** @throws InvalidRequestError when a template or word of the request cannot be used */
function checkedProblem(...parts: Parameters<typeof promptProblemOf>): PromptProblem {
  const problem = promptProblemOf(...parts);
  try {
    if (problem.space === 'text') new TextPromptSpace(problem);
    return problem;
  } catch (error) {
    if (!(error instanceof InvalidProblemError)) throw error;
    throw new InvalidRequestError({ code: 'invalid_prompts', param: 'method.craft.prompts', message: error.message });
  }
}
