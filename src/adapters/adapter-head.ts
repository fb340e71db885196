import type { EconomyHead } from '../craft/economy/economy-head.js';
import { type HeadInputs, inputWidthOf } from '../craft/economy/head-inputs.js';
import type { KernelHead } from '../craft/economy/kernel-head.js';
import type { LinearHead } from '../craft/economy/linear-head.js';
import { HEAD_PARAMETERS, type HeadWeights, headShapes } from '../craft/head-weights.js';
import type { SafetensorsTensor } from '../formats/safetensors.js';

/** The kinds of refinement heads as tensors of an adapter file. */

/** Reads a float32 tensor of finite numbers, or refuses the file. */
export type ReadTensor = (name: string, rank: number) => { data: Float32Array; shape: number[] };
export type Refuse = (message: string) => never;

/** Of a kernel head, what its tensors are about: of each space its transforms, of each term its spaces. */
export interface KernelLayout {
  spaces: number[][];
  terms: number[][];
}

/** That a space may be in: each takes its landmarks once more when the head is prepared. */
const MOST_TERMS = 4;

export function headTensors(head: HeadWeights | EconomyHead, classCount: number): Record<string, SafetensorsTensor> {
  if (!readsAnswers(head)) {
    const shapes = headShapes(classCount, head.b1.length);
    return Object.fromEntries(
      HEAD_PARAMETERS.map((name) => [`head.${name}`, float32(shapes[name], head[name])] as const),
    );
  }
  const tensors: Record<string, SafetensorsTensor> = {
    'head.shares': float32([head.shares.length], head.shares),
    'head.weight': float32([head.weight.length / classCount, classCount], head.weight),
    'head.bias': float32([classCount], head.bias),
  };
  return head.kind === 'linear' ? tensors : { ...tensors, ...kernelTensors(head, classCount) };
}

function kernelTensors({ inputs, spaces, terms }: KernelHead, classCount: number): Record<string, SafetensorsTensor> {
  const tensors: Record<string, SafetensorsTensor> = {};
  const width = inputWidthOf(inputs, classCount);
  for (const [index, { mean, axes, landmarks }] of spaces.entries()) {
    const count = axes.length / width;
    tensors[`head.space.${index}.mean`] = float32([width], mean);
    tensors[`head.space.${index}.axes`] = float32([width, count], axes);
    tensors[`head.space.${index}.landmarks`] = float32([landmarks.length / count, count], landmarks);
  }
  for (const [index, { kernels, coefficients }] of terms.entries()) {
    const count = coefficients.length / classCount;
    tensors[`head.term.${index}.coefficients`] = float32([count, classCount], coefficients);
    for (const { space, scale } of kernels) {
      tensors[`head.term.${index}.scale.${space}`] = float32([scale.length], scale);
    }
  }
  return tensors;
}

function float32(shape: number[], data: Float32Array): SafetensorsTensor {
  return { dtype: 'F32', shape, data };
}

export function layoutOf({ spaces, terms }: KernelHead): KernelLayout {
  return {
    spaces: spaces.map(({ transforms }) => transforms),
    terms: terms.map(({ kernels }) => kernels.map(({ space }) => space)),
  };
}

/** Whether a head reads all that a black box answers, and not only its class logits. */
export function readsAnswers(head: HeadWeights | EconomyHead): head is EconomyHead {
  return 'kind' in head;
}

export function readHead(read: ReadTensor, refuse: Refuse, classCount: number): HeadWeights {
  const shapes = headShapes(classCount, read('head.b1', 1).shape[0]);
  const tensors = HEAD_PARAMETERS.map((parameter) => {
    return [parameter, readOfShape(read, refuse, `head.${parameter}`, shapes[parameter])];
  });
  return Object.fromEntries(tensors) as unknown as HeadWeights;
}

export function readLinearHead(read: ReadTensor, refuse: Refuse, classCount: number, inputs: HeadInputs): LinearHead {
  const ofShape = (name: string, shape: number[]) => readOfShape(read, refuse, name, shape);
  return {
    kind: 'linear',
    inputs,
    shares: ofShape('head.shares', [inputs.transforms]),
    weight: ofShape('head.weight', [inputs.transforms * inputWidthOf(inputs, classCount), classCount]),
    bias: ofShape('head.bias', [classCount]),
  };
}

export function readKernelHead(
  read: ReadTensor,
  refuse: Refuse,
  classCount: number,
  inputs: HeadInputs,
  layout: KernelLayout,
): KernelHead {
  const ofShape = (name: string, shape: number[]) => readOfShape(read, refuse, name, shape);
  const width = inputWidthOf(inputs, classCount);
  const sizes: { axes: number; landmarks: number }[] = [];
  const spaces = layout.spaces.map((transforms, index) => {
    if (transforms.some((transform) => transform >= inputs.transforms)) {
      refuse(`Space ${index} has unknown transforms.`);
    }
    const name = `head.space.${index}`;
    const landmarks = read(`${name}.landmarks`, 2);
    const [count, axes] = landmarks.shape;
    // A tensor without numbers may claim any size.
    if (landmarks.data.length === 0 || width === 0) refuse(`Space ${index} is empty.`);
    // Inputs have no more principal axes than there are of them; what is computed of an image has memory for so many.
    if (axes > width) refuse(`Space ${index} has ${axes} axes of ${width} inputs.`);
    sizes.push({ axes, landmarks: count });
    return {
      transforms,
      mean: ofShape(`${name}.mean`, [width]),
      axes: ofShape(`${name}.axes`, [width, axes]),
      landmarks: landmarks.data,
    };
  });
  const uses = layout.terms.flat();
  const worn = layout.spaces.findIndex((_, index) => uses.filter((space) => space === index).length > MOST_TERMS);
  if (worn >= 0) refuse(`Space ${worn} is in more than ${MOST_TERMS} terms.`);
  const terms = layout.terms.map((of, index) => {
    const name = `head.term.${index}`;
    const landmarks = sizes[of[0]]?.landmarks;
    const isOfOneSize = landmarks !== undefined && of.every((space) => sizes[space]?.landmarks === landmarks);
    if (!isOfOneSize || new Set(of).size < of.length) refuse(`Term ${index} does not fit its spaces.`);
    return {
      kernels: of.map((space) => ({ space, scale: ofShape(`${name}.scale.${space}`, [sizes[space].axes]) })),
      coefficients: ofShape(`${name}.coefficients`, [landmarks, classCount]),
    };
  });
  return { ...readLinearHead(read, refuse, classCount, inputs), kind: 'kernel', spaces, terms };
}

function readOfShape(read: ReadTensor, refuse: Refuse, name: string, expected: number[]): Float32Array {
  const { data, shape } = read(name, expected.length);
  if (shape.join() !== expected.join()) refuse(`Tensor "${name}" has shape [${shape}], not [${expected}].`);
  return data;
}
