import { InvalidProblemError } from './errors.js';

/** What is trained: the labels of the images and the prompt to start from. The images themselves stay outside. */
export interface TrainingProblem {
  /** C, at least 2. */
  classCount: number;
  /** Class of each training image, [N]. */
  labels: Int32Array;
  /** Class of each validation image, [V]; may be empty. */
  validationLabels: Int32Array;
  /** m */
  contextTokens: number;
  /** d */
  contextWidth: number;
  /** p0, [m·d] */
  initialContext: Float32Array;
  /** Length of the schedule, by which the consistency term is switched off. Training may go on past it. */
  plannedGenerations: number;
}

/** @throws InvalidProblemError if the parts do not fit each other */
export function checkProblem(problem: TrainingProblem): void {
  const { classCount, labels, validationLabels, contextTokens, contextWidth, initialContext } = problem;
  const require = (condition: boolean, message: string) => {
    if (!condition) throw new InvalidProblemError(message);
  };
  const positive = (value: number) => Number.isSafeInteger(value) && value > 0;
  require(positive(classCount) && classCount >= 2, `classCount must be an integer of at least 2, not ${classCount}.`);
  require(positive(problem.plannedGenerations), 'plannedGenerations must be a positive integer.');
  require(positive(contextTokens) &&
    positive(contextWidth), 'contextTokens and contextWidth must be positive integers.');
  require(labels.length > 0, 'There must be at least one training image.');
  for (const [what, values] of Object.entries({ labels, validationLabels })) {
    const wrong = values.findIndex((label) => label < 0 || label >= classCount);
    require(wrong === -1, `${what}[${wrong}] is ${values[wrong]}, which is not a class from 0 to ${classCount - 1}.`);
  }
  require(initialContext.length ===
    contextTokens *
      contextWidth, `initialContext has ${initialContext.length} numbers, not ${contextTokens} × ${contextWidth}.`);
  require(initialContext.every(Number.isFinite), 'initialContext has an entry that is not finite.');
}
