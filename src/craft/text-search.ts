import { AdditiveModel } from './additive-model.js';
import { NonFiniteFitnessError, TrainerStateError } from './errors.js';
import { RANDOM_STATE_LENGTH, Random } from './random.js';
import type { Choices, PromptSpace } from './text-prompt-space.js';

export interface TextSearchOptions {
  space: PromptSpace;
  /** λ, at least 4. */
  populationSize: number;
  /** Length of the schedule: the space's templates take at most a quarter of its candidates. Training may go on past it. */
  plannedGenerations: number;
  /** A safe integer. */
  seed: number;
}

/** Everything that changes while the search runs, as typed arrays. */
export interface TextSearchState {
  /** The choices of every prompt told so far, in the order of asking, [n, slots]; n is at most λ per generation. */
  choices: Float64Array;
  /** Their losses as last told, [n]. */
  fitness: Float64Array;
  /** The best prompts, best first, as indices into the above, [0 at the start and min({@link ELITES}, n) later]. */
  elites: Float64Array;
  /** Generations, templates tried, then the state of the random numbers. */
  scalars: Float64Array;
}

/** The best prompts so far that offspring descend from. */
export const ELITES = 25;
/** Share of the planned candidates that may be templates as they are. */
const TEMPLATE_SHARE = 0.25;
/** Probability that a parent is the start template: a way out where the best prompts all descend from a bad choice. */
const START_PROBABILITY = 0.25;
/** Probability that an offspring mixes the slots of two parents. */
const CROSSOVER_PROBABILITY = 0.5;
/** Probability that one more slot of an offspring changes, after the first and after each further one. */
const FURTHER_CHANGE_PROBABILITY = 0.3;
/** Offspring drawn for one place until one is new. */
const DRAWS = 100;
/** After so many draws in vain one more slot changes. */
const DRAWS_PER_FURTHER_CHANGE = 10;

interface Candidate {
  choices: Choices;
  prompt: string;
  fitness: number;
}

/**
 * An evolution strategy over prompts made of categorical slots, as an ask-and-tell object that minimises. It first
 * tries the templates of its space as they are. Offspring then descend from the best prompts so far: the slots of one
 * parent, or of two mixed, of which one or a few change to values that an {@link AdditiveModel} of all losses so far
 * prefers. A prompt is never asked for twice while a new one can be found.
 */
export class TextSearch {
  readonly populationSize: number;
  private readonly space: PromptSpace;
  private readonly templates: readonly Choices[];
  private readonly openSlots: number[];
  private readonly random: Random;
  private readonly model: AdditiveModel;
  /** Every prompt told so far, in the order of asking. */
  private readonly told = new Map<string, Candidate>();
  private best: Candidate[] = [];
  private generations = 0;
  private templatesTried = 0;
  private pending: Candidate[] | null = null;

  /** @throws RangeError on impossible options, or on a state that is not one of a search with these options */
  constructor(options: TextSearchOptions, state?: TextSearchState) {
    const { space, populationSize, plannedGenerations, seed } = options;
    if (!Number.isInteger(populationSize) || populationSize < 4) {
      throw new RangeError(`The population size must be an integer of at least 4, not ${populationSize}.`);
    }
    if (!Number.isInteger(plannedGenerations) || plannedGenerations < 1) {
      throw new RangeError(`The planned generations must be a positive integer, not ${plannedGenerations}.`);
    }
    this.populationSize = populationSize;
    this.space = space;
    const quota = Math.floor(plannedGenerations * populationSize * TEMPLATE_SHARE);
    this.templates = space.templates.slice(0, quota);
    this.openSlots = space.slotSizes.flatMap((size, slot) => (size > 1 ? [slot] : []));
    this.model = new AdditiveModel(space.slotSizes, space.slotVocabularies);
    this.random = state ? this.restore(state) : Random.stream(seed, 'text-search');
  }

