import pino from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ask } from '../../src/providers/ask.js';
import { describeProvider } from '../../src/providers/protocols.js';
import type { Provider, ProviderCapabilities, ProviderImage } from '../../src/providers/provider.js';
import { ProviderCallError } from '../../src/providers/provider-call-error.js';
import { type RunningReferenceProvider, startReferenceProvider } from '../../src/reference-provider/start.js';
import { type AnswerFault, BROKEN, NotApplicable, UNUSABLE } from '../helpers/answer-faults.js';
import {
  type Changes,
  dialectOf,
  KEY,
  MODEL_DIRECTORY,
  providerImages,
  providerOf,
  SUBJECTS,
  type Subject,
  subjectConnection,
} from '../helpers/contract.js';
import { formOf, LABELS, QUESTION_TEMPLATE, VALID } from '../helpers/protocol-answers.js';
import { type Script, ScriptedServer } from '../helpers/scripted-server.js';

/** Whatever the protocol, a failed call says why, whether to try again, and whether it may have been paid for. */

const MIB = 1024 * 1024;

let reference: RunningReferenceProvider;
let scripted: ScriptedServer;
let images: ProviderImage[];
const capabilities = new Map<Subject, ProviderCapabilities>();

beforeAll(async () => {
  reference = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY, apiKeys: [KEY] });
  scripted = await ScriptedServer.start();
  images = await providerImages(1);
  for (const subject of SUBJECTS) {
    capabilities.set(subject, await describeProvider(subjectConnection(subject, reference.url)));
  }
});

afterAll(async () => {
  await scripted.close();
  await reference.close();
});

function questionOne(provider: Provider) {
  const prompts = { kind: 'template' as const, count: 1, templates: [QUESTION_TEMPLATE] };
  return ask(provider, { prompts, images, classes: { names: LABELS } }, {});
}

async function withProvider<T>(subject: Subject, changes: Changes, work: (provider: Provider) => Promise<T>) {
  const provider = providerOf(subject, scripted.url, capabilities.get(subject)!, changes);
  try {
    return await work(provider);
  } finally {
    await provider.close();
  }
}

/** The failure of one call, which must be all that an error of ours may be. */
function failureOf(subject: Subject, changes: Changes = {}): Promise<ProviderCallError> {
  return withProvider(subject, changes, async (provider) => {
    const outcome = await questionOne(provider).catch((error: unknown) => error);
    expect(outcome).toBeInstanceOf(ProviderCallError);
    const failure = outcome as ProviderCallError;
    expect(failure.message).toContain('"box"');
    const logged = JSON.stringify(pino.stdSerializers.err(failure)).toLowerCase();
    for (const part of [KEY.slice(0, 8), KEY.slice(-8)]) expect(logged).not.toContain(part);
    return failure;
  });
}

interface Expected {
  code: string;
  billing: 'unbilled' | 'unknown' | 'billed';
  retryable: boolean;
  retryAfterSeconds?: number;
  providerStatus?: number;
  providerCode?: string;
}

const refused = { code: 'provider_refused_request', billing: 'unknown', retryable: false } as const;
const passing = { code: 'provider_unavailable', billing: 'unknown', retryable: true } as const;
const notPaid = { code: 'provider_payment_required', retryable: false } as const;
const limited = { code: 'provider_rate_limited', billing: 'unbilled', retryable: true } as const;
const keyRefused = { code: 'provider_credentials_refused', billing: 'unknown', retryable: false } as const;
const elsewhere = { code: 'provider_redirects', billing: 'unknown', retryable: false } as const;

interface StatusRow {
  status: number;
  headers?: Record<string, string>;
  /** Fields of the error's body, beside the message that echoes the key. */
  fields?: Record<string, unknown>;
  expected: Omit<Expected, 'providerStatus'>;
  remedy: RegExp;
}

