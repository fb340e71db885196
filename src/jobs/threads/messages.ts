import type { ComputeName, HeadShape } from '../../craft/compute.js';
import type { ScoringRequest } from '../../craft/scoring.js';
import type { Trainer } from '../../craft/trainer-interface.js';
import type { TrainingSpec } from '../../craft/training.js';
import type { SentError } from './sent-error.js';

/** What is asked of a training thread; each task is answered once, under its id. */
export type ThreadTask =
  /** First of all tasks: a thread computes with one backend, because TensorFlow.js has one current one per thread. */
  | { kind: 'select'; choice: ComputeName | 'auto'; shape: HeadShape | null }
  | { kind: 'open'; trainer: number; spec: TrainingSpec; state?: Uint8Array }
  | { kind: 'run'; trainer: number }
  | { kind: 'replay'; trainer: number }
  | { kind: 'serialise'; trainer: number }
  | { kind: 'adapter'; trainer: number };

/** How far a trainer has come. */
export type Reached = Pick<Trainer, 'generation' | 'isFinished'>;

export type ToThread =
  | { kind: 'task'; id: number; task: ThreadTask }
  /** Frees a trainer. */
  | { kind: 'dispose'; trainer: number }
  /** Logits [images, C] of one prompt of a scoring. */
  | { kind: 'logits'; scoring: number; promptIndex: number; logits: Float32Array }
  /** The end of a scoring. Why it failed stays with those who asked the black box. */
  | { kind: 'scored'; scoring: number; failed: boolean };

export type FromThread =
  /** @property reached where the task's trainer is, where it has one */
  | { kind: 'done'; id: number; value: unknown; reached?: Reached }
  /** @property scoring whose failure this is, where it is one */
  | { kind: 'failed'; id: number; error: SentError; scoring?: number }
  /** A trainer wants prompts scored. Requests are passed on as they are. */
  | { kind: 'score'; trainer: number; scoring: number; request: ScoringRequest }
  /** The trainer does not take logits that were sent: it fails once the scoring ends. */
  | { kind: 'refused'; scoring: number; error: SentError };

/** What may be moved to another thread rather than copied: an array that is all of its memory. */
export function movable(array: Float32Array | Uint8Array): ArrayBuffer[] {
  const { buffer } = array;
  return buffer instanceof ArrayBuffer && array.byteLength === buffer.byteLength ? [buffer] : [];
}
