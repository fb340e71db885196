import { describe, expect, it } from 'vitest';
import { NonFiniteFitnessError, TrainerStateError } from '../../../src/craft/errors.js';
import { Random } from '../../../src/craft/random.js';
import { type Choices, type PromptSpace, TextPromptSpace } from '../../../src/craft/text-prompt-space.js';
import { ELITES, TextSearch, type TextSearchOptions } from '../../../src/craft/text-search.js';

/** Prompts such as "3 0 2": one number per slot. */
function toySpace(slotSizes: number[], templates: Choices[] = [slotSizes.map(() => 0)]): PromptSpace {
  return {
    slotSizes,
    slotVocabularies: slotSizes.map((_, i) => i),
    templates,
    compose: (choices) => choices.join(' '),
  };
}

/** How many slots are off the optimum, the value 7 + slot; separable. */
const distance = (prompt: string) =>
  prompt.split(' ').reduce((sum, value, slot) => sum + (Number(value) === 7 + slot ? 0 : 1 + slot / 10), 0);

function evaluationsToOptimum(options: TextSearchOptions, limit: number): number {
  const search = new TextSearch(options);
  for (let evaluations = 0; evaluations < limit; evaluations += search.populationSize) {
    const losses = search.ask().map(distance);
    if (losses.includes(0)) return evaluations + losses.indexOf(0) + 1;
    search.tell(losses);
  }
  return limit;
}

