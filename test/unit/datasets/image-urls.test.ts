import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { DatasetStore } from '../../../src/datasets/dataset-store.js';
import type { FetchImage } from '../../../src/datasets/image-fetcher.js';
import type { DatasetLimits } from '../../../src/datasets/limits.js';
import {
  datasetOf,
  dataUri,
  image,
  ingestBytes,
  inPieces,
  jsonl,
  smallLimits,
  temporaryFolder,
  zip,
} from '../../helpers/dataset-files.js';
import { testDatabase } from '../../helpers/postgres.js';

const cat = await image(1);
const dog = await image(2);

/** What the server answers at each path; what is asked for is counted. */
const answers = new Map<string, (response: ServerResponse) => void>();
const asked = new Map<string, number>();
let underWay = 0;
let mostUnderWay = 0;
const server = createServer((request, response) => {
  const url = request.url ?? '';
  asked.set(url, (asked.get(url) ?? 0) + 1);
  mostUnderWay = Math.max(mostUnderWay, ++underWay);
  response.on('close', () => underWay--);
  const answer = answers.get(url.split('?')[0]);
  if (answer) answer(response);
  else response.writeHead(404).end();
});
let origin: string;

beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  answers.clear();
  asked.clear();
  mostUnderWay = 0;
  answers.set('/cat.png', (response) => response.end(cat));
  answers.set('/dog.png', (response) => response.end(dog));
});

class Refused extends Error {
  constructor(
    readonly reason: string,
    message: string,
  ) {
    super(message);
  }
}

/** A plain one; what it must keep out is tested where it is made for the service. */
const fetchImage: FetchImage = async (url, { maxBytes, signal }) => {
  let response: Response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    throw new Refused('image_url_unreachable', `${url}: ${String(error)}`);
  }
  if (!response.ok) throw new Refused('image_url_unreachable', `${url} answered ${response.status}.`);
  const bytes = Buffer.from(await response.arrayBuffer());
  if (bytes.length > maxBytes) throw new Refused('image_too_large', `${url} is too large.`);
  return bytes;
};

const fetched = (bytes: Buffer, limits: Partial<DatasetLimits> = {}) => datasetOf(bytes, limits, { fetchImage });
const line = (path: string, label: string) => ({ image: path.startsWith('/') ? origin + path : path, label });

describe('images behind URLs', () => {
  test.each<[string, () => Buffer | Promise<Buffer>]>([
    ['a JSONL', () => jsonl([line('/cat.png', 'cat'), line('/dog.png', 'dog')])],
    ['a CSV', () => Buffer.from(`url,label\n${origin}/cat.png,cat\n${origin}/dog.png,dog\n`)],
    [
      'conversations',
      () =>
        jsonl(
          ['cat', 'dog'].map((label) =>
            JSON.stringify({
              messages: [
                { role: 'user', content: [{ type: 'image_url', image_url: { url: `${origin}/${label}.png` } }] },
                { role: 'assistant', content: label },
              ],
            }),
          ),
        ),
    ],
    ['a ZIP', () => zip({ 'list.jsonl': jsonl([line('/cat.png', 'cat'), line('dog.png', 'dog')]), 'dog.png': dog })],
    [
      'a ZIP with metadata in a split folder',
      () =>
        zip({
          'train/metadata.csv': Buffer.from(`file_name,label\n${origin}/cat.png,cat\n${origin}/dog.png,dog\n`),
          'validation/metadata.csv': Buffer.from('file_name,label\n'),
        }),
    ],
  ])('are fetched for %s', async (_, upload) => {
    const { images } = await fetched(await upload());
    expect(images.map(({ split, label, bytes }) => [split, label, bytes])).toEqual([
      ['train', 'cat', cat],
      ['train', 'dog', dog],
    ]);
  });

  test('are fetched once each, and counted once for a class and split', async () => {
    const list = [
      line('/cat.png', 'cat'),
      line('/cat.png', 'cat'),
      line('/dog.png', 'dog'),
      line('/cat.png?v=2', 'cat'),
    ];
    const { images, report } = await fetched(jsonl(list));
    expect(images.map(({ label }) => label)).toEqual(['cat', 'cat', 'dog']);
    expect(report.duplicates).toBe(2);
    expect(Object.fromEntries(asked)).toEqual({ '/cat.png': 1, '/cat.png?v=2': 1, '/dog.png': 1 });
  });

  test('under two labels are rejected in both places, after one fetch', async () => {
    const lines = [line('/cat.png', 'cat'), line('/dog.png', 'dog'), line('/cat.png', 'dog')];
    const { report } = await fetched(jsonl([...lines, { image: dataUri(await image(3)), label: 'cat' }]));
    expect(report.rejected.map(({ entry, reason }) => [entry, reason])).toEqual([
      [`line 1 (${origin}/cat.png)`, 'conflicting_label'],
      [`line 3 (${origin}/cat.png)`, 'conflicting_label'],
    ]);
    expect(asked.get('/cat.png')).toBe(1);
  });

  test('that cannot be had are rejected, without what their URLs may keep secret', async () => {
    answers.set('/large.png', (response) => response.end(Buffer.alloc(2000)));
    answers.set('/text.png', (response) => response.end('hello'));
    const secret = origin.replace('//', '//user:SECRET@');
    const list = [
      line('/cat.png', 'cat'),
      line('/dog.png', 'dog'),
      line('/gone.png?signature=SECRET#SECRET', 'cat'),
      line('/large.png', 'cat'),
      line('/text.png', 'cat'),
      line('ftp://user:SECRET@example.org/a.png?SECRET', 'cat'),
      line('s3://bucket/a.png', 'cat'),
      line('https://', 'cat'),
      line(`${origin}/${'x'.repeat(9000)}`, 'cat'),
      ...Array.from({ length: 8 }, (_, i) => line(`/cat.png?${i}`, 'cat')),
    ];
    const { report } = await fetched(jsonl([...list, line(`${secret}/gone.png`, 'cat')]), { maxImageBytes: 1500 });
    expect(report.rejected.map(({ entry, reason }) => [entry.slice(0, 60), reason])).toEqual([
      [expect.stringContaining('line 18 ('), 'image_url_unreachable'],
      [`line 3 (${origin}/gone.png)`, 'image_url_unreachable'],
      [`line 4 (${origin}/large.png)`, 'image_too_large'],
      [`line 5 (${origin}/text.png)`, 'unsupported_image_format'],
      ['line 6 (ftp://example.org/a.png)', 'image_url_refused'],
      ['line 7 (s3://bucket/a.png)', 'image_url_refused'],
      ['line 8 (an invalid URL)', 'image_url_refused'],
      [expect.stringContaining('line 9 ('), 'image_url_refused'],
    ]);
    expect(report.rejected[1].message).toBe(`${origin}/gone.png answered 404.`);
    expect(JSON.stringify(report)).not.toContain('SECRET');
  });

  test('are fetched sixteen at a time', async () => {
    const waiting: (() => void)[] = [];
    answers.set('/slow.png', (response) => {
      waiting.push(() => response.end(cat));
      if (waiting.length === 16) for (const release of waiting.splice(0)) release();
    });
    const list = Array.from({ length: 48 }, (_, i) => line(`/slow.png?${i}`, 'cat'));
    const { images } = await fetched(jsonl([...list, { image: dataUri(dog), label: 'dog' }]));
    expect(images).toHaveLength(49);
    expect(mostUnderWay).toBe(16);
  });

  test('make the same data set in any order of lines', async () => {
    const lines = [
      line('/cat.png', 'cat'),
      line('/dog.png', 'dog'),
      line('/cat.png?1', 'cat'),
      { image: dataUri(await image(3)), label: 'dog', split: 'validation' },
    ];
    const one = await fetched(jsonl(lines));
    expect(await fetched(jsonl([...lines].reverse()))).toEqual(one);
  });
});

