import { probeLabelsFor } from '../craft/economy/probe-labels.js';
import { InvalidRequestError } from '../errors.js';
import type { ProviderCapabilities, ProviderPrices } from '../providers/provider.js';
import type { JobMethod, JobRequest, Strategy } from './job-request.js';

export interface StrategyChoice {
  strategy: Strategy;
  /** Why, in words for the plan. */
  reason: string;
}

type Craft = JobRequest['method']['craft'];

/** Fields of a method that only one strategy uses. */
const ECONOMY_FIELDS = ['probe_labels', 'views', 'prediction_queries'] as const;

/** @throws InvalidRequestError when the request sets what the strategy that it names does not use */
export function chooseStrategy(craft: Craft): StrategyChoice {
  const forPaper = paperField(craft);
  const forEconomy = ECONOMY_FIELDS.find((field) => craft[field] !== undefined);
  if (craft.strategy === 'economy') {
    if (forPaper) throw notUsed(forPaper, 'economy', 'paper');
    return { strategy: 'economy', reason: 'It was asked for.' };
  }
  if (craft.strategy === 'paper') {
    if (forEconomy) throw notUsed(forEconomy, 'paper', 'economy');
    return { strategy: 'paper', reason: 'It was asked for.' };
  }
  if (!forPaper) {
    return {
      strategy: 'economy',
      reason: 'At every budget that was measured it earns more accuracy per image query than the published algorithm.',
    };
  }
  if (forEconomy) throw usedByDifferentOnes(forEconomy, forPaper);
  return { strategy: 'paper', reason: `The request sets ${forPaper}, which only the published algorithm uses.` };
}

/** What a request sets that only the published algorithm uses. */
function paperField({ hyperparameters, prompts }: Craft): string | null {
  const [name] = Object.entries(hyperparameters).find(([, value]) => value !== undefined) ?? [];
  if (name) return `hyperparameters.${name}`;
  if (prompts?.templates.length) return 'prompts.templates';
  return prompts?.words.length ? 'prompts.words' : null;
}

function usedByDifferentOnes(forEconomy: string, forPaper: string): InvalidRequestError {
  return new InvalidRequestError({
    code: 'not_used_by_strategy',
    param: `method.craft.${forEconomy}`,
    message: `Only strategy "economy" uses ${forEconomy}, and only strategy "paper" uses ${forPaper}. Leave one of them out.`,
  });
}

function notUsed(field: string, strategy: Strategy, other: Strategy): InvalidRequestError {
  return new InvalidRequestError({
    code: 'not_used_by_strategy',
    param: `method.craft.${field}`,
    message: `Strategy "${strategy}" does not use ${field}. Leave it out, or set strategy to "${other}".`,
  });
}

/**
 * The probe labels of a job. None at a provider that embeds, whose embeddings tell more; where labels are billed by the token
 * or only the likeliest of them are answered; and where they would take a further request for each image.
 */
export function chooseProbes(
  { probe_labels: wanted }: Pick<JobMethod['craft'], 'probe_labels'>,
  provider: { name: string; capabilities: ProviderCapabilities; prices: ProviderPrices },
  classNames: string[],
): string[] {
  const { capabilities, prices } = provider;
  const { returns, maxClassesPerRequest, maxTextsPerRequest, maxLogitsPerRequest } = capabilities;
  if (returns === 'embeddings') {
    if (!wanted) return [];
    throw new InvalidRequestError({
      code: 'probe_labels_not_used',
      param: 'method.craft.probe_labels',
      message: `Provider "${provider.name}" answers embeddings, which tell more than probe labels do. Leave probe_labels out.`,
    });
  }
  const together = Math.min(
    ...[maxClassesPerRequest, maxTextsPerRequest, maxLogitsPerRequest].map((most) => most ?? Number.POSITIVE_INFINITY),
  );
  const room = Math.max(0, together - classNames.length);
  if (wanted !== undefined) {
    if (wanted <= room) return probeLabelsFor(classNames, wanted);
    throw new InvalidRequestError({
      code: 'too_many_labels_for_provider',
      param: 'method.craft.probe_labels',
      message: `Provider "${provider.name}" has room for ${room} labels beside the ${classNames.length} classes in one request. Lower probe_labels, or leave it out.`,
    });
  }
  const billsLabels = prices.perInputTokenPicoUsd > 0n || prices.perOutputTokenPicoUsd > 0n;
  if (returns === 'top_log_probabilities' || capabilities.billingUnit === 'token' || billsLabels) return [];
  return probeLabelsFor(classNames, Math.min(room, DEFAULT_PROBES));
}

const DEFAULT_PROBES = 128;
