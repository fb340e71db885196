import { fillHyperparameters } from '../craft/hyperparameters.js';
import { InvalidRequestError } from '../errors.js';
import type { ProviderInfo } from '../providers/provider-row.js';
import type { JobMethod, JobRequest } from './job-request.js';

/** A request's method with all that its provider decides. @throws InvalidRequestError when it does not take such prompts */
export function methodFor(provider: ProviderInfo, { type, craft }: JobRequest['method']): JobMethod {
  const { promptSpace, promptSpaces = [promptSpace] } = provider.capabilities;
  const space = craft.prompt_space ?? promptSpace;
  if (!promptSpaces.includes(space)) {
    throw new InvalidRequestError({
      code: 'prompt_space_not_supported',
      param: 'method.craft.prompt_space',
      message: `Provider "${provider.name}" takes ${promptSpaces.join(' and ')} prompts, not ${space} ones. Leave prompt_space out, or set it to "${promptSpaces[0]}".`,
    });
  }
  if (space === 'soft' && craft.prompts) {
    throw new InvalidRequestError({
      code: 'prompts_not_used',
      param: 'method.craft.prompts',
      message:
        'Templates and words are for text prompts; this job has soft ones. Leave prompts out, or set prompt_space to "text".',
    });
  }
  const hyperparameters = fillHyperparameters(craft.hyperparameters, space);
  const { prompts = { templates: [], words: [] } } = craft;
  const start = prompts.start ?? provider.capabilities.defaultTemplate;
  return {
    type,
    craft: {
      ...craft,
      prompt_space: space,
      hyperparameters,
      ...(space === 'text' ? { prompts: { ...prompts, start } } : {}),
    },
  };
}