describe('an upload is refused whose images behind URLs', () => {
  test('have too many bytes together, counting those that are too large', async () => {
    answers.set('/large.png', (response) => response.end(Buffer.alloc(2000)));
    const list = [line('/cat.png', 'cat'), line('/dog.png', 'dog')];
    const large = Array.from({ length: 10 }, (_, i) => line(`/large.png?${i}`, 'cat'));
    const limits = { maxImageBytes: 1000, maxExpandedBytes: 5000 };
    expect((await fetched(jsonl([...list, large[0], large[1]]), limits)).report.rejected_count).toBe(2);
    await expect(fetched(jsonl([...list, ...large]), limits)).rejects.toMatchObject({
      status: 413,
      code: 'expanded_too_large',
    });
  });

  test('do not come in time', async () => {
    answers.set('/never.png', () => {});
    const list = [line('/cat.png', 'cat'), line('/dog.png', 'dog'), line('/never.png', 'dog')];
    await expect(fetched(jsonl(list), { maxFetchSeconds: 0.3 })).rejects.toMatchObject({
      status: 400,
      code: 'image_urls_too_slow',
      param: 'file',
    });
  });

  test('are on the way when something else is wrong: they are not waited for', async () => {
    answers.set('/never.png', () => {});
    const list = [line('/never.png', 'cat'), line('/cat.png', '\0')];
    await expect(fetched(jsonl(list))).rejects.toMatchObject({ code: 'invalid_label' });
  });

  test('cannot be fetched, because nothing is configured that does', async () => {
    await expect(ingestBytes(jsonl([line('/cat.png', 'cat')]))).rejects.toMatchObject({
      code: 'image_url_not_supported',
      message: expect.stringContaining('Line 1'),
    });
    expect(asked.size).toBe(0);
  });
});

test('a fault of fetching itself is no refusal of the image', async () => {
  const broken = async () => {
    throw new TypeError('a bug');
  };
  const upload = jsonl([line('/cat.png', 'cat')]);
  await expect(datasetOf(upload, {}, { fetchImage: broken })).rejects.toThrow('a bug');
});

test('the store fetches with what it was given', async () => {
  const { database } = await testDatabase();
  const store = new DatasetStore({ database, directory: await temporaryFolder(), limits: smallLimits(), fetchImage });
  const record = await store.create({
    stream: inPieces(jsonl([line('/cat.png', 'cat'), line('/dog.png', 'dog')])),
    filename: 'urls.jsonl',
    purpose: 'fine-tune',
  });
  expect(record.report.images).toEqual({ train: 2, validation: 0 });
  expect(record.descriptions).toEqual([null, null]);
});
