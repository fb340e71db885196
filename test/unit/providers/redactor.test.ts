import { PassThrough } from 'node:stream';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { ProviderCallError } from '../../../src/providers/provider-call-error.js';
import { Redactor } from '../../../src/providers/redactor.js';

const KEY = 'sk-proj-Ab3+/x"9Zq_tUv71LmN0pQrS';
const base64 = Buffer.from(KEY).toString('base64');

const FORMS = [
  KEY,
  KEY.toUpperCase(),
  base64,
  base64.replace(/=+$/, ''),
  Buffer.from(KEY).toString('base64url'),
  encodeURIComponent(KEY),
  new URLSearchParams({ key: KEY }).toString().slice('key='.length),
  JSON.stringify(KEY),
  KEY.slice(0, 8),
  KEY.slice(0, 20),
  KEY.slice(-8),
  KEY.slice(-15),
  `${KEY.slice(0, 3)}***`,
  `${KEY.slice(0, 6)}***************${KEY.slice(-4)}`,
  `${KEY.slice(0, 12)}...${KEY.slice(-4)}`,
  `${KEY.slice(0, 7)}…`,
];

/** Everything that log and reply make of an error. */
function serialisations(error: Error): string {
  const stream = new PassThrough();
  pino({}, stream).error({ err: error }, 'failed');
  const log = String(stream.read());
  return [log, JSON.stringify(error), JSON.stringify(pino.stdSerializers.errWithCause(error)), String(error)].join(
    '\n',
  );
}

describe('Redactor', () => {
  it.each(FORMS)('hides %s', (form) => {
    const redactor = new Redactor([`Bearer ${KEY}`]);
    expect(redactor.text(`Incorrect API key provided: "${form}", see /keys.`)).toMatch(
      /^Incorrect API key provided: "+\[redacted\]=*"+, see \/keys\.$/,
    );
  });

  it('hides a whole Authorization header, and a key that was given as it is', () => {
    expect(new Redactor([`Bearer ${KEY}`]).text(`authorization: Bearer ${KEY}`)).toBe(
      'authorization: Bearer [redacted]',
    );
    expect(new Redactor([KEY]).text(`x-api-key: ${KEY}`)).toBe('x-api-key: [redacted]');
  });

  it('hides a key as forms and query strings encode it', () => {
    const key = 'pass word~(1)!';
    const redacted = new Redactor([key]).text(`/models?${new URLSearchParams({ key, page: '2' })}`);
    expect(redacted).toBe('/models?key=[redacted]&page=2');
  });

  it('hides every occurrence of every secret', () => {
    const redactor = new Redactor([KEY, 'hunter2', '']);
    expect(redactor.text(`${KEY}${KEY} hunter2 Hunter2 ${base64}`)).toBe(
      '[redacted][redacted] [redacted] [redacted] [redacted]=',
    );
  });

  it('leaves other words as they are', () => {
    const redactor = new Redactor([`Bearer ${KEY}`]);
    const text = 'Bearer schemes begin with sk- or sk-proj. İt has 32 characters. abc***';
    expect(redactor.text(text)).toBe(text);
    expect(new Redactor([]).text(text)).toBe(text);
  });

  it('takes long secrets and long texts', () => {
    const secret = 'k'.repeat(4096);
    expect(new Redactor([secret]).text(`${'a'.repeat(50_000)}${secret}`)).toBe(`${'a'.repeat(50_000)}[redacted]`);
  });

  it('copies an error with its causes, without what it carries besides', () => {
    const inner = Object.assign(new Error(`parse failed at ${base64}`), {
      data: `HTTP/1.1 ${KEY}`,
      code: 'HPE_INVALID',
    });
    const outer = new TypeError(`header ${KEY}`, { cause: inner });
    const copy = new Redactor([KEY]).error(outer) as Error;
    expect(copy).toMatchObject({ name: 'TypeError', message: 'header [redacted]' });
    expect(copy.cause).toMatchObject({ message: 'parse failed at [redacted]=', code: 'HPE_INVALID' });
    expect(copy.cause).not.toHaveProperty('data');
    const failure = new ProviderCallError({
      code: 'provider_connection_lost',
      message: 'lost',
      billing: 'unknown',
      retryable: true,
      cause: copy,
    });
    const shown = serialisations(failure);
    expect(shown).toContain('parse failed');
    for (const form of FORMS) expect(shown).not.toContain(form);
  });
});
