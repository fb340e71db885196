import type { AdapterDescription } from '../../../src/adapters/adapter-file.js';
import type { EconomyHead } from '../../../src/craft/economy/economy-head.js';
import { type HeadInputs, inputWidthOf } from '../../../src/craft/economy/head-inputs.js';
import type { KernelHead } from '../../../src/craft/economy/kernel-head.js';
import { type LinearHead, noHead } from '../../../src/craft/economy/linear-head.js';
import { Random } from '../../../src/craft/random.js';
import type { AdapterWeights } from '../../../src/craft/trainer-interface.js';
import { readSafetensors, writeSafetensors } from '../../../src/formats/safetensors.js';

/** Adapters with heads on answers, and damage to their files. */

export const CLASSES = 3;
export const SCORES = { kind: 'scores', probes: 2, transforms: 2 } as const satisfies HeadInputs;
export const EMBEDDED = { kind: 'embedding', width: 4, transforms: 2 } as const satisfies HeadInputs;

export function linearHeadOf(inputs: HeadInputs): LinearHead {
  const random = Random.stream(1, 'head');
  const empty = noHead(inputs, CLASSES);
  return {
    ...empty,
    shares: random.fillNormal(new Float32Array(inputs.transforms)),
    weight: random.fillNormal(new Float32Array(empty.weight.length)),
    bias: random.fillNormal(new Float32Array(CLASSES)),
  };
}

/** A space for the image itself, one for the mean of its transforms and one for each; a term for each kind. */
export function kernelHeadOf(inputs: HeadInputs): KernelHead {
  const random = Random.stream(2, 'head');
  const normal = (count: number) => random.fillNormal(new Float32Array(count));
  const width = inputWidthOf(inputs, CLASSES);
  const space = (transforms: number[], axes: number, landmarks: number) => ({
    transforms,
    mean: normal(width),
    axes: normal(width * axes),
    landmarks: normal(landmarks * axes),
  });
  const all = Array.from({ length: inputs.transforms }, (_, transform) => transform);
  const first = { spaces: [space([0], 2, 5)], terms: [[0], [0]] };
  const several = {
    spaces: [space(all, 3, 4), ...all.map((transform) => space([transform], 2 + transform, 6))],
    terms: [[1], all.map((transform) => 2 + transform)],
  };
  const { spaces, terms } =
    inputs.transforms === 1
      ? first
      : { spaces: [...first.spaces, ...several.spaces], terms: [...first.terms, ...several.terms] };
  return {
    ...linearHeadOf(inputs),
    kind: 'kernel',
    spaces,
    terms: terms.map((of) => {
      const landmarks = spaces[of[0]].landmarks.length / (spaces[of[0]].axes.length / width);
      return {
        kernels: of.map((index) => ({ space: index, scale: normal(spaces[index].axes.length / width) })),
        coefficients: normal(landmarks * CLASSES),
      };
    }),
  };
}

export function weightsOf(head: EconomyHead): AdapterWeights {
  return { prompt: { space: 'text', template: 'a {}.' }, head, classCount: CLASSES };
}

export const SOFT = {
  space: 'soft',
  context: new Float32Array(8).fill(0.5),
  contextTokens: 2,
  contextWidth: 4,
} as const;

export const ABOUT: AdapterDescription = {
  classes: ['cat', 'dog', 'fox'],
  transforms: ['identity', 'mirror'],
  provider: { name: 'box', protocol: 'open_inference', remoteModel: 'clip' },
  hyperparameters: { strategy: 'economy' },
  metrics: { held_out_accuracy: 0.5 },
};
export const WITH_PROBES: AdapterDescription = { ...ABOUT, probes: ['tree', 'red'] };
/** [C, D] */
export const TEXTS = Float32Array.from({ length: CLASSES * 4 }, (_, i) => i / 8);

export type File = ReturnType<typeof readSafetensors>;

/** A file after a change to its tensors or metadata. */
export function altered(bytes: Uint8Array, change: (file: File) => void): Uint8Array {
  const file = readSafetensors(bytes);
  change(file);
  return writeSafetensors(file.tensors, file.metadata);
}

/** Another description in the metadata. */
export const saying = (changes: Record<string, unknown>) => (file: File) => {
  file.metadata.adapter = JSON.stringify({ ...JSON.parse(file.metadata.adapter), ...changes });
};

/** A tensor of another shape. */
export const shaped = (name: string, shape: number[]) => (file: File) => {
  file.tensors.set(name, { dtype: 'F32', shape, data: new Float32Array(shape.reduce((all, size) => all * size, 1)) });
};

export const without = (name: string) => (file: File) => {
  if (!file.tensors.delete(name)) throw new Error(`There is no tensor ${name} that could be missing.`);
};

/** A number of a tensor that is none. */
export const broken = (name: string, value: number) => (file: File) => {
  const tensor = file.tensors.get(name);
  if (!tensor) throw new Error(`There is no tensor ${name}.`);
  (tensor.data as Float32Array)[tensor.data.length - 1] = value;
};
