import { describe, expect, it } from 'vitest';
import { credentialsSchema, providerPatchSchema } from '../../../src/providers/provider-record.js';

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

  it.each([
    'http://169.254.169.254/latest',
    'http://169.254.169.254.:80',
    'http://0xa9fea9fe',
    'http://2852039166',
    'http://[fe80::1]',
    'http://[febf::1]:8000',
    'http://[::ffff:169.254.169.254]',
  ])('is not link-local: %s', (url) => {
    expect(complaint(url)).toContain('Link-local');
  });

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
