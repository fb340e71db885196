import { describe, expect, it } from 'vitest';
import { AddressPolicy } from '../../../src/outgoing/address-policy.js';
import { requireOwnHeaders, requireOwnKeyHeader } from '../../../src/providers/own-headers.js';
import type { ProviderConnection } from '../../../src/providers/provider-connection.js';
import { providerInputSchema } from '../../../src/providers/provider-record.js';

const CUSTOM = { body: { t: '{{texts}}', i: '{{image_base64}}' }, result: { kind: 'logits', scores: '$.s' } };
const PROTOCOLS = ['open_inference', 'hugging_face', 'openai_chat', 'embeddings', 'custom_http'] as const;
type Protocol = (typeof PROTOCOLS)[number];

function record(protocol: Protocol, settings: object, header = 'X-Api-Key'): ProviderConnection {
  const input = providerInputSchema.parse({
    name: 'box',
    base_url: 'http://127.0.0.1',
    remote_model: 'm',
    protocol,
    credentials: { type: 'header', name: header, value: 'secret' },
    settings: { ...(protocol === 'custom_http' ? CUSTOM : {}), ...settings },
  });
  return { ...input, addresses: AddressPolicy.parse('') } as unknown as ProviderConnection;
}

describe.each(PROTOCOLS)('the header for idempotency keys of %s', (protocol) => {
  it('may not be that of the credentials, in whatever case', () => {
    const idempotency = { header: 'x-api-KEY' };
    expect(() => requireOwnHeaders(record(protocol, { idempotency }))).toThrow(
      expect.objectContaining({
        code: 'provider_idempotency_header_invalid',
        param: 'settings.idempotency.header',
        status: 400,
      }),
    );
  });

  it('may be any other', () => {
    expect(() => requireOwnHeaders(record(protocol, { idempotency: {} }))).not.toThrow();
    expect(() => requireOwnHeaders(record(protocol, { idempotency: null }))).not.toThrow();
  });
});

describe('the fixed headers of custom_http', () => {
  it('may not repeat that of the credentials', () => {
    expect(() => requireOwnHeaders(record('custom_http', { headers: { 'X-API-KEY': 'other' } }))).toThrow(
      expect.objectContaining({ code: 'provider_header_conflict', param: 'settings.headers', status: 400 }),
    );
    expect(() => requireOwnHeaders(record('custom_http', { headers: { 'X-Tenant': 'a' } }))).not.toThrow();
  });

  it('may not repeat that of idempotency keys', () => {
    const settings = { headers: { 'idempotency-key': 'fixed' }, idempotency: {} };
    expect(() => requireOwnHeaders(record('custom_http', settings))).toThrow(
      expect.objectContaining({ param: 'settings.idempotency.header' }),
    );
  });
});

describe('a header that a model states for keys', () => {
  it.each(['Content-Type', 'authorization', 'x-api-key'])('may not be %s', (header) => {
    expect(() => requireOwnKeyHeader(header, record('open_inference', {}), 'settings.idempotency')).toThrow(
      expect.objectContaining({ param: 'settings.idempotency' }),
    );
  });
});
