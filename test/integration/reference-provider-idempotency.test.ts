import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { decodeInferResponse, HEADER_LENGTH_FIELD, type Tensor } from '../../src/formats/open-inference-binary.js';
import { type RunningReferenceProvider, startReferenceProvider } from '../../src/reference-provider/start.js';
import { binaryRequest, encode, inputs, logitsOf, post, referenceTo } from '../unit/reference-provider/client.js';
import { loadExample, MODEL_DIRECTORY } from '../unit/reference-provider/example-images.js';

const TEMPLATE = 'a photo of a {}.';
const CLASSES = ['cat face', 'red heart', 'unicorn'];

let images: Uint8Array[];

beforeAll(async () => {
  images = [...(await loadExample('fluent-flat-subgroups')).images.values()].slice(0, 9);
});

const question = (templates = [TEMPLATE], of = images, classes = CLASSES) => inputs(of, classes, templates);

const ask = (url: string, key: string | undefined, tensors: Tensor[] = question(), client?: string) =>
  post(url, binaryRequest(tensors), {
    headers: {
      ...(key === undefined ? {} : { 'idempotency-key': key }),
      ...(client === undefined ? {} : { authorization: `Bearer ${client}` }),
    },
  });

async function answerOf(response: Response) {
  const body = new Uint8Array(await response.arrayBuffer());
  if (response.status !== 200) throw new Error(`${response.status}: ${Buffer.from(body)}`);
  return decodeInferResponse(body, response.headers.get(HEADER_LENGTH_FIELD) ?? undefined);
}

const codeOf = async (response: Response) => ({
  status: response.status,
  code: ((await response.json()) as { code: string }).code,
});