function randomEvaluationsToOptimum(space: PromptSpace, seed: number, limit: number): number {
  const random = Random.stream(seed, 'baseline');
  for (let evaluations = 1; evaluations < limit; evaluations++) {
    if (distance(space.compose(space.slotSizes.map((size) => random.integer(size)))) === 0) return evaluations;
  }
  return limit;
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

describe('TextSearch', () => {
  const space = new TextPromptSpace({ descriptions: true });
  const options: TextSearchOptions = { space, populationSize: 12, plannedGenerations: 40, seed: 3 };
  /** An arbitrary but fixed loss of any text. */
  const loss = (prompt: string) => Random.stream(1, prompt).uniform() + prompt.length / 100;
  const run = (search: TextSearch, generations: number) => {
    return Array.from({ length: generations }, () => {
      const prompts = search.ask();
      search.tell(prompts.map(loss));
      return prompts;
    });
  };

  it('tries the templates first, in their order, the user’s before the shipped ones', () => {
    const own = new TextPromptSpace({ descriptions: false, templates: ['my {}', 'your {}'] });
    const asked = run(new TextSearch({ ...options, space: own }), 9).flat();
    expect(asked.slice(0, 4)).toEqual(['a photo of a {}.', 'my {}', 'your {}', 'a photo of the {}.']);
    expect(asked.slice(0, own.templates.length)).toEqual(own.templates.map((choices) => own.compose(choices)));
  });

  it('spends at most a quarter of a small budget on them', () => {
    const asked = run(new TextSearch({ ...options, plannedGenerations: 8 }), 8).flat();
    const templates = new Set(space.templates.map((choices) => space.compose(choices)));
    expect(asked.slice(0, 24).every((prompt) => templates.has(prompt))).toBe(true);
    expect(asked.slice(24).some((prompt) => !templates.has(prompt))).toBe(true);
    expect(asked.filter((prompt) => templates.has(prompt)).length).toBeLessThan(40);
  });

  it('never asks for a prompt twice', () => {
    const asked = run(new TextSearch(options), 60).flat();
    expect(new Set(asked).size).toBe(60 * 12);
  });

  it('has the best prompt so far as its centre, and the start template before', () => {
    const search = new TextSearch(options);
    expect(search.centre).toBe('a photo of a {}.');
    const asked = run(search, 30).flat();
    const ranked = asked.toSorted((a, b) => loss(a) - loss(b));
    expect(search.centre).toBe(ranked[0]);
    expect(search.elites).toEqual(ranked.slice(0, ELITES));
  });

  it('repeats itself with the same seed only', () => {
    expect(run(new TextSearch(options), 20)).toEqual(run(new TextSearch(options), 20));
    expect(run(new TextSearch({ ...options, seed: 4 }), 20)).not.toEqual(run(new TextSearch(options), 20));
  });

  it('finds the optimum of a separable problem, much sooner than random search', () => {
    const toy = toySpace([16, 16, 16]);
    const limit = 4000;
    const seeds = Array.from({ length: 15 }, (_, seed) => seed);
    const search = seeds.map((seed) => {
      return evaluationsToOptimum({ space: toy, populationSize: 10, plannedGenerations: 100, seed }, limit);
    });
    expect(Math.max(...search)).toBeLessThan(limit);
    expect(median(search)).toBeLessThan(median(seeds.map((seed) => randomEvaluationsToOptimum(toy, seed, limit))) / 4);
  });

  it('uses what a word taught in one slot in the others that share its vocabulary', () => {
    const shared = { ...toySpace([60, 60, 60, 60]), slotVocabularies: [0, 0, 0, 0] };
    const good = (prompt: string) => -prompt.split(' ').filter((value) => value === '41').length;
    const reached = (toy: PromptSpace, seed: number) => {
      const search = new TextSearch({ space: toy, populationSize: 10, plannedGenerations: 30, seed });
      for (let g = 0; g < 30; g++) search.tell(search.ask().map(good));
      return good(search.centre);
    };
    const total = (toy: PromptSpace) => {
      return Array.from({ length: 10 }, (_, seed) => reached(toy, seed)).reduce((sum, value) => sum + value, 0);
    };
    expect(total(shared)).toBeLessThan(total({ ...shared, slotVocabularies: [0, 1, 2, 3] }));
  });

  it('goes on when its space is exhausted, without repeats within a generation while that is possible', () => {
    const search = new TextSearch({ space: toySpace([3, 3, 1]), populationSize: 6, plannedGenerations: 9, seed: 1 });
    const asked: string[] = [];
    for (let g = 0; g < 12; g++) {
      const prompts = search.ask();
      expect(new Set(prompts).size).toBe(6);
      asked.push(...prompts);
      search.tell(prompts.map(distance));
    }
    expect(new Set(asked).size).toBe(9);
    expect(search.state().fitness).toHaveLength(9);
    const tiny = new TextSearch({ space: toySpace([2, 1]), populationSize: 4, plannedGenerations: 9, seed: 1 });
    expect(new Set(tiny.ask()).size).toBe(2);
  });

  it('ranks its elites by their losses as of now where it is told them', () => {
    const search = new TextSearch(options);
    run(search, 5);
    const [first, second] = search.elites;
    const losses = search.ask().map(() => 100);
    search.tell(
      losses,
      search.elites.map((_, i) => (i === 1 ? 10 : 20 + i)),
    );
    expect(search.centre).toBe(second);
    expect(search.elites[1]).toBe(first);
    search.tell(
      search.ask().map((_, i) => (i === 3 ? 30 : 99)),
      search.elites.map(() => 50),
    );
    expect(search.elites).not.toContain(undefined);
    expect(search.elites.slice(1)).toContain(second);
    expect(search.centre).not.toBe(second);
  });

  it('refuses losses that are not finite, and can then be told again', () => {
    const search = new TextSearch(options);
    const losses = search.ask().map(loss);
    expect(() => search.tell(losses.with(2, Number.NaN))).toThrow(NonFiniteFitnessError);
    expect(() => search.tell(losses.with(2, Number.POSITIVE_INFINITY))).toThrow(/candidate 2/);
    expect(() => search.tell(losses.slice(1))).toThrow(RangeError);
    search.tell(losses);
    search.ask();
    expect(() =>
      search.tell(
        losses,
        search.elites.map(() => Number.NaN),
      ),
    ).toThrow(NonFiniteFitnessError);
    expect(() => search.tell(losses, [1])).toThrow(RangeError);
    expect(search.generation).toBe(1);
  });

  it('keeps the order of ask and tell', () => {
    const search = new TextSearch(options);
    expect(() => search.tell([])).toThrow(TrainerStateError);
    search.ask();
    expect(() => search.ask()).toThrow(TrainerStateError);
    expect(() => search.state()).toThrow(TrainerStateError);
  });

  it('refuses impossible options and states', () => {
    expect(() => new TextSearch({ ...options, populationSize: 3 })).toThrow(/population size/);
    expect(() => new TextSearch({ ...options, plannedGenerations: 0 })).toThrow(/planned generations/);
    const search = new TextSearch(options);
    run(search, 2);
    const state = search.state();
    const damaged = (change: object) => () => new TextSearch(options, { ...state, ...change });
    expect(damaged({ fitness: state.fitness.with(0, Number.NaN) })).toThrow(RangeError);
    expect(damaged({ choices: state.choices.with(0, 1e6) })).toThrow(RangeError);
    expect(damaged({ choices: state.choices.slice(1) })).toThrow(RangeError);
    expect(damaged({ elites: state.elites.with(0, 24) })).toThrow(RangeError);
    expect(damaged({ scalars: state.scalars.with(0, -1) })).toThrow(RangeError);
  });

  it('reports a spread of 1 at the start, and 0 where all elites are the same in every slot', () => {
    const search = new TextSearch(options);
    expect(search.spread).toBe(1);
    run(search, 10);
    expect(search.spread).toBeGreaterThan(0);
    expect(search.spread).toBeLessThan(1);
    const single = new TextSearch({ space: toySpace([1, 1]), populationSize: 4, plannedGenerations: 2, seed: 1 });
    single.tell(single.ask().map(distance));
    expect(single.spread).toBe(0);
  });
});
