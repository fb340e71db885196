import { type HeadInputs, inputWidthOf, type LinearHead } from '../craft/economy/linear-head.js';
import { HEAD_PARAMETERS, type HeadWeights, headShapes } from '../craft/head-weights.js';
import type { SafetensorsTensor } from '../formats/safetensors.js';

/** The two kinds of refinement heads as tensors of an adapter file. */

/** Reads a float32 tensor of finite numbers, or refuses the file. */
export type ReadTensor = (name: string, rank: number) => { data: Float32Array; shape: number[] };
export type Refuse = (message: string) => never;

export function headTensors(head: HeadWeights | LinearHead, classCount: number): Record<string, SafetensorsTensor> {
  if (isLinear(head)) {
    const shape = [head.weight.length / classCount, classCount];
    return {
      'head.shares': { dtype: 'F32', shape: [head.shares.length], data: head.shares },
      'head.weight': { dtype: 'F32', shape, data: head.weight },
      'head.bias': { dtype: 'F32', shape: [classCount], data: head.bias },
    };
  }
  const shapes = headShapes(classCount, head.b1.length);
  return Object.fromEntries(
    HEAD_PARAMETERS.map((name) => [`head.${name}`, { dtype: 'F32', shape: shapes[name], data: head[name] }]),
  );
}

export function isLinear(head: HeadWeights | LinearHead): head is LinearHead {
  return 'weight' in head;
}

export function readHead(read: ReadTensor, refuse: Refuse, classCount: number): HeadWeights {
  const shapes = headShapes(classCount, read('head.b1', 1).shape[0]);
  const tensors = HEAD_PARAMETERS.map((parameter) => {
    const { data, shape } = read(`head.${parameter}`, shapes[parameter].length);
    requireShape(refuse, `head.${parameter}`, shape, shapes[parameter]);
    return [parameter, data];
  });
  return Object.fromEntries(tensors) as unknown as HeadWeights;
}

export function readLinearHead(read: ReadTensor, refuse: Refuse, classCount: number, inputs: HeadInputs): LinearHead {
  const weight = read('head.weight', 2);
  const bias = read('head.bias', 1);
  const shares = read('head.shares', 1);
  requireShape(refuse, 'head.shares', shares.shape, [inputs.transforms]);
  requireShape(refuse, 'head.weight', weight.shape, [inputs.transforms * inputWidthOf(inputs, classCount), classCount]);
  requireShape(refuse, 'head.bias', bias.shape, [classCount]);
  return { kind: 'linear', inputs, shares: shares.data, weight: weight.data, bias: bias.data };
}

function requireShape(refuse: Refuse, name: string, shape: number[], expected: number[]): void {
  if (shape.join() !== expected.join()) refuse(`Tensor "${name}" has shape [${shape}], not [${expected}].`);
}
