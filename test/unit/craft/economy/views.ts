import { readFileSync } from 'node:fs';
import type { LabelledViews } from '../../../../src/craft/economy/fit-inputs.js';
import { answerWidthOf, type HeadInputs } from '../../../../src/craft/economy/head-inputs.js';
import { Random } from '../../../../src/craft/random.js';

export interface Shape {
  classCount: number;
  labels: Int32Array;
  inputs: HeadInputs;
  views?: number;
  /** How far classes lie apart, in deviations of a number within a class. */
  apart?: number;
}

/** Answers about images that lie about the centre of their class, which the class logits hardly tell. */
export function labelledViews({ classCount, labels, inputs, views = 1, apart = 2 }: Shape, seed = 1): LabelledViews {
  const width = answerWidthOf(inputs, classCount);
  const random = Random.stream(seed, 'views');
  const centres = random.fillNormal(new Float32Array(classCount * width), apart);
  const answers = () => {
    return Float32Array.from({ length: labels.length * width }, (_, at) => {
      return centres[labels[Math.floor(at / width)] * width + (at % width)] + random.normal();
    });
  };
  return {
    inputs,
    classCount,
    labels,
    views: Array.from({ length: views }, () => Array.from({ length: inputs.transforms }, answers)),
  };
}

/** Labels 0, 1, … of so many images. */
export function labelsOf(count: number, classCount: number): Int32Array {
  return Int32Array.from({ length: count }, (_, image) => image % classCount);
}

/** Made by a reference in NumPy, checked there against SciPy's L-BFGS-B: refined = s + x·A + c. */
export interface Reference {
  N: number;
  L: number;
  C: number;
  x: number[][];
  s: number[][];
  y: number[];
  settings: { p: number; tau: number; eigenvalues: number[]; A: number[][]; c: number[]; objective: number }[];
}

export const reference: Reference = JSON.parse(
  readFileSync(new URL('../fixtures/probe-head-reference.json', import.meta.url), 'utf8'),
);
