import { dotProduct } from './dot.js';

/** Pairs of steps and changes of the gradient that are remembered. */
const MEMORY = 8;
/** Sufficient decrease: c1 of the Armijo condition. */
const DECREASE = 1e-4;
/** Of the first step, whose length is a guess; of those after it: shorter ones are down to rounding. */
const SHORTEST_STEP = { first: 1e-14, later: 1e-3 };

/** @param gradient is written, [n] @returns the value at the point */
export type Objective = (point: Float64Array, gradient: Float64Array) => number | Promise<number>;

/**
 * Minimises a smooth convex function by L-BFGS with backtracking (Nocedal and Wright, Numerical Optimization, algorithm 7.5).
 * @param start [n]; becomes the minimum
 * @param tolerance stops where the gradient is no longer than this, by its Euclidean norm
 * @returns iterations taken
 */
export async function minimise(
  objective: Objective,
  start: Float64Array,
  { tolerance, mostIterations }: { tolerance: number; mostIterations: number },
): Promise<number> {
  const n = start.length;
  const history: { step: Float64Array; change: Float64Array; rho: number }[] = [];
  let gradient = new Float64Array(n);
  let nextGradient = new Float64Array(n);
  const direction = new Float64Array(n);
  const next = new Float64Array(n);
  let value = await objective(start, gradient);
  for (let iteration = 0; iteration < mostIterations; iteration++) {
    if (Math.sqrt(dot(gradient, gradient)) <= tolerance) return iteration;
    descend(direction, gradient, history);
    let slope = dot(direction, gradient);
    if (!(slope < 0)) {
      history.length = 0;
      descend(direction, gradient, history);
      slope = dot(direction, gradient);
    }
    const shortest = history.length === 0 ? SHORTEST_STEP.first : SHORTEST_STEP.later;
    let nextValue = Number.NaN;
    for (let length = 1; length >= shortest; ) {
      for (let i = 0; i < n; i++) next[i] = start[i] + length * direction[i];
      nextValue = await objective(next, nextGradient);
      if (nextValue <= value + DECREASE * length * slope) break;
      // To where a parabola through what is known has its minimum.
      const shorter = (-slope * length) / (2 * ((nextValue - value) / length - slope));
      length *= shorter > 0.1 ? Math.min(0.5, shorter) : 0.1;
    }
    // Nothing is lower along the way: this is the minimum, as far as the arithmetic can tell.
    if (!(nextValue <= value)) return iteration;
    remember(history, { start, next, gradient, nextGradient });
    start.set(next);
    [gradient, nextGradient] = [nextGradient, gradient];
    value = nextValue;
  }
  return mostIterations;
}

function remember(
  history: { step: Float64Array; change: Float64Array; rho: number }[],
  { start, next, gradient, nextGradient }: Record<'start' | 'next' | 'gradient' | 'nextGradient', Float64Array>,
): void {
  const oldest = history.length === MEMORY ? history.shift() : undefined;
  const step = oldest?.step ?? new Float64Array(start.length);
  const change = oldest?.change ?? new Float64Array(start.length);
  for (let i = 0; i < start.length; i++) {
    step[i] = next[i] - start[i];
    change[i] = nextGradient[i] - gradient[i];
  }
  const curvature = dot(step, change);
  if (curvature > 1e-12 * dot(change, change)) history.push({ step, change, rho: 1 / curvature });
}

/** The two loops: direction = -H·gradient. */
function descend(
  direction: Float64Array,
  gradient: Float64Array,
  history: { step: Float64Array; change: Float64Array; rho: number }[],
): void {
  for (let i = 0; i < direction.length; i++) direction[i] = -gradient[i];
  const alphas: number[] = [];
  for (const { step, change, rho } of [...history].reverse()) {
    const alpha = rho * dot(step, direction);
    alphas.push(alpha);
    add(direction, change, -alpha);
  }
  const last = history.at(-1);
  if (last) {
    const scale = 1 / (last.rho * dot(last.change, last.change));
    for (let i = 0; i < direction.length; i++) direction[i] *= scale;
  }
  for (const { step, change, rho } of history) {
    const beta = rho * dot(change, direction);
    add(direction, step, (alphas.pop() as number) - beta);
  }
}

function dot(a: Float64Array, b: Float64Array): number {
  return dotProduct(a, 0, b, 0, a.length);
}

function add(to: Float64Array, values: Float64Array, factor: number): void {
  for (let i = 0; i < to.length; i++) to[i] += factor * values[i];
}
