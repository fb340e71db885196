import { Random } from '../../../src/craft/random.js';
import type { PromptProblem, Prompts, Score, TrainingProblem } from '../../../src/craft/trainer.js';

export interface SyntheticOptions {
  seed?: number;
  classCount?: number;
  imagesPerClass?: number;
  validationPerClass?: number;
  plannedGenerations?: number;
}

/** A training problem whose prompts are soft. */
export type SoftProblem = TrainingProblem & { prompt: PromptProblem & { space: 'soft' } };

/** The values [P, m, d] of soft prompts. */
export function contextsOf(prompts: Prompts): Float32Array {
  if (prompts.kind !== 'context') throw new TypeError('These are no soft prompts.');
  return prompts.values;
}

/**
 * A black box made of random numbers: class c is the point T_c + B·context, an image is a noisy point near a rotation of
 * its class's, and the logits are their inner products. A good context makes the two agree better.
 */
export function syntheticProblem(options: SyntheticOptions = {}): { problem: SoftProblem; score: Score } {
  const { seed = 1, classCount = 5, imagesPerClass = 6, validationPerClass = 2, plannedGenerations = 6 } = options;
  const width = 8;
  const contextTokens = 2;
  const contextWidth = 4;
  const contextLength = contextTokens * contextWidth;
  const random = Random.stream(seed, 'synthetic');
  const normals = (length: number, deviation = 1) => random.fillNormal(new Float32Array(length), deviation);
  const classPoints = normals(classCount * width);
  const influence = normals(classCount * width * contextLength, 0.5);
  const drift = normals(classCount * width, 1.5);
  const labelsOf = (perClass: number) => {
    return Int32Array.from({ length: classCount * perClass }, (_, i) => Math.floor(i / perClass));
  };
  const imagesOf = (labels: Int32Array) => {
    const images = normals(labels.length * width, 0.5);
    labels.forEach((label, i) => {
      for (let k = 0; k < width; k++)
        images[i * width + k] += classPoints[label * width + k] + drift[label * width + k];
    });
    return images;
  };
  const labels = labelsOf(imagesPerClass);
  const validationLabels = labelsOf(validationPerClass);
  const images = { training: imagesOf(labels), validation: imagesOf(validationLabels) };

  const logitsOf = (features: Float32Array, context: Float32Array) => {
    const points = classPoints.slice();
    for (let i = 0; i < points.length; i++) {
      for (let k = 0; k < contextLength; k++) points[i] += influence[i * contextLength + k] * context[k];
    }
    const logits = new Float32Array((features.length / width) * classCount);
    for (let i = 0; i < logits.length; i++) {
      const image = Math.floor(i / classCount) * width;
      const point = (i % classCount) * width;
      let sum = 0;
      for (let k = 0; k < width; k++) sum += features[image + k] * points[point + k];
      logits[i] = sum;
    }
    return logits;
  };
  const score: Score = async (request, receive) => {
    const contexts = contextsOf(request.prompts);
    for (let p = 0; p < request.prompts.count; p++) {
      const context = contexts.subarray(p * contextLength, (p + 1) * contextLength);
      receive(p, logitsOf(images[request.imageSet], context));
    }
  };
  const problem: SoftProblem = {
    classCount,
    labels,
    validationLabels,
    prompt: { space: 'soft', contextTokens, contextWidth, initialContext: normals(contextLength, 0.1) },
    plannedGenerations,
  };
  return { problem, score };
}
