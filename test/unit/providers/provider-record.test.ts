import { describe, expect, it } from 'vitest';
import {
  credentialsSchema,
  parseSettings,
  providerInputSchema,
  providerPatchSchema,
} from '../../../src/providers/provider-record.js';

function complaint(base_url: string): string | undefined {
  return providerPatchSchema.safeParse({ base_url }).error?.issues[0].message;
}

describe('base_url', () => {
  it.each([
    'http://127.0.0.1:8081',
    'https://models.example.com/clip/',
    'http://[fd00::1]:8000',
    'http://10.0.0.7',
    'http://169.253.0.1',
  ])('may be %s', (url) => {
    expect(complaint(url)).toBeUndefined();
  });

  it.each(['https://me:pass@example.com', 'https://me@example.com', 'https://:pass@example.com'])(
    'carries no credentials: %s',
    (url) => {
      expect(complaint(url)).toContain('into credentials');
    },
  );

  it.each(['https://example.com?key=1', 'https://example.com/a#b', 'https://example.com?'])(
    'ends with its path: %s',
    (url) => {
      expect(complaint(url)).toContain('? or #');
    },
  );

  it('is a URL', () => {
    expect(complaint('my server')).toContain('URL');
  });
});

describe('credentials in a header', () => {
  const accepts = (name: string) => credentialsSchema.safeParse({ type: 'header', name, value: 'key' }).success;

  it.each(['x-api-key', 'Authorization', 'api-key', 'Ocp-Apim-Subscription-Key', 'X-Content-Key'])(
    'may be %s',
    (name) => {
      expect(accepts(name)).toBe(true);
    },
  );

  it.each([
    'Connection',
    'keep-alive',
    'proxy-authorization',
    'Transfer-Encoding',
    'content-length',
    'Content-Type',
    'HOST',
    'upgrade',
    'te',
    'trailer',
    'expect',
    'Inference-Header-Content-Length',
    'accept',
    'accept-encoding',
  ])('may not be %s', (name) => {
    expect(accepts(name)).toBe(false);
  });
});

describe('A patch', () => {
  it('says nothing of what it leaves out', () => {
    expect(providerPatchSchema.parse({ limits: { concurrency: 2 } })).toEqual({ limits: { concurrency: 2 } });
    expect(providerPatchSchema.parse({ budget: { daily: { max_requests: null } } })).toEqual({
      budget: { daily: { max_requests: null } },
    });
    expect(providerPatchSchema.parse({})).toEqual({});
  });
});

describe('A record', () => {
  const record = { name: 'box', base_url: 'https://models.example.com', remote_model: 'clip' };
  const CUSTOM = {
    body: { image: '{{image_base64}}', texts: '{{texts}}' },
    result: { kind: 'logits', scores: '$.scores' },
  };

  it.each([
    ['open_inference', {}],
    ['hugging_face', {}],
    ['openai_chat', {}],
    ['embeddings', {}],
    ['custom_http', CUSTOM],
  ])('of %s needs nothing beyond its settings %j', (protocol, settings) => {
    const parsed = providerInputSchema.parse({ ...record, protocol, ...(settings === CUSTOM ? { settings } : {}) });
    expect(parsed).toMatchObject({ protocol, limits: { concurrency: 4, tokens_per_second: null } });
    expect(parsed.settings.unbilled_statuses).toEqual([]);
    expect(parseSettings(parsed.protocol, parsed.settings)).toEqual(parsed.settings);
  });

  it.each<[string, object, string]>([
    ['a protocol that is not known', { protocol: 'grpc' }, 'protocol'],
    ['settings of another protocol', { protocol: 'hugging_face', settings: { dialect: 'jina' } }, 'settings'],
    [
      'a template without a place for the class',
      { protocol: 'embeddings', settings: { template: 'x' } },
      'settings.template',
    ],
    ['no settings where they are needed', { protocol: 'custom_http' }, 'settings'],
    [
      'a path that is none',
      { protocol: 'custom_http', settings: { ...CUSTOM, result: { kind: 'logits', scores: 'x' } } },
      'settings.result.scores',
    ],
    [
      'a model that Open Inference cannot name',
      { protocol: 'open_inference', remote_model: 'org/clip' },
      'remote_model',
    ],
    [
      'an axis twice',
      { protocol: 'open_inference', settings: { tensors: { logits: { axes: ['images', 'images'] } } } },
      'settings.tensors.logits.axes',
    ],
    [
      'a header of HTTP for keys',
      { protocol: 'openai_chat', settings: { idempotency: { header: 'Host' } } },
      'settings.idempotency.header',
    ],
    [
      'a header that carries credentials',
      { protocol: 'custom_http', settings: { ...CUSTOM, headers: { Authorization: 'x' } } },
      'settings.headers.Authorization',
    ],
    [
      'FP16 where tensors travel as JSON',
      { protocol: 'open_inference', settings: { binary: false, tensors: { logits: { datatype: 'FP16' } } } },
      'settings.binary',
    ],
    ['an unknown field', { protocol: 'embeddings', speed: 9 }, ''],
  ])('is refused with %s, which it names', (_, changes, path) => {
    const { error } = providerInputSchema.safeParse({ ...record, ...changes });
    expect(error?.issues[0].path.join('.')).toBe(path);
  });
});
