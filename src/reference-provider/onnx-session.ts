import { InferenceSession } from 'onnxruntime-node';

/** Opens an ONNX model. A run occupies the calling thread, and `threads` - 1 others, until it is done. */
export function openSession(path: string, threads: number): Promise<InferenceSession> {
  return InferenceSession.create(path, {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    // Waiting threads that spin are a little faster on idle cores, but take them from whoever shares the machine.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
}
