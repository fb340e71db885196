import { createHash } from 'node:crypto';

/** Number of entries in {@link RandomState}. */
export const RANDOM_STATE_LENGTH = 6;

/** Four 32-bit words, whether a spare normal is held (0 or 1), and the spare itself. */
export type RandomState = number[];

/**
 * A seeded generator whose whole state is a small array, so that a resumed run draws exactly what an unbroken one would.
 *
 * xoshiro128** 1.1 (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021): 32-bit operations
 * only, period 2^128 - 1, which is enough for any population of this project.
 */
export class Random {
  private constructor(
    private a: number,
    private b: number,
    private c: number,
    private d: number,
    private hasSpare: boolean,
    private spare: number,
  ) {}

  /**
   * An independent stream for each (seed, label). Labels name purposes, so that drawing more numbers for one purpose
   * never changes those of another.
   * @param seed a safe integer
   */
  static stream(seed: number, label: string): Random {
    if (!Number.isSafeInteger(seed)) {
      throw new RangeError(`A seed must be an integer between ±(2^53 - 1), not ${seed}.`);
    }
    const digest = createHash('sha256').update(`${seed}\n${label}`).digest();
    const word = (index: number) => digest.readUInt32LE(index * 4);
    // The all-zero state is the one fixed point of the generator.
    return new Random(word(0) | 1, word(1) | 0, word(2) | 0, word(3) | 0, false, 0);
  }

  /** @throws RangeError if this is not a state that {@link state} returned. */
  static fromState(state: ArrayLike<number>): Random {
    const words = Array.from({ length: 4 }, (_, index) => state[index]);
    const valid =
      state.length === RANDOM_STATE_LENGTH &&
      words.every((word) => Number.isInteger(word) && word >= 0 && word <= 0xffffffff) &&
      words.some((word) => word !== 0) &&
      (state[4] === 0 || state[4] === 1) &&
      Number.isFinite(state[5]);
    if (!valid) throw new RangeError('This is not the state of a random number generator.');
    const [a, b, c, d] = words.map((word) => word | 0);
    return new Random(a, b, c, d, state[4] === 1, state[5]);
  }

  state(): RandomState {
    return [this.a >>> 0, this.b >>> 0, this.c >>> 0, this.d >>> 0, this.hasSpare ? 1 : 0, this.spare];
  }

  /** A uniform 32-bit unsigned integer. */
  uint32(): number {
    const scrambled = Math.imul(this.b, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9);
    const shifted = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= shifted;
    this.d = (this.d << 11) | (this.d >>> 21);
    return result >>> 0;
  }

  /** Uniform in [0, 1) with 53 random bits. */
  uniform(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** Standard normal, by Marsaglia's polar method. It makes two at a time; the second one is kept as the spare. */
  normal(): number {
    if (this.hasSpare) {
      this.hasSpare = false;
      const spare = this.spare;
      this.spare = 0;
      return spare;
    }
    for (;;) {
      const u = 2 * this.uniform() - 1;
      const v = 2 * this.uniform() - 1;
      const square = u * u + v * v;
      if (square > 0 && square < 1) {
        const factor = Math.sqrt((-2 * Math.log(square)) / square);
        this.spare = v * factor;
        this.hasSpare = true;
        return u * factor;
      }
    }
  }

  /** Fills `target` with independent normals of mean 0 and standard deviation `deviation`. */
  fillNormal<T extends Float32Array | Float64Array>(target: T, deviation = 1): T {
    for (let i = 0; i < target.length; i++) target[i] = deviation * this.normal();
    return target;
  }

  /** Fills `target` with independent uniforms in [-limit, limit). */
  fillUniform<T extends Float32Array | Float64Array>(target: T, limit: number): T {
    for (let i = 0; i < target.length; i++) target[i] = limit * (2 * this.uniform() - 1);
    return target;
  }

  /** A uniform integer in [0, limit), without modulo bias. `limit` is at most 2^32. */
  integer(limit: number): number {
    const rejected = 4294967296 % limit;
    for (;;) {
      const value = this.uint32();
      if (value < 4294967296 - rejected) return value % limit;
    }
  }

  /** The numbers 0 … length - 1 in random order (Fisher and Yates). */
  permutation(length: number): Uint32Array {
    const order = Uint32Array.from({ length }, (_, index) => index);
    for (let i = length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      const kept = order[i];
      order[i] = order[j];
      order[j] = kept;
    }
    return order;
  }
}
