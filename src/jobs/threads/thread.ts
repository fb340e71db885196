import { getPriority, setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { type Compute, selectCompute } from '../../craft/compute.js';
import { TrainerStateError } from '../../craft/errors.js';
import type { ReceiveLogits, Score } from '../../craft/scoring.js';
import type { Trainer } from '../../craft/trainer-interface.js';
import { openTraining } from '../../craft/training.js';
import { type FromThread, movable, type ThreadTask, type ToThread } from './messages.js';
import { sendError } from './sent-error.js';

/** The program of a training thread: trainers side by side, on one compute backend. */

/** What a failed scoring is to the trainer; the other thread knows what went wrong. */
class ScoringFailure extends Error {
  constructor(readonly scoring: number) {
    super('The black box was not asked to the end.');
  }
}

const LEAST_PRIORITY = 19;

if (!parentPort) throw new Error('This is the program of a thread.');
const port = parentPort;
const trainers = new Map<number, Trainer>();
const scorings = new Map<number, { receive: ReceiveLogits; resolve(): void; reject(error: Error): void }>();
let lastScoring = 0;
let compute: Compute | undefined;

port.on('message', (message: ToThread) => {
  switch (message.kind) {
    case 'task':
      void answer(message.id, message.task);
      return;
    case 'dispose':
      trainers.get(message.trainer)?.dispose();
      trainers.delete(message.trainer);
      return;
    case 'logits':
      receive(message);
      return;
    case 'scored':
      endScoring(message.scoring, message.failed);
  }
});
lowerPriority();

async function answer(id: number, task: ThreadTask): Promise<void> {
  try {
    const value = await perform(task);
    const moved = value instanceof Uint8Array ? movable(value) : [];
    const trainer = task.kind === 'select' ? undefined : trainers.get(task.trainer);
    const reached = trainer && { generation: trainer.generation, isFinished: trainer.isFinished };
    post({ kind: 'done', id, value, reached }, moved);
  } catch (error) {
    const scoring = error instanceof ScoringFailure ? error.scoring : undefined;
    post({ kind: 'failed', id, error: sendError(error), scoring });
  }
}

async function perform(task: ThreadTask): Promise<unknown> {
  if (task.kind === 'select') {
    compute = await selectCompute(task.choice, task.shape);
    return compute.name;
  }
  if (task.kind === 'open') {
    if (!compute) throw new TrainerStateError('The thread has no compute backend yet.');
    trainers.set(task.trainer, openTraining(task.spec, compute, task.state));
    return undefined;
  }
  const trainer = trainers.get(task.trainer);
  if (!trainer) throw new TrainerStateError('The trainer was disposed of.');
  switch (task.kind) {
    case 'run':
      return trainer.runGeneration(scoreOutside(task.trainer));
    case 'replay':
      return trainer.replayGeneration(scoreOutside(task.trainer));
    case 'serialise':
      return trainer.serialise();
    case 'adapter':
      return trainer.adapter();
  }
}

function scoreOutside(trainer: number): Score {
  return (request, receive) =>
    new Promise<void>((resolve, reject) => {
      const scoring = ++lastScoring;
      scorings.set(scoring, { receive, resolve, reject });
      post({ kind: 'score', trainer, scoring, request });
    });
}

function receive({ scoring, promptIndex, logits }: ToThread & { kind: 'logits' }): void {
  try {
    scorings.get(scoring)?.receive(promptIndex, logits);
  } catch (error) {
    post({ kind: 'refused', scoring, error: sendError(error) });
  }
}

function endScoring(scoring: number, failed: boolean): void {
  const ended = scorings.get(scoring);
  scorings.delete(scoring);
  if (failed) ended?.reject(new ScoringFailure(scoring));
  else ended?.resolve();
}

function post(message: FromThread, moved: ArrayBuffer[] = []): void {
  port.postMessage(message, moved);
}

/** Arithmetic gives way to whatever waits for events on the same machine; on Linux a priority is that of a thread. */
function lowerPriority(): void {
  try {
    setPriority(Math.min(LEAST_PRIORITY, getPriority() + 5));
  } catch {
    // Not permitted here; training runs at the normal priority.
  }
}
