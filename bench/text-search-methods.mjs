// The methods that TextSearch is compared with, behind the same ask, tell and centre. Each tries the templates first,
// never asks for a prompt twice, and has the best prompt so far as its centre.
import { Random } from '../dist/craft/random.js';

const DRAWS = 100;

class Method {
  constructor({ space, populationSize, seed }) {
    this.space = space;
    this.populationSize = populationSize;
    this.random = Random.stream(seed, 'bench');
    this.waiting = [...space.templates];
    this.asked = new Set();
    /** Best first. */
    this.told = [];
  }

  get centre() {
    return this.told[0].prompt;
  }

  ask() {
    this.pending = Array.from({ length: this.populationSize }, () => this.next());
    return this.pending.map(({ prompt }) => prompt);
  }

  next() {
    let choices = this.waiting.shift() ?? this.draw();
    let prompt = this.space.compose(choices);
    for (let draw = 0; draw < DRAWS && this.asked.has(prompt); draw++) {
      choices = this.draw();
      prompt = this.space.compose(choices);
    }
    this.asked.add(prompt);
    return { choices, prompt };
  }

  tell(fitness) {
    const ranked = this.pending.map((candidate, i) => ({ ...candidate, fitness: fitness[i] }));
    ranked.sort((a, b) => a.fitness - b.fitness);
    this.told = [...this.told, ...ranked].sort((a, b) => a.fitness - b.fitness);
    this.learn(ranked);
  }

  uniform() {
    return this.space.slotSizes.map((size) => this.random.integer(size));
  }
}

export class RandomSearch extends Method {
  draw() {
    return this.uniform();
  }

  learn() {}
}

class DistributionMethod extends Method {
  constructor(options) {
    super(options);
    this.probabilities = this.space.slotSizes.map((size) => new Float64Array(size).fill(1 / size));
  }

  draw() {
    return this.probabilities.map((probabilities) => {
      let remaining = this.random.uniform();
      const value = probabilities.findIndex((probability) => {
        remaining -= probability;
        return remaining < 0;
      });
      return value === -1 ? probabilities.length - 1 : value;
    });
  }
}

/** PBIL, that is the cross-entropy method with smoothing: moves towards the frequencies among the best quarter. */
export class CrossEntropyMethod extends DistributionMethod {
  learn(ranked) {
    const rate = 0.5;
    const margin = 0.1;
    const best = ranked.slice(0, Math.floor(ranked.length / 4));
    this.probabilities.forEach((probabilities, slot) => {
      for (let value = 0; value < probabilities.length; value++) probabilities[value] *= 1 - rate;
      for (const { choices } of best) probabilities[choices[slot]] += rate / best.length;
      for (let value = 0; value < probabilities.length; value++) {
        probabilities[value] = (1 - margin) * probabilities[value] + margin / probabilities.length;
      }
    });
  }
}

/**
 * The categorical part of CatCMA (Hamano et al., GECCO 2024, arXiv 2405.09962): the natural gradient with an adaptive
 * trust region (Akimoto et al., ICML 2019) and a margin below which no probability falls.
 */
export class CatCma extends DistributionMethod {
  constructor(options) {
    super(options);
    const lambda = this.populationSize;
    const raw = Array.from({ length: lambda }, (_, rank) => Math.max(0, Math.log((lambda + 1) / 2 / (rank + 1))));
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    this.weights = raw.map((weight) => weight / total);
    const open = this.space.slotSizes.filter((size) => size > 1);
    this.margins = this.space.slotSizes.map((size) => (size > 1 ? (1 - 0.73 ** (1 / open.length)) / (size - 1) : 1));
    this.dimension = open.reduce((sum, size) => sum + size - 1, 0);
    this.path = new Float64Array(this.dimension);
    this.pathWeight = 0;
    this.slowness = 1;
  }

  learn(ranked) {
    const gradient = this.probabilities.map((probabilities) => probabilities.map((probability) => -probability));
    ranked.forEach(({ choices }, rank) => {
      choices.forEach((value, slot) => {
        gradient[slot][value] += this.weights[rank];
      });
    });
    const scaled = this.scaledByFisher(gradient);
    const norm = Math.hypot(...scaled) + 1e-30;
    const step = 1 / this.slowness;
    this.probabilities.forEach((probabilities, slot) => {
      for (let value = 0; value < probabilities.length; value++) {
        probabilities[value] += (step / norm) * gradient[slot][value];
      }
      keepMargin(probabilities, this.margins[slot]);
    });
    this.adapt(scaled, norm, step);
  }

  /** The gradient by the square root of the Fisher information matrix. */
  scaledByFisher(gradient) {
    return gradient.flatMap((slotGradient, slot) => {
      const last = slotGradient.length - 1;
      const probabilities = this.probabilities[slot];
      const sum = slotGradient.subarray(0, last).reduce((total, value) => total + value, 0);
      const share = sum / (probabilities[last] + Math.sqrt(probabilities[last]));
      return Array.from({ length: last }, (_, value) => {
        const root = Math.sqrt(probabilities[value]);
        return slotGradient[value] / root + root * share;
      });
    });
  }

  adapt(scaled, norm, step) {
    const rate = step / Math.sqrt(this.dimension);
    let square = 0;
    for (let i = 0; i < this.dimension; i++) {
      this.path[i] = (1 - rate) * this.path[i] + (Math.sqrt(rate * (2 - rate)) * scaled[i]) / norm;
      square += this.path[i] ** 2;
    }
    this.pathWeight = (1 - rate) ** 2 * this.pathWeight + rate * (2 - rate);
    this.slowness *= Math.exp(rate * (this.pathWeight - square / 1.5));
  }
}

function keepMargin(probabilities, margin) {
  let sum = 0;
  for (let value = 0; value < probabilities.length; value++) {
    probabilities[value] = Math.max(probabilities[value], margin);
    sum += probabilities[value];
  }
  const spare = sum - margin * probabilities.length;
  if (spare <= 0) return;
  for (let value = 0; value < probabilities.length; value++) {
    probabilities[value] += ((1 - sum) / spare) * (probabilities[value] - margin);
  }
}

/** An elitist genetic algorithm: what TextSearch is without its model of the losses. */
export class GeneticAlgorithm extends Method {
  draw() {
    if (this.told.length === 0) return this.uniform();
    const child = [...this.parent()];
    if (this.random.uniform() < 0.5) {
      this.parent().forEach((value, slot) => {
        if (this.random.uniform() < 0.5) child[slot] = value;
      });
    }
    do {
      const slot = this.random.integer(child.length);
      child[slot] = this.random.integer(this.space.slotSizes[slot]);
    } while (this.random.uniform() < 0.3);
    return child;
  }

  parent() {
    const count = Math.min(10, this.told.length);
    return this.told[Math.min(this.random.integer(count), this.random.integer(count))].choices;
  }

  learn() {}
}
