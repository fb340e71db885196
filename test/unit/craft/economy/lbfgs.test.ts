import { describe, expect, it } from 'vitest';
import { minimise, type Objective } from '../../../../src/craft/economy/lbfgs.js';

/** Σ a_i/2·(x_i - m_i)² */
function quadratic(curvatures: number[], minimum: number[]): Objective {
  return (point, gradient) => {
    let value = 0;
    for (let i = 0; i < point.length; i++) {
      const off = point[i] - minimum[i];
      value += (curvatures[i] / 2) * off * off;
      gradient[i] = curvatures[i] * off;
    }
    return value;
  };
}

const SETTINGS = { tolerance: 1e-9, mostIterations: 500 };

describe('minimise', () => {
  it.each([
    ['a round bowl', [1, 1, 1]],
    ['a valley of condition 1e6', [1e3, 1, 1e-3]],
    ['a steep wall', [1e8, 1e8, 1e8]],
    ['a flat plain', [1e-5, 1e-5, 1e-5]],
  ])('finds the minimum of %s', async (_, curvatures) => {
    const point = Float64Array.of(5, -3, 100);
    await minimise(quadratic(curvatures, [1, 2, 3]), point, SETTINGS);
    for (const [i, at] of [1, 2, 3].entries()) {
      expect(Math.abs(curvatures[i] * (point[i] - at))).toBeLessThanOrEqual(SETTINGS.tolerance);
    }
  });

  it('finds the minimum of log-sum-exp, whose closed form is known', async () => {
    // logsumexp(x) - p·x is least where softmax(x) = p.
    const p = [0.7, 0.2, 0.1];
    const point = new Float64Array(3);
    const objective: Objective = (x, gradient) => {
      const exponentials = [...x].map(Math.exp);
      const sum = exponentials.reduce((a, b) => a + b);
      for (let c = 0; c < 3; c++) gradient[c] = exponentials[c] / sum - p[c];
      return Math.log(sum) - x.reduce((all, value, c) => all + p[c] * value, 0);
    };
    await minimise(objective, point, SETTINGS);
    expect(point[0] - point[1]).toBeCloseTo(Math.log(0.7 / 0.2), 7);
    expect(point[1] - point[2]).toBeCloseTo(Math.log(2), 7);
  });

  it('takes no step from the minimum', async () => {
    const point = Float64Array.of(1, 2);
    expect(await minimise(quadratic([3, 4], [1, 2]), point, SETTINGS)).toBe(0);
    expect([...point]).toEqual([1, 2]);
  });

  it('stops after as many iterations as it may take', async () => {
    const point = new Float64Array(20).fill(7);
    const curvatures = Array.from({ length: 20 }, (_, i) => 2 ** i);
    const settings = { tolerance: 0, mostIterations: 3 };
    expect(await minimise(quadratic(curvatures, new Array(20).fill(0)), point, settings)).toBe(3);
  });

  it('never goes up, and ends where rounding leaves nothing lower', async () => {
    const values: number[] = [];
    const noisy: Objective = (point, gradient) => {
      const value = Math.fround(quadratic([1, 50], [0.3, -0.3])(point, gradient) as number);
      values.push(value);
      return value;
    };
    const point = Float64Array.of(10, 10);
    await minimise(noisy, point, { tolerance: 0, mostIterations: 100 });
    expect(Math.min(...values)).toBe(noisy(point, new Float64Array(2)));
    expect(values.length).toBeLessThan(100);
  });

  it('waits for an objective that is computed elsewhere', async () => {
    const elsewhere: Objective = async (point, gradient) => quadratic([2], [4])(point, gradient);
    const point = new Float64Array(1);
    await minimise(elsewhere, point, SETTINGS);
    expect(point[0]).toBeCloseTo(4, 9);
  });
});
