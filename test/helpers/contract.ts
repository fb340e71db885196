import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { readExample } from '../../src/demo/example-data.js';
import { AddressPolicy } from '../../src/outgoing/address-policy.js';
import { callLimits, imageCallLimits, sentSizes } from '../../src/providers/call-limits.js';
import { createProvider, describeProvider } from '../../src/providers/protocols.js';
import type { Provider, ProviderCapabilities, ProviderImage, ProviderPrices } from '../../src/providers/provider.js';
import type { ProviderConnection } from '../../src/providers/provider-connection.js';
import { type Credentials, parseSettings } from '../../src/providers/provider-record.js';
import type { TransportResponse } from '../../src/providers/transport-response.js';
import { type ProtocolRecord, recordOf } from './protocols.js';

/** What one contract is checked against: the five protocols, that of embeddings in each of its dialects. */
export const SUBJECTS = [
  'open_inference',
  'hugging_face',
  'openai_chat',
  'custom_http',
  'embeddings: infinity',
  'embeddings: jina',
  'embeddings: cohere',
  'embeddings: voyage',
] as const;
export type Subject = (typeof SUBJECTS)[number];

export const MODEL_DIRECTORY = fileURLToPath(new URL('../../models/emoji-clip', import.meta.url));
export const KEY = 'key-of-the-contract-0123456789';

const FREE: ProviderPrices = {
  perRequestNanoUsd: 0n,
  perImageQueryNanoUsd: 0n,
  perInputTokenPicoUsd: 0n,
  perOutputTokenPicoUsd: 0n,
};

/** @param url where the reference provider, or who takes its place, listens */
export function subjectRecord(subject: Subject, url: string): ProtocolRecord {
  const dialect = dialectOf(subject);
  if (dialect === undefined) return recordOf(subject as ProtocolRecord['protocol'], url);
  const { settings, ...record } = recordOf('embeddings', url);
  return {
    ...record,
    ...(dialect === 'cohere' ? { base_url: `${url}/v2` } : {}),
    settings: { ...settings, dialect },
  };
}

export function dialectOf(subject: Subject): string | undefined {
  return subject.split(': ')[1];
}

export interface Changes {
  settings?: Record<string, unknown>;
  limits?: Partial<ProviderConnection['limits']>;
  credentials?: Credentials;
  observe?: (answer: TransportResponse, milliseconds: number) => void;
}

export function subjectConnection(subject: Subject, url: string, changes: Changes = {}): ProviderConnection {
  const { protocol, base_url, remote_model, settings } = subjectRecord(subject, url);
  return {
    id: 'prov-1',
    name: 'box',
    protocol,
    baseUrl: base_url,
    remoteModel: remote_model,
    credentials: changes.credentials ?? { type: 'bearer', token: KEY },
    settings: parseSettings(protocol, { ...settings, ...changes.settings }),
    limits: {
      requestsPerSecond: null,
      tokensPerSecond: null,
      concurrency: 4,
      imagesPerRequest: 256,
      promptsPerRequest: 64,
      maxRequestBytes: 32 * 1024 * 1024,
      timeoutMs: 20_000,
      ...changes.limits,
    },
    addresses: AddressPolicy.parse('loopback'),
    observe: changes.observe,
  } as ProviderConnection;
}

/** A provider that was asked at `describedAt` what it can do, and is then called at `url`. */
export async function openSubject(
  subject: Subject,
  url: string,
  changes: Changes & { describedAt?: string } = {},
): Promise<Provider> {
  const described = await describeProvider(subjectConnection(subject, changes.describedAt ?? url, changes));
  return providerOf(subject, url, described, changes);
}

export function providerOf(
  subject: Subject,
  url: string,
  capabilities: ProviderCapabilities,
  changes: Changes = {},
): Provider {
  return createProvider(subjectConnection(subject, url, changes), { capabilities, prices: FREE });
}

/** Images of the example data set. */
export async function providerImages(count: number): Promise<ProviderImage[]> {
  const { train } = await readExample('fluent-contrast-subgroups', 'seed-1');
  return train.slice(0, count).map(({ bytes }) => toProviderImage(bytes));
}

function toProviderImage(bytes: Buffer): ProviderImage {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { sha256, size: bytes.length, bytes: async () => bytes };
}

/** How the calls that ask `question` are cut, and those that embed its images. */
export function limitsFor(
  provider: Provider,
  question: { classes: { names: string[]; descriptions?: (string | null)[] }; images: ProviderImage[] },
  templates: string[],
) {
  const templateBytes = Math.max(...templates.map((template) => Buffer.byteLength(template)));
  return {
    calls: callLimits(provider, { space: 'text', classes: question.classes, templateBytes }, null),
    images: imageCallLimits(provider),
    sizes: sentSizes(provider.capabilities, question.images),
  };
}
