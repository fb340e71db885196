import { availableParallelism } from 'node:os';
import { InferenceSession } from 'onnxruntime-node';

/**
 * Opens an ONNX model. A run occupies the calling thread until it is done, so callers keep each run to a few
 * milliseconds; the event loop turns between runs.
 */
export function openSession(path: string, threads = availableParallelism()): Promise<InferenceSession> {
  return InferenceSession.create(path, {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    // Waiting threads that spin are a little faster on idle cores, but take them from whoever shares the machine.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
}
