import type { Random } from './random.js';

/** Pseudo-observations of effect 0 that every value starts with: the ridge penalty. */
const RIDGE = 3;
/** Sweeps over all effects per fit; each is a round of coordinate descent on the ridge regression. */
const SWEEPS = 8;
/** Probability that a value is drawn uniformly whatever was learned, so that none dies out. */
const UNIFORM_SHARE = 0.3;
/** Losses farther above the median than this multiple of the distance from the best to the median count as that far. */
const CLIP = 2;

/** The values of slots as one table of effects. */
interface Block {
  slots: readonly number[];
  effects: Float64Array;
  counts: Float64Array;
}

/**
 * A guess at the loss of a prompt from its slots: a constant, an effect of each slot's value, and an effect of each
 * value of a vocabulary wherever it stands, all by ridge regression on the losses told so far. It only ranks the values
 * that a slot might take, so its errors cost time and never the result.
 */
export class AdditiveModel {
  private readonly blocks: Block[];
  /** Probabilities of the values of each slot; empty before the first fit. */
  private preferences: Float64Array[] = [];

  /**
   * @param sizes values per slot
   * @param vocabularies a number per slot; slots of the same number have the same values
   */
  constructor(
    private readonly sizes: readonly number[],
    vocabularies: readonly number[],
  ) {
    const slots = sizes.map((_, slot) => slot);
    const shared = [...new Set(vocabularies)]
      .map((vocabulary) => slots.filter((slot) => vocabularies[slot] === vocabulary))
      .filter(({ length }) => length > 1);
    this.blocks = [...slots.map((slot) => [slot]), ...shared].map((members) => ({
      slots: members,
      effects: new Float64Array(sizes[members[0]]),
      counts: new Float64Array(sizes[members[0]]),
    }));
  }

  /**
   * @param rows choices of each prompt, [n][slots], n at least 1
   * @param losses [n], finite
   */
  fit(rows: readonly (readonly number[])[], losses: readonly number[]): void {
    const residuals = clippedLosses(losses);
    for (const { slots, effects, counts } of this.blocks) {
      effects.fill(0);
      counts.fill(0);
      for (const row of rows) for (const slot of slots) counts[row[slot]]++;
    }
    for (let sweep = 0; sweep < SWEEPS; sweep++) {
      for (const block of this.blocks) refit(block, rows, residuals);
    }
    this.preferences = this.sizes.map((_, slot) => this.preferencesOf(slot));
  }

  /** Softmax of the negative effects of a slot's values in units of their standard deviation. */
  private preferencesOf(slot: number): Float64Array {
    const effects = new Float64Array(this.sizes[slot]);
    for (const block of this.blocks) {
      if (!block.slots.includes(slot)) continue;
      for (let value = 0; value < effects.length; value++) effects[value] += block.effects[value];
    }
    const deviation = Math.sqrt(effects.reduce((sum, effect) => sum + effect * effect, 0) / effects.length);
    const least = effects.reduce((smallest, effect) => Math.min(smallest, effect), Infinity);
    const weights = effects.map((effect) => (deviation > 0 ? Math.exp((least - effect) / deviation) : 1));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return weights.map((weight) => weight / total);
  }

  /** Draws a value for one slot, preferring those of low loss. */
  sample(slot: number, random: Random): number {
    const preferences = this.preferences[slot];
    if (preferences === undefined || random.uniform() < UNIFORM_SHARE) return random.integer(this.sizes[slot]);
    let remaining = random.uniform();
    const last = preferences.length - 1;
    for (let value = 0; value < last; value++) {
      remaining -= preferences[value];
      if (remaining < 0) return value;
    }
    return last;
  }
}

/** Losses relative to their median, with the bad ones limited: how bad a bad prompt is says nothing about good ones. */
function clippedLosses(losses: readonly number[]): Float64Array {
  const sorted = losses.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  const limit = CLIP * (median - sorted[0]);
  return Float64Array.from(losses, (loss) => Math.min(loss - median, limit));
}

/** Solves for the effects of one block with the others held, and keeps `residuals` up to date. */
function refit({ slots, effects, counts }: Block, rows: readonly (readonly number[])[], residuals: Float64Array): void {
  const sums = new Float64Array(effects.length);
  rows.forEach((row, i) => {
    for (const slot of slots) sums[row[slot]] += residuals[i] + effects[row[slot]];
  });
  const changes = sums.map((sum, value) => sum / (counts[value] + RIDGE) - effects[value]);
  // A block of several slots meets a prompt several times; moving by the whole change would overshoot.
  const step = 1 / slots.length;
  for (let value = 0; value < effects.length; value++) effects[value] += step * changes[value];
  rows.forEach((row, i) => {
    for (const slot of slots) residuals[i] -= step * changes[row[slot]];
  });
}
