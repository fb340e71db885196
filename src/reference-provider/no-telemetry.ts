/**
 * ONNX Runtime reports its use to its vendor's servers and leaves an identifier of the machine in the home directory, unless
 * its process's environment says otherwise when it is loaded. To be called on the main thread, before any that loads it: what
 * other threads set does not reach native code.
 */
export function forbidTelemetry(): void {
  process.env.ORT_DISABLE_TELEMETRY = '1';
}
