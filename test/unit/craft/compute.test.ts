import { describe, expect, it, vi } from 'vitest';
import { COMPUTE_NAMES, type ComputeName, chooseCompute, selectCompute } from '../../../src/craft/compute.js';
import { ComputeUnavailableError } from '../../../src/craft/errors.js';
import { tensorFlow } from './tensorflow.js';

describe('selectCompute', () => {
  it.each(['wasm', 'cpu'] as const)('starts %s, which multiplies, without a word on the console', async (name) => {
    const spies = (['log', 'warn', 'error', 'info'] as const).map((method) => vi.spyOn(console, method));
    const { name: chosen, tf } = await tensorFlow(name);
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

  it('computes with its own kernels when nobody says otherwise, and loads no TensorFlow.js for it', async () => {
    expect(await selectCompute('auto')).toEqual({ name: 'simd' });
    expect(await selectCompute('auto', { classCount: 22, hiddenWidth: 256, batch: 256 })).toEqual({ name: 'simd' });
  });

  it('goes back to the backend of whoever computes', async () => {
    const wasm = await tensorFlow('wasm');
    const cpu = await tensorFlow('cpu');
    expect(cpu.tf.getBackend()).toBe('cpu');
    wasm.activate();
    expect(wasm.tf.getBackend()).toBe('wasm');
    expect(wasm.tf.backend()).toBe(wasm.tf.findBackend('wasm'));
    cpu.activate();
    expect(wasm.tf.backend()).toBe(wasm.tf.findBackend('cpu'));
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

describe('chooseCompute', () => {
  const shape = (classCount: number, batch: number) => ({ classCount, hiddenWidth: 256, batch });

  it('takes a GPU for large steps only, and the own kernels otherwise', () => {
    expect(chooseCompute(COMPUTE_NAMES, shape(22, 256))).toBe('simd');
    expect(chooseCompute(COMPUTE_NAMES, shape(1000, 8192))).toBe('tfjs-node-gpu');
    expect(chooseCompute(['webgpu', 'simd', 'cpu'], shape(1000, 8192))).toBe('webgpu');
    expect(chooseCompute(['simd', 'tfjs-node', 'wasm', 'cpu'], shape(1000, 8192))).toBe('simd');
  });

  it('never goes back to a processor as steps grow', () => {
    const choices = [1, 16, 256, 1024, 4096, 8192].map((batch) => chooseCompute(COMPUTE_NAMES, shape(100, batch)));
    const first = choices.indexOf('tfjs-node-gpu');
    expect(first).toBeGreaterThan(0);
    expect(new Set(choices.slice(first))).toEqual(new Set(['tfjs-node-gpu']));
  });

  it('has nothing to offer where there is nothing worth using', () => {
    expect(chooseCompute(['webgpu'], shape(2, 8))).toBeUndefined();
  });
});
