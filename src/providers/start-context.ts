import type { ProviderCapabilities } from './provider.js';

/** p0 [m·d]: the provider's own starting prompt, or zeros where it names none. */
export function startContextOf(capabilities: ProviderCapabilities): Float32Array {
  const length = (capabilities.contextTokens ?? 0) * (capabilities.contextWidth ?? 0);
  if (capabilities.initialContext === null) return new Float32Array(length);
  const bytes = Buffer.from(capabilities.initialContext, 'base64');
  return Float32Array.from({ length }, (_, i) => bytes.readFloatLE(i * 4));
}
