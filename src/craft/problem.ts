import { InvalidProblemError } from './errors.js';
import type { PromptProblem } from './prompts.js';

/** What is trained: the labels of the images and the prompt to start from. The images themselves stay outside. */
export interface TrainingProblem {
  /** C, at least 2. */
  classCount: number;
  /** Class of each training image, [N]. */
  labels: Int32Array;
  /** Class of each validation image, [V]; may be empty. */
  validationLabels: Int32Array;
  prompt: PromptProblem;
  /** Length of the schedule, by which the consistency term is switched off. Training may go on past it. */
  plannedGenerations: number;
}

/** @throws InvalidProblemError if the parts do not fit each other */
export function checkProblem(problem: TrainingProblem): void {
  const { classCount, labels, validationLabels } = problem;
  require(positive(classCount) && classCount >= 2, `classCount must be an integer of at least 2, not ${classCount}.`);
  require(positive(problem.plannedGenerations), 'plannedGenerations must be a positive integer.');
  require(labels.length > 0, 'There must be at least one training image.');
  for (const [what, values] of Object.entries({ labels, validationLabels })) {
    const wrong = values.findIndex((label) => label < 0 || label >= classCount);
    require(wrong === -1, `${what}[${wrong}] is ${values[wrong]}, which is not a class from 0 to ${classCount - 1}.`);
  }
  if (problem.prompt.space === 'soft') checkContext(problem.prompt);
}

function checkContext({ contextTokens, contextWidth, initialContext }: PromptProblem & { space: 'soft' }): void {
  require(positive(contextTokens) &&
    positive(contextWidth), 'contextTokens and contextWidth must be positive integers.');
  require(initialContext.length ===
    contextTokens *
      contextWidth, `initialContext has ${initialContext.length} numbers, not ${contextTokens} × ${contextWidth}.`);
  require(initialContext.every(Number.isFinite), 'initialContext has an entry that is not finite.');
}

function positive(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0;
}

function require(condition: boolean, message: string): void {
  if (!condition) throw new InvalidProblemError(message);
}
