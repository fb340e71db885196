import type { EconomyHead } from './economy-head.js';
import type { HeadInputs } from './head-inputs.js';
import type { KernelSpace, KernelTerm } from './kernel-head.js';
import { noHead } from './linear-head.js';

/** Heads that are added up, in double precision. */
export class HeadSum {
  private readonly shares: Float64Array;
  private readonly weight: Float64Array;
  private readonly bias: Float64Array;
  private readonly spaces: KernelSpace[] = [];
  /** Where a space is, by its name. */
  private readonly known = new Map<string, number>();
  private readonly terms: KernelTerm[] = [];

  constructor(
    private readonly inputs: HeadInputs,
    classCount: number,
  ) {
    const { weight } = noHead(inputs, classCount);
    this.shares = new Float64Array(inputs.transforms);
    this.weight = new Float64Array(weight.length);
    this.bias = new Float64Array(classCount);
  }

  /** @param shares of the class logits of the first transforms */
  addShares(shares: ArrayLike<number>): void {
    for (let t = 0; t < shares.length; t++) this.shares[t] += shares[t];
  }

  /** @param at where the rows of inputs begin, a place in [T·L, C] */
  addWeight(at: number, rows: Float64Array): void {
    for (let i = 0; i < rows.length; i++) this.weight[at + i] += rows[i];
  }

  /** @param bias [C] */
  addBias(bias: Float64Array): void {
    for (let c = 0; c < bias.length; c++) this.bias[c] += bias[c];
  }

  /** @returns the number of the space of that name, which terms share */
  space(name: string, make: () => KernelSpace): number {
    const known = this.known.get(name);
    if (known !== undefined) return known;
    this.known.set(name, this.spaces.length);
    return this.spaces.push(make()) - 1;
  }

  addTerm(term: KernelTerm): void {
    this.terms.push(term);
  }

  /** @returns a linear head where there are no terms */
  toHead(): EconomyHead {
    const { inputs, spaces, terms } = this;
    const single = (values: Float64Array) => Float32Array.from(values);
    const linear = { inputs, shares: single(this.shares), weight: single(this.weight), bias: single(this.bias) };
    return terms.length === 0 ? { kind: 'linear', ...linear } : { kind: 'kernel', ...linear, spaces, terms };
  }
}
