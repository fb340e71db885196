import { describe, expect, it, vi } from 'vitest';
import { type ComputeName, selectCompute } from '../../../src/craft/compute.js';
import { ComputeUnavailableError } from '../../../src/craft/errors.js';

describe('selectCompute', () => {
  it.each(['wasm', 'cpu'] as const)('starts %s, which multiplies, without a word on the console', async (name) => {
    const spies = (['log', 'warn', 'error', 'info'] as const).map((method) => vi.spyOn(console, method));
    const { name: chosen, tf } = await selectCompute(name);
    expect(chosen).toBe(name);
    expect(tf.getBackend()).toBe(name);
    const product = tf.tidy(() => tf.matMul(tf.tensor2d([[1, 2]]), tf.tensor2d([[3], [4]])));
    expect([...(await product.data())]).toEqual([11]);
    product.dispose();
    for (const spy of spies) {
      expect(spy).not.toHaveBeenCalled();
      spy.mockRestore();
    }
  });

  it('finds something by itself', async () => {
    const { tf } = await selectCompute('auto');
    expect(tf.getBackend()).toBeTruthy();
  });

  it('says how to get a backend that is not there', async () => {
    const attempt = selectCompute('tfjs-node-gpu');
    await expect(attempt).rejects.toThrow(ComputeUnavailableError);
    await expect(attempt).rejects.toThrow(/tfjs-node-gpu.*not available.*Install @tensorflow\/tfjs-node-gpu/);
  });

  it('rejects a name it does not know', async () => {
    await expect(selectCompute('abacus' as ComputeName)).rejects.toThrow(/no compute backend "abacus".*wasm/);
    await expect(selectCompute('toString' as ComputeName)).rejects.toThrow(/no compute backend/);
  });
});