const STATUSES: StatusRow[] = [
  {
    status: 302,
    headers: { location: 'https://elsewhere.example/x' },
    expected: elsewhere,
    remedy: /to elsewhere\.example .*base_url/,
  },
  { status: 307, expected: elsewhere, remedy: /base_url/ },
  { status: 400, expected: refused, remedy: /Check its base_url, remote_model and settings/ },
  { status: 401, expected: keyRefused, remedy: /PATCH \/v1\/providers/ },
  { status: 402, expected: { ...notPaid, billing: 'unknown' }, remedy: /Top up/ },
  { status: 403, expected: keyRefused, remedy: /PATCH \/v1\/providers/ },
  { status: 404, expected: refused, remedy: /base_url and remote_model/ },
  { status: 408, expected: passing, remedy: /Lower images_per_request/ },
  { status: 409, expected: passing, remedy: /Try again/ },
  { status: 413, expected: refused, remedy: /Lower limits\.max_request_bytes/ },
  {
    status: 422,
    fields: { code: 'bad_input' },
    expected: { ...refused, providerCode: 'bad_input' },
    remedy: /settings/,
  },
  { status: 425, expected: passing, remedy: /Try again/ },
  { status: 429, expected: limited, remedy: /Lower requests_per_second/ },
  { status: 429, headers: { 'retry-after': '7' }, expected: { ...limited, retryAfterSeconds: 7 }, remedy: /Lower/ },
  {
    status: 429,
    headers: { 'retry-after-ms': '1500' },
    expected: { ...limited, retryAfterSeconds: 1.5 },
    remedy: /Lower/,
  },
  {
    status: 429,
    headers: { 'retry-after': '9'.repeat(400) },
    expected: { ...limited, retryAfterSeconds: 86_400 },
    remedy: /Lower/,
  },
  {
    status: 429,
    fields: { code: 'insufficient_quota' },
    expected: { ...notPaid, billing: 'unbilled', providerCode: 'insufficient_quota' },
    remedy: /Top up/,
  },
  { status: 500, expected: passing, remedy: /ask whoever runs it/ },
  { status: 502, expected: passing, remedy: /ask whoever runs it/ },
  {
    status: 503,
    headers: { 'retry-after': '3' },
    expected: { ...passing, retryAfterSeconds: 3 },
    remedy: /ask whoever/,
  },
  { status: 503, expected: passing, remedy: /ask whoever/ },
  {
    status: 500,
    headers: { 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '6m0s' },
    expected: passing,
    remedy: /ask whoever/,
  },
  { status: 503, fields: { estimated_time: 20.5 }, expected: { ...passing, retryAfterSeconds: 20.5 }, remedy: /ask/ },
  { status: 504, expected: passing, remedy: /ask whoever runs it/ },
  { status: 599, expected: passing, remedy: /ask whoever runs it/ },
];

/** Nothing is computed while a model of Hugging Face loads, which it says with the time that it will take. */
function billingOf(subject: Subject, { fields, expected }: StatusRow) {
  const isLoading = subject === 'hugging_face' && fields?.estimated_time !== undefined;
  return isLoading ? 'unbilled' : expected.billing;
}

/** What makes the answer smaller. */
function remedyFor(subject: Subject): RegExp {
  if (dialectOf(subject)) return /Lower settings\.texts_per_request or limits\.images_per_request/;
  switch (subject) {
    case 'openai_chat':
      return /Lower settings\.top_logprobs/;
    case 'hugging_face':
    case 'custom_http':
      return /Lower settings\.max_labels/;
    default:
      return /Lower images_per_request or prompts_per_request/;
  }
}

