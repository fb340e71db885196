import { CmaEs, type CmaEsState } from './cma-es.js';
import { boundOf, type CraftHyperparameters } from './hyperparameters.js';
import { PromptGenerator } from './prompt-generator.js';
import type { LearnedPrompt, PromptProblem, Prompts } from './prompts.js';
import { TextPromptSpace } from './text-prompt-space.js';
import { TextSearch, type TextSearchState } from './text-search.js';

/** Typed arrays by name, from which a search goes on bit for bit. */
export type SearchState = Record<string, Float64Array>;

/** The search for a prompt, whatever prompts are made of: an evolution strategy that minimises, as ask and tell. */
export interface PromptSearch {
  /** Generations told so far. */
  readonly generation: number;
  /** How far the search still reaches: σ of CMA-ES, or the spread of the distributions over words. */
  readonly stepSize: number;
  /** λ candidates. */
  ask(): Prompts;
  /** Prompts of earlier generations whose losses are to be told afresh, because they change as the head does. */
  elites(): Prompts | null;
  /**
   * @param fitness of each candidate; smaller is better
   * @param eliteFitness of each elite, where there are any and their losses have changed
   */
  tell(fitness: number[], eliteFitness: number[] | null): void;
  /** The current prompt, on which the head trains and which becomes the adapter's. */
  centre(): Prompts;
  learned(): LearnedPrompt;
  state(): SearchState;
}

/** @throws RangeError when the state is not one of such a search */
export function openSearch(
  problem: { prompt: PromptProblem; plannedGenerations: number },
  hyperparameters: CraftHyperparameters,
  seed: number,
  state?: SearchState,
): PromptSearch {
  const { prompt } = problem;
  if (prompt.space === 'soft') return new SoftPromptSearch(prompt, hyperparameters, seed, state);
  return new TextPromptSearch(prompt, problem.plannedGenerations, hyperparameters, seed, state);
}

/** CMA-ES over the intrinsic space, mapped to context tokens (section 3.1 of the paper). */
class SoftPromptSearch implements PromptSearch {
  private readonly generator: PromptGenerator;
  private readonly search: CmaEs;

  constructor(
    private readonly problem: PromptProblem & { space: 'soft' },
    hyperparameters: CraftHyperparameters,
    seed: number,
    state?: SearchState,
  ) {
    const { intrinsic_dimension: n, projection_std: std } = hyperparameters;
    this.generator = new PromptGenerator(problem.initialContext, n, std, seed);
    const options = {
      dimension: n,
      populationSize: hyperparameters.population_size,
      initialStepSize: hyperparameters.initial_step_size,
      bound: boundOf(hyperparameters),
      seed,
    };
    this.search = new CmaEs(options, state as CmaEsState | undefined);
  }

  get generation(): number {
    return this.search.generation;
  }

  get stepSize(): number {
    return this.search.stepSize;
  }

  ask(): Prompts {
    return { kind: 'context', count: this.search.populationSize, values: this.generator.generate(this.search.ask()) };
  }

  elites(): null {
    return null;
  }

  tell(fitness: number[]): void {
    this.search.tell(fitness);
  }

  centre(): Prompts {
    return { kind: 'context', count: 1, values: this.generator.generate(this.search.centre) };
  }

  learned(): LearnedPrompt {
    const { contextTokens, contextWidth } = this.problem;
    return { space: 'soft', contextTokens, contextWidth, context: this.generator.generate(this.search.centre) };
  }

  state(): SearchState {
    return { ...this.search.state() };
  }
}

/** An evolution strategy over the words of a template. */
class TextPromptSearch implements PromptSearch {
  private readonly search: TextSearch;

  constructor(
    { startTemplate, templates, words, descriptions }: PromptProblem & { space: 'text' },
    plannedGenerations: number,
    hyperparameters: CraftHyperparameters,
    seed: number,
    state?: SearchState,
  ) {
    const space = new TextPromptSpace({ startTemplate, templates, words, descriptions });
    const { population_size: populationSize } = hyperparameters;
    this.search = new TextSearch(
      { space, populationSize, plannedGenerations, seed },
      state as TextSearchState | undefined,
    );
  }

  get generation(): number {
    return this.search.generation;
  }

  get stepSize(): number {
    return this.search.spread;
  }

  ask(): Prompts {
    const templates = this.search.ask();
    return { kind: 'template', count: templates.length, templates };
  }

  elites(): Prompts | null {
    const { elites: templates } = this.search;
    return templates.length === 0 ? null : { kind: 'template', count: templates.length, templates };
  }

  tell(fitness: number[], eliteFitness: number[] | null): void {
    this.search.tell(fitness, eliteFitness ?? undefined);
  }

  centre(): Prompts {
    return { kind: 'template', count: 1, templates: [this.search.centre] };
  }

  learned(): LearnedPrompt {
    return { space: 'text', template: this.search.centre };
  }

  state(): SearchState {
    return { ...this.search.state() };
  }
}