const control = (url: string, path: string, body: unknown) =>
  fetch(`${url}/control/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

// biome-ignore lint/suspicious/noExplicitAny: the tests look into answers whose shape they check
const getJson = async (url: string): Promise<any> => (await fetch(url)).json();

describe('idempotency keys', () => {
  let provider: RunningReferenceProvider;
  beforeAll(async () => {
    provider = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY, idempotencyWindowSeconds: 3600 });
  });
  afterAll(() => provider.close());
  beforeEach(() => {
    provider.usage.reset();
    provider.misbehaviour.configure({});
  });
  const served = () => provider.usage.report().totals.requests;

  it('are announced, and answers say what they cost', async () => {
    const { parameters } = await getJson(`${provider.url}/v2/models/emoji-clip`);
    expect(parameters).toMatchObject({ idempotency_header: 'idempotency-key', idempotency_window_s: 3600 });
    const { parameters: bill } = await answerOf(await ask(provider.url, undefined, question([TEMPLATE, '{}'])));
    expect(bill).toEqual({ billed_requests: 1, billed_image_queries: 18 });
  });

  it('make a retry the same purchase, whatever form it takes', async () => {
    const first = await answerOf(await ask(provider.url, 'one'));
    expect(await answerOf(await ask(provider.url, 'one'))).toEqual(first);
    const byReference = question([TEMPLATE], images.map(referenceTo));
    expect(await answerOf(await ask(provider.url, 'one', byReference))).toEqual(first);
    const json = await fetch(`${provider.url}/v2/models/emoji-clip/infer`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': 'one' },
      body: JSON.stringify({
        id: 'retry',
        inputs: [
          {
            name: 'images',
            datatype: 'BYTES',
            shape: [images.length],
            data: images.map(referenceTo).map((reference) => Buffer.from(reference).toString()),
          },
          { name: 'class_names', datatype: 'BYTES', shape: [3], data: CLASSES },
          { name: 'template', datatype: 'BYTES', shape: [1], data: [TEMPLATE] },
        ],
      }),
    });
    const asJson = await answerOf(json);
    expect(asJson).toMatchObject({ id: 'retry', parameters: { billed_requests: 1, billed_image_queries: 9 } });
    expect(asJson.outputs[0].data).toEqual(first.outputs[0].data);
    expect(served()).toBe(1);
    await ask(provider.url, 'two');
    await ask(provider.url, undefined);
    expect(served()).toBe(3);
  });

  it('are paid when the answer was kept no longer, even where its images have to be sent again', async () => {
    const first = await logitsOf(await ask(provider.url, 'kept'));
    await control(provider.url, 'reset', { usage: false, caches: true });
    expect(
      (await logitsOf(await ask(provider.url, 'kept', question([TEMPLATE], images.map(referenceTo))))).data,
    ).toEqual(first.data);
    expect(served()).toBe(1);
  });

  it.each<[string, () => Tensor[]]>([
    ['another template', () => question(['an icon of a {}.'])],
    ['one prompt more', () => question([TEMPLATE, TEMPLATE])],
    ['another image', () => question([TEMPLATE], [...images.slice(0, 8), images[0]])],
    ['another order of images', () => question([TEMPLATE], [...images].reverse())],
    ['other class names', () => question([TEMPLATE], images, ['cat face', 'red heart', 'horse'])],
    ['a context', () => inputs(images, CLASSES, new Float32Array(512))],
  ])('are refused for %s', async (_, other) => {
    await ask(provider.url, 'used');
    expect(await codeOf(await ask(provider.url, 'used', other()))).toEqual({
      status: 422,
      code: 'idempotency_key_reused',
    });
    expect(served()).toBe(1);
    expect((await ask(provider.url, 'other', other())).status).toBe(200);
    expect(served()).toBe(2);
  });

  it('tell contexts apart by their numbers', async () => {
    const context = new Float32Array(1024).fill(0.1);
    await ask(provider.url, 'context', inputs(images, CLASSES, context));
    context[1023] = 0.2;
    expect((await ask(provider.url, 'context', inputs(images, CLASSES, context))).status).toBe(422);
  });

  it('belong to one client', async () => {
    await ask(provider.url, 'mine', question(), 'alpha');
    await ask(provider.url, 'mine', question(), 'alpha');
    expect((await ask(provider.url, 'mine', question(['{}']), 'beta')).status).toBe(200);
    const { keys } = provider.usage.report();
    expect(Object.values(keys).map((usage) => usage.requests)).toEqual([1, 1]);
  });

  it('let a concurrent retry wait for the first', async () => {
    await control(provider.url, 'reset', { caches: true });
    const answers = await Promise.all([1, 2, 3].map(async () => logitsOf(await ask(provider.url, 'same'))));
    expect(answers[1]).toEqual(answers[0]);
    expect(answers[2]).toEqual(answers[0]);
    expect(served()).toBe(1);
  });

  it.each(['', 'é', 'x'.repeat(256)])('must be printable and short: "%s"', async (key) => {
    expect(await codeOf(await ask(provider.url, key))).toEqual({ status: 400, code: 'invalid_idempotency_key' });
    expect(served()).toBe(0);
    expect((await ask(provider.url, 'x'.repeat(255))).status).toBe(200);
  });

  it.each(['429', '500', '503', 'drop_before', 'hang'])('are not used up by %s', async (kind) => {
    await control(provider.url, 'misbehave', { fail_next: [{ kind }] });
    const body = binaryRequest(question(['{}']));
    const patience = new AbortController();
    const failed = post(provider.url, body, { headers: { 'idempotency-key': 'failing' }, signal: patience.signal });
    const ended = failed.then(
      (response) => expect(response.status).toBe(Number(kind)),
      () => expect(['drop_before', 'hang']).toContain(kind),
    );
    await expect.poll(() => provider.misbehaviour.status().committed).toEqual({ [kind]: 1 });
    if (kind === 'hang') patience.abort();
    await ended;
    expect(served()).toBe(0);
    expect((await ask(provider.url, 'failing')).status).toBe(200);
    expect(served()).toBe(1);
  });

  it('are not used up by a request that cannot be answered', async () => {
    await control(provider.url, 'reset', { caches: true });
    const unknown = question([TEMPLATE], images.map(referenceTo));
    expect((await codeOf(await ask(provider.url, 'unsure', unknown))).code).toBe('unknown_images');
    const svg = question([TEMPLATE], [encode('<svg/>')]);
    expect((await codeOf(await ask(provider.url, 'unsure', svg))).code).toBe('unreadable_image');
    expect((await ask(provider.url, 'unsure')).status).toBe(200);
    expect(served()).toBe(1);
  });

  it.each(['drop_after', 'truncate', 'malformed'])(
    'get the answer that %s spoilt, and spoilt replays too',
    async (kind) => {
      await control(provider.url, 'misbehave', { fail_next: [{ kind, count: 2 }] });
      const spoilt = async () => logitsOf(await ask(provider.url, 'spoilt'));
      await expect(spoilt()).rejects.toThrow();
      await expect(spoilt()).rejects.toThrow();
      expect(served()).toBe(1);
      expect((await spoilt()).shape).toEqual([1, 9, 3]);
      expect(served()).toBe(1);
    },
  );

  it('begin anew with the books', async () => {
    await ask(provider.url, 'old');
    await control(provider.url, 'reset', { usage: true });
    expect((await ask(provider.url, 'old', question(['{}']))).status).toBe(200);
    expect(served()).toBe(1);
  });
});

it('ignores idempotency keys when told to', async () => {
  const provider = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY, threads: 1, idempotency: false });
  try {
    const { parameters } = await getJson(`${provider.url}/v2/models/emoji-clip`);
    expect(Object.keys(parameters).filter((name) => name.startsWith('idempotency'))).toEqual([]);
    for (const key of ['k', 'k', 'x'.repeat(300)]) expect((await ask(provider.url, key)).status).toBe(200);
    expect((await ask(provider.url, 'k', question(['{}']))).status).toBe(200);
    expect(provider.usage.report().totals.requests).toBe(4);
  } finally {
    await provider.close();
  }
});

describe('a provider process with a state file', () => {
  const PROGRAM = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
  let directory: string;
  let stateFile: string;
  let child: ChildProcess | undefined;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'craft-provider-'));
    stateFile = join(directory, 'state', 'usage.jsonl');
  });
  afterEach(async () => {
    await kill();
    rmSync(directory, { recursive: true, force: true });
  });

  async function start(environment: Record<string, string> = {}): Promise<string> {
    child = fork(PROGRAM, ['provider'], {
      env: { ...process.env, CRAFT_PROVIDER_PORT: '0', CRAFT_PROVIDER_STATE: stateFile, ...environment },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const [{ url }] = (await once(child, 'message')) as [{ url: string }];
    return url;
  }

  async function kill(): Promise<void> {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  const totals = async (url: string) => (await getJson(`${url}/control/usage`)).totals;
  const lines = () => readFileSync(stateFile, 'utf8').split('\n').slice(0, -1);

  it('keeps counts and paid keys when it is killed, and answers again with the same bits', async () => {
    let url = await start();
    const first = await logitsOf(await ask(url, 'paid', question(), 'alpha'));
    await logitsOf(await ask(url, undefined, question([TEMPLATE, '{}'])));
    const before = await getJson(`${url}/control/usage`);
    expect(before.totals).toEqual({ requests: 2, prompt_evaluations: 3, image_queries: 27, text_embeddings: 0 });
    await kill();
    appendFileSync(stateFile, '{"client":"anonymous","prompts":4');

    url = await start();
    expect(await getJson(`${url}/control/usage`)).toEqual(before);
    const unknown = await ask(url, 'paid', question([TEMPLATE], images.map(referenceTo)), 'alpha');
    expect((await codeOf(unknown)).code).toBe('unknown_images');
    expect((await logitsOf(await ask(url, 'paid', question(), 'alpha'))).data).toEqual(first.data);
    expect((await ask(url, 'paid', question(['{}']), 'alpha')).status).toBe(422);
    expect(await getJson(`${url}/control/usage`)).toEqual(before);
    expect(lines().map((line) => JSON.parse(line))).toMatchObject([
      { prompts: 1, images: 9, key: 'paid', question: expect.stringMatching(/^[0-9a-f]{64}$/) },
      { client: 'anonymous', prompts: 2, images: 9 },
    ]);
    expect(readFileSync(stateFile, 'utf8')).not.toContain('alpha');
    await kill();

    url = await start({ CRAFT_PROVIDER_IDEMPOTENCY: 'false' });
    expect((await ask(url, 'paid', question(['{}']), 'alpha')).status).toBe(200);
    expect((await totals(url)).requests).toBe(3);
    await control(url, 'reset', {});
    expect(lines()).toEqual([]);
    await kill();
    expect((await totals(await start())).requests).toBe(0);
  });

  it('neither loses nor invents a count however often it is killed under load', async () => {
    const answers = new Map<string, Float32Array>();
    const asked = new Set<string>();
    const templateOf = (key: string) => `${key} photo of a {}.`;
    const buy = async (url: string, key: string) => {
      asked.add(key);
      const { data } = await logitsOf(await ask(url, key, question([templateOf(key)])));
      const known = answers.get(key);
      if (known === undefined) answers.set(key, data);
      else expect(data).toEqual(known);
    };
    let url = await start();
    for (let round = 0; round < 4; round++) {
      await control(url, 'misbehave', {
        seed: round,
        error_rate: { drop_after: 0.2, truncate: 0.1, drop_before: 0.1 },
      });
      const before = (await totals(url)).requests;
      const clients = [0, 1, 2, 3].map(async (client) => {
        for (let i = 0; child?.signalCode === null; i++) await buy(url, `${round} ${client} ${i}`).catch(() => {});
      });
      await expect.poll(() => lines().length, { interval: 1, timeout: 20_000 }).toBeGreaterThan(before + 20);
      await kill();
      await Promise.all(clients);
      const written = lines();
      expect(new Set(written.map((line) => JSON.parse(line).key)).size).toBe(written.length);
      url = await start();
      expect((await totals(url)).requests).toBe(written.length);
      expect(written.length).toBeGreaterThanOrEqual(answers.size);
    }
    expect(asked.size).toBeGreaterThan(answers.size);
    for (const key of asked) await buy(url, key);
    expect(await totals(url)).toEqual({
      requests: asked.size,
      prompt_evaluations: asked.size,
      image_queries: 9 * asked.size,
      text_embeddings: 0,
    });
  });
});