describe.each(SUBJECTS)('a failed call through %s', (subject) => {
  it.each(STATUSES.map((row) => [row.status, JSON.stringify({ ...row.headers, ...row.fields }), row] as const))(
    'is understood by its status %i %s',
    async (status, _, row) => {
      scripted.play((request, response) => {
        const said = { error: { message: `bad key ${request.headers.authorization}` }, ...row.fields };
        response.writeHead(status, { 'content-type': 'application/json', ...row.headers }).end(JSON.stringify(said));
      });
      const failure = await failureOf(subject);
      expect(failure).toMatchObject({ ...row.expected, billing: billingOf(subject, row), providerStatus: status });
      if (row.expected.retryAfterSeconds === undefined) expect(failure.retryAfterSeconds).toBeUndefined();
      expect(failure.message).toMatch(row.remedy);
      expect(failure.message).toMatch(/It said: bad key/);
      expect(scripted.arrived).toBe(1);
    },
  );

  it('is unbilled after a status that the record declares so', async () => {
    scripted.play((_, response) => response.writeHead(500).end());
    const failure = await failureOf(subject, { settings: { unbilled_statuses: [500] } });
    expect(failure).toMatchObject({ ...passing, billing: 'unbilled' });
    expect(scripted.arrived).toBe(1);
  });

  it.each([
    ['bearer', { type: 'bearer', token: KEY }],
    ['header', { type: 'header', name: 'x-api-key', value: KEY }],
    ['query', { type: 'query', name: 'key', value: KEY }],
  ] as const)('does not show the %s key that is echoed in any part of it', async (type, credentials) => {
    let seen = '';
    scripted.play(({ headers, url }, response) => {
      seen = `${headers.authorization} ${headers['x-api-key']} ${url}`;
      const echo = `${seen} ${Buffer.from(KEY).toString('base64')} ${KEY.toUpperCase()}`;
      response.writeHead(400, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ code: KEY, type: KEY, error: echo }));
    });
    const failure = await failureOf(subject, { credentials });
    expect(seen).toContain(KEY);
    expect(`${failure.message} ${failure.providerCode}`).not.toContain(Buffer.from(KEY).toString('base64'));
    expect(type === 'query').toBe(scripted.requests[0].includes(`key=${KEY}`));
  });

  it('shows who observes it the answer without the key', async () => {
    const seen: string[] = [];
    scripted.play(({ headers }, response) => response.writeHead(400).end(`no ${headers.authorization} here`));
    await failureOf(subject, { observe: ({ status, body }) => seen.push(`${status} ${body}`) });
    expect(seen).toEqual(['400 no Bearer [redacted] here']);
  });

  describe.each(applicable(subject, UNUSABLE))('whose answer is %s', (_, script) => {
    it('was billed, and is not repeated', async () => {
      scripted.play(script);
      const failure = await failureOf(subject);
      expect(failure).toMatchObject({ code: 'provider_answer_invalid', billing: 'billed', retryable: false });
      expect(failure.message).toMatch(/billed all the same/);
      expect(scripted.arrived).toBe(1);
    });
  });

  describe.each(applicable(subject, BROKEN))('that ends with %s', (_, script) => {
    it('may have been billed, and may be repeated', async () => {
      scripted.play(script);
      const failure = await failureOf(subject);
      expect(failure).toMatchObject({ code: 'provider_connection_lost', billing: 'unknown', retryable: true });
      expect(scripted.arrived).toBe(1);
    });
  });

  it('may have been billed where the connection is reset before the request was read', async () => {
    scripted.refuseToRead();
    const failure = await failureOf(subject);
    expect(failure).toMatchObject({ code: 'provider_connection_lost', billing: 'unknown', retryable: true });
    expect(scripted).toMatchObject({ arrived: 1, requests: [] });
  });

  it.each<[string, Script]>([
    ['no answer at all', () => {}],
    [
      'a head without its body',
      (_, response) => void response.writeHead(200, { 'content-length': '100' }).flushHeaders(),
    ],
    ['a body that never ends', (_, response) => void response.writeHead(200).write('[')],
  ])('ends after timeout_ms where there is %s', async (_, script) => {
    scripted.play(script);
    const failure = await failureOf(subject, { limits: { timeoutMs: 500 } });
    expect(failure).toMatchObject({ code: 'provider_timeout', billing: 'unknown', retryable: true });
    expect(failure.message).toMatch(/Raise timeout_ms/);
    expect(scripted.arrived).toBe(1);
  });

  it('was billed where the answer announces more bytes than are taken', async () => {
    scripted.play((_, response) => void response.writeHead(200, { 'content-length': String(4096 * MIB) }).write('['));
    const failure = await failureOf(subject);
    expect(failure).toMatchObject({ code: 'provider_answer_too_large', billing: 'billed', retryable: false });
    expect(failure.message).toMatch(remedyFor(subject));
    expect(scripted.arrived).toBe(1);
  });

  it('is not sent where nobody listens', async () => {
    const provider = providerOf(subject, 'http://127.0.0.1:1', capabilities.get(subject)!);
    const failure = await questionOne(provider).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'provider_unreachable', billing: 'unbilled', retryable: true });
    await provider.close();
  });

  it('is not counted on the next one, which is understood', async () => {
    await withProvider(subject, {}, async (provider) => {
      scripted.play((_, response) => response.writeHead(500).end());
      await expect(questionOne(provider)).rejects.toMatchObject(passing);
      scripted.play((_, response) => response.end(VALID[formOf(subject)]));
      const { answer } = await questionOne(provider);
      expect(answer.every(Number.isFinite)).toBe(true);
      expect(answer).toHaveLength(provider.kind === 'embedding' ? 4 : 2);
      expect(scripted.arrived).toBe(1);
    });
  });
});

describe.each(SUBJECTS.filter(dialectOf))('embeddings through %s', (subject) => {
  it('have as many numbers as the record states', async () => {
    scripted.play((_, response) => response.end(VALID[formOf(subject)]));
    const failure = await failureOf(subject, { settings: { dimensions: 3 } });
    expect(failure).toMatchObject({ code: 'provider_answer_invalid', billing: 'billed' });
    expect(failure.message).toMatch(/2 numbers, not 3 \(settings\.dimensions\)/);
  });
});

// Beside its tensors an answer may hold 64 MiB, which is too much to send in a test.
describe.each(SUBJECTS.filter((subject) => subject !== 'open_inference'))('an endless answer through %s', (subject) => {
  it('is broken off', async () => {
    scripted.play((_, response) => {
      response.on('error', () => {});
      const chunk = Buffer.alloc(MIB, '[');
      const more = () => {
        while (!response.destroyed && response.write(chunk));
      };
      response.writeHead(200).on('drain', more);
      more();
    });
    const failure = await failureOf(subject);
    expect(failure).toMatchObject({ code: 'provider_answer_too_large', billing: 'billed', retryable: false });
    expect(scripted.arrived).toBe(1);
  });
});

describe('what a protocol’s answers cannot have', () => {
  const rows = Object.entries({ ...UNUSABLE, ...BROKEN }).flatMap(([fault, forms]) =>
    Object.values(forms).map((answer) => [fault, answer] as const),
  );

  it('is said in the table, with its reason', () => {
    const reasons = rows.flatMap(([, answer]) => (answer instanceof NotApplicable ? [answer.reason] : []));
    expect(reasons.every((reason) => reason.length > 10)).toBe(true);
    expect(reasons.length).toBeLessThan(rows.length / 2);
  });
});

function applicable(subject: Subject, faults: Record<string, AnswerFault>): [string, Script][] {
  return Object.entries(faults).flatMap(([fault, forms]) => {
    const answer = forms[formOf(subject)];
    return answer instanceof NotApplicable ? [] : [[fault, answer] satisfies [string, Script]];
  });
}