  /** @returns the random numbers as they were */
  private restore({ choices, fitness, elites, scalars }: TextSearchState): Random {
    const sizes = this.space.slotSizes;
    const [generations, templatesTried] = scalars;
    const valid =
      scalars.length === 2 + RANDOM_STATE_LENGTH &&
      isCount(generations) &&
      isCount(templatesTried) &&
      fitness.every(Number.isFinite) &&
      choices.length === fitness.length * sizes.length &&
      choices.every((value, i) => isCount(value) && value < sizes[i % sizes.length]) &&
      elites.length === Math.min(ELITES, fitness.length) &&
      elites.every((index) => isCount(index) && index < fitness.length);
    if (!valid) throw new RangeError('The stored state of the text search is not valid.');
    this.generations = generations;
    this.templatesTried = templatesTried;
    const told = Array.from(fitness, (loss, i) => {
      const own = Array.from(choices.subarray(i * sizes.length, (i + 1) * sizes.length));
      return { ...this.candidate(own), fitness: loss };
    });
    for (const candidate of told) this.told.set(candidate.prompt, candidate);
    this.best = Array.from(elites, (index) => told[index]);
    this.learn();
    return Random.fromState(scalars.subarray(2));
  }

  /** Generations told so far. */
  get generation(): number {
    return this.generations;
  }

  /** The best prompt so far; before the first generation is told, the first template of the space. */
  get centre(): string {
    return this.best[0]?.prompt ?? this.space.compose(this.space.templates[0]);
  }

  /** The prompts that the search still compares with, best first: those whose losses {@link tell} takes afresh. */
  get elites(): string[] {
    return this.best.map(({ prompt }) => prompt);
  }

  /**
   * How much the best prompts differ: 1 before there are any, then the mean over the slots of the entropy of their
   * values, relative to that of values which are all different. 0 where all are the same.
   */
  get spread(): number {
    const { best, openSlots } = this;
    if (best.length === 0) return 1;
    const entropies = openSlots.map((slot) => {
      const most = Math.log(Math.min(this.space.slotSizes[slot], best.length));
      return most === 0 ? 0 : entropy(best.map(({ choices }) => choices[slot])) / most;
    });
    return entropies.reduce((sum, value) => sum + value, 0) / Math.max(1, openSlots.length);
  }

  /**
   * Draws a generation.
   * @returns λ prompts, distinct and never asked for before, unless the space has no more of them within reach
   * @throws TrainerStateError if the last generation was not told
   */
  ask(): string[] {
    if (this.pending)
      throw new TrainerStateError('The text search was asked twice; tell it the last generation first.');
    const candidates: Candidate[] = [];
    const prompts = new Set<string>();
    while (candidates.length < this.populationSize) {
      const candidate = this.nextTemplate(prompts) ?? this.newOffspring(prompts);
      candidates.push(candidate);
      prompts.add(candidate.prompt);
    }
    this.pending = candidates;
    return candidates.map(({ prompt }) => prompt);
  }

  /** The next template that was not asked for yet, if any. */
  private nextTemplate(taken: Set<string>): Candidate | null {
    while (this.templatesTried < this.templates.length) {
      const candidate = this.candidate(this.templates[this.templatesTried++]);
      if (this.isNew(candidate, taken)) return candidate;
    }
    return null;
  }

  /** An offspring nobody asked for yet; failing that one that is not in this generation; failing that any. */
  private newOffspring(taken: Set<string>): Candidate {
    let fallback: Candidate | null = null;
    let last: Candidate | null = null;
    for (let draw = 0; draw < DRAWS; draw++) {
      last = this.candidate(this.offspring(Math.floor(draw / DRAWS_PER_FURTHER_CHANGE)));
      if (this.isNew(last, taken)) return last;
      if (!taken.has(last.prompt)) fallback ??= last;
    }
    return fallback ?? (last as Candidate);
  }

  private candidate(choices: Choices): Candidate {
    return { choices, prompt: this.space.compose(choices), fitness: Number.NaN };
  }

  private isNew({ prompt }: Candidate, taken: Set<string>): boolean {
    return !taken.has(prompt) && !this.told.has(prompt);
  }

