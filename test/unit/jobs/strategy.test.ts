import { describe, expect, it } from 'vitest';
import { InvalidRequestError } from '../../../src/errors.js';
import type { JobRequest } from '../../../src/jobs/job-request.js';
import { chooseProbes, chooseStrategy } from '../../../src/jobs/strategy.js';
import type { ProviderCapabilities, ProviderPrices } from '../../../src/providers/provider.js';

type Craft = JobRequest['method']['craft'];

const craft = (fields: Partial<Craft>): Craft => ({
  strategy: 'auto',
  budget: { max_image_queries: 1000 },
  checkpoint_selection: 'last',
  hyperparameters: {},
  ...fields,
});
const prompts = (fields: Partial<NonNullable<Craft['prompts']>>) => ({
  prompts: { templates: [], words: [], ...fields },
});

function refusal(action: () => unknown): InvalidRequestError {
  try {
    action();
  } catch (error) {
    if (error instanceof InvalidRequestError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('chooseStrategy', () => {
  it.each<[string, Partial<Craft>, 'paper' | 'economy', RegExp]>([
    ['nothing', {}, 'economy', /more accuracy per image query/],
    ['fields that are left out', { hyperparameters: { population_size: undefined } }, 'economy', /more accuracy/],
    ['a start template', prompts({ start: 'a {}.' }), 'economy', /more accuracy/],
    ['probe labels', { probe_labels: 64 }, 'economy', /more accuracy/],
    ['a hyperparameter', { hyperparameters: { population_size: 20 } }, 'paper', /hyperparameters\.population_size/],
    ['templates', prompts({ templates: ['an {}.'] }), 'paper', /prompts\.templates/],
    ['words', prompts({ words: ['flat'] }), 'paper', /prompts\.words/],
    ['economy', { strategy: 'economy', views: 2 }, 'economy', /asked for/],
    ['paper', { strategy: 'paper', hyperparameters: { batch_size: 8 } }, 'paper', /asked for/],
  ])('of a request with %s', (_, fields, strategy, reason) => {
    const choice = chooseStrategy(craft(fields));
    expect(choice.strategy).toBe(strategy);
    expect(choice.reason).toMatch(reason);
  });

  it.each<[string, Partial<Craft>, string, RegExp]>([
    [
      'hyperparameters of economy',
      { strategy: 'economy', hyperparameters: { bound: 1 } },
      'hyperparameters.bound',
      /"paper"/,
    ],
    [
      'templates of economy',
      { strategy: 'economy', ...prompts({ templates: ['{}'] }) },
      'prompts.templates',
      /"paper"/,
    ],
    ['words of economy', { strategy: 'economy', ...prompts({ words: ['x'] }) }, 'prompts.words', /"paper"/],
    ['probe labels of paper', { strategy: 'paper', probe_labels: 0 }, 'probe_labels', /"economy"/],
    ['views of paper', { strategy: 'paper', views: 2 }, 'views', /"economy"/],
    ['prediction queries of paper', { strategy: 'paper', prediction_queries: 1 }, 'prediction_queries', /"economy"/],
    [
      'fields of both',
      { views: 2, hyperparameters: { bound: 1 } },
      'views',
      /only strategy "paper" uses hyperparameters\.bound\. Leave one of them out/,
    ],
  ])('refuses %s', (_, fields, field, remedy) => {
    const error = refusal(() => chooseStrategy(craft(fields)));
    expect(error).toMatchObject({ code: 'not_used_by_strategy', param: `method.craft.${field}` });
    expect(error.message).toMatch(remedy);
    expect(error.message).toContain(field);
  });
});

describe('chooseProbes', () => {
  const FREE: ProviderPrices = {
    perRequestNanoUsd: 0n,
    perImageQueryNanoUsd: 5n,
    perInputTokenPicoUsd: 0n,
    perOutputTokenPicoUsd: 0n,
  };
  const CLASSES = ['cat', 'tree', 'fox'];

  function probes(
    capabilities: Partial<ProviderCapabilities>,
    { wanted, prices = FREE }: { wanted?: number; prices?: ProviderPrices } = {},
  ): string[] {
    const provider = {
      name: 'box',
      prices,
      capabilities: {
        returns: 'logits',
        maxClassesPerRequest: null,
        maxTextsPerRequest: null,
        maxLogitsPerRequest: null,
        ...capabilities,
      } as ProviderCapabilities,
    };
    return chooseProbes({ probe_labels: wanted }, provider, CLASSES);
  }

  it('names 128 labels that are no classes where nothing speaks against it', () => {
    const labels = probes({});
    expect(labels).toHaveLength(128);
    for (const name of CLASSES) expect(labels).not.toContain(name);
  });

  it.each<[string, Partial<ProviderCapabilities>, ProviderPrices]>([
    ['embeds', { returns: 'embeddings' }, FREE],
    ['answers the likeliest labels only', { returns: 'top_log_probabilities' }, FREE],
    ['bills by the token', { billingUnit: 'token' }, FREE],
    ['has a price of input tokens', {}, { ...FREE, perInputTokenPicoUsd: 1n }],
    ['has a price of output tokens', {}, { ...FREE, perOutputTokenPicoUsd: 1n }],
    ['has no room', { maxClassesPerRequest: 3 }, FREE],
    ['asks about the classes in rounds', { maxClassesPerRequest: 2 }, FREE],
  ])('names none at a provider that %s', (_, capabilities, prices) => {
    expect(probes(capabilities, { prices })).toEqual([]);
  });

  it.each<[string, Partial<ProviderCapabilities>]>([
    ['classes', { maxClassesPerRequest: 50 }],
    ['texts', { maxTextsPerRequest: 50 }],
    ['logits', { maxLogitsPerRequest: 50, maxTextsPerRequest: 1000 }],
  ])('fills up one request of so many %s', (_, capabilities) => {
    expect(probes(capabilities)).toHaveLength(47);
    expect(probes(capabilities, { wanted: 47 })).toHaveLength(47);
    const error = refusal(() => probes(capabilities, { wanted: 48 }));
    expect(error).toMatchObject({ code: 'too_many_labels_for_provider', param: 'method.craft.probe_labels' });
    expect(error.message).toMatch(/room for 47 labels beside the 3 classes.*Lower probe_labels/);
  });

  it('names as many as are wanted, also where they are billed', () => {
    expect(probes({ billingUnit: 'token' }, { wanted: 10 })).toHaveLength(10);
    expect(probes({}, { wanted: 0 })).toEqual([]);
  });

  it('refuses them at a provider that embeds, whose embeddings tell more', () => {
    expect(probes({ returns: 'embeddings' }, { wanted: 0 })).toEqual([]);
    const error = refusal(() => probes({ returns: 'embeddings' }, { wanted: 5 }));
    expect(error).toMatchObject({ code: 'probe_labels_not_used', param: 'method.craft.probe_labels' });
  });
});