  /** @param furtherChanges slots that change besides the first and those that chance adds */
  private offspring(furtherChanges: number): Choices {
    const child = [...this.parent()];
    if (this.random.uniform() < CROSSOVER_PROBABILITY) {
      this.parent().forEach((value, slot) => {
        if (this.random.uniform() < 0.5) child[slot] = value;
      });
    }
    let changes = 1 + furtherChanges;
    while (this.random.uniform() < FURTHER_CHANGE_PROBABILITY) changes++;
    for (let change = 0; change < changes && this.openSlots.length > 0; change++) {
      const slot = this.openSlots[this.random.integer(this.openSlots.length)];
      child[slot] = this.model.sample(slot, this.random);
    }
    return child;
  }

  /** The better of two elites drawn at random; sometimes, and as long as there are none, the start template. */
  private parent(): Choices {
    const count = this.best.length;
    if (count === 0 || this.random.uniform() < START_PROBABILITY) return this.space.templates[0];
    return this.best[Math.min(this.random.integer(count), this.random.integer(count))].choices;
  }

  /**
   * Learns from the losses of the last generation; smaller is better.
   * @param fitness [λ], in the order of {@link ask}
   * @param eliteFitness losses of {@link elites}, in their order, where the loss of a prompt changes over time, as it
   *   does with a head that is trained: then losses of different generations cannot be compared
   * @throws NonFiniteFitnessError on NaN or infinity; the generation then still waits to be told
   */
  tell(fitness: ArrayLike<number>, eliteFitness?: ArrayLike<number>): void {
    if (!this.pending)
      throw new TrainerStateError('The text search was told a generation that it had not been asked for.');
    requireLosses(fitness, this.populationSize, 'candidate');
    if (eliteFitness !== undefined) requireLosses(eliteFitness, this.best.length, 'elite');
    if (eliteFitness !== undefined) this.refresh(eliteFitness);
    this.pending.forEach((candidate, i) => {
      candidate.fitness = fitness[i];
      // A prompt that was asked for again keeps its place.
      this.told.set(candidate.prompt, candidate);
    });
    const rivals = new Map([...this.best, ...this.pending].map((candidate) => [candidate.prompt, candidate]));
    // The sort is stable, so ties keep the older prompt first.
    this.best = [...rivals.values()].sort((a, b) => a.fitness - b.fitness).slice(0, ELITES);
    this.learn();
    this.generations++;
    this.pending = null;
  }

  /** Takes the losses of the elites as of now. What they changed by on average, the older losses are taken to have too. */
  private refresh(eliteFitness: ArrayLike<number>): void {
    const changes = this.best.map(({ fitness }, i) => eliteFitness[i] - fitness);
    const drift = changes.reduce((sum, change) => sum + change, 0) / Math.max(1, changes.length);
    for (const candidate of this.told.values()) candidate.fitness += drift;
    this.best.forEach((elite, i) => {
      elite.fitness = eliteFitness[i];
    });
  }

  private learn(): void {
    if (this.told.size === 0) return;
    const told = [...this.told.values()];
    this.model.fit(
      told.map(({ choices }) => choices),
      told.map(({ fitness }) => fitness),
    );
  }

  /** @throws TrainerStateError between ask and tell */
  state(): TextSearchState {
    if (this.pending)
      throw new TrainerStateError('The state of the text search can be taken only between generations.');
    const told = [...this.told.values()];
    return {
      choices: Float64Array.from(told.flatMap(({ choices }) => choices)),
      fitness: Float64Array.from(told, ({ fitness }) => fitness),
      elites: Float64Array.from(this.best, (elite) => told.indexOf(elite)),
      scalars: Float64Array.of(this.generations, this.templatesTried, ...this.random.state()),
    };
  }
}

function entropy(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const shares = [...counts.values()].map((count) => count / values.length);
  return shares.reduce((sum, share) => sum - share * Math.log(share), 0);
}

function requireLosses(losses: ArrayLike<number>, count: number, what: string): void {
  if (losses.length !== count)
    throw new RangeError(`There must be ${count} losses, one per ${what}, not ${losses.length}.`);
  for (let i = 0; i < count; i++) {
    if (!Number.isFinite(losses[i])) throw new NonFiniteFitnessError(`The loss of ${what} ${i} is ${losses[i]}.`);
  }
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
