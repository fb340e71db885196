import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { text } from 'node:stream/consumers';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { toDataUri } from '../../src/demo/example-data.js';
import {
  createJob,
  errorOf,
  exampleImages,
  exportAdapter,
  ok,
  quickJob,
  runJob,
  sendForm,
  uploadImages,
  withDescription,
  withTensor,
} from '../helpers/api.js';
import { dataUri, image, jsonl, type RawEntry, rawZip, zip } from '../helpers/dataset-files.js';
import { query } from '../helpers/postgres.js';
import { API_KEY, type TestService, testService } from '../helpers/service.js';

/** Whatever is sent, the answer says what is wrong in one form, and the service goes on serving. */

const MAX_UPLOAD_BYTES = 2_000_000;
const MAX_PREDICT_BYTES = 3_000_000;
const JOBS = '/v1/fine_tuning/jobs';

interface Bad {
  what: string;
  send: () => Response | Promise<Response>;
  status?: number;
  code: string;
  param?: string | null;
  /** A part of the message that tells what to do. */
  says: string | RegExp;
}

let service: TestService;
/** What valid requests would name. */
const known = {
  file: '',
  classes: [] as string[],
  /** Its job is not finished while the tests run. */
  busyFile: '',
  busyJob: '',
  busyProvider: '',
  unusedProvider: '',
  finishedJob: '',
  deletedFile: '',
  otherClasses: '',
  withValidation: '',
  adapter: '',
  exported: new Uint8Array() as Uint8Array,
  image: '',
  strangerUrl: '',
};

const cat = await image(1);
const dog = await image(2);
const good: RawEntry[] = [
  { name: 'cat/1.png', data: cat },
  { name: 'dog/1.png', data: dog },
];
const twoLines = [
  { image: dataUri(cat), label: 'cat' },
  { image: dataUri(dog), label: 'dog' },
];
/** Its header promises 8,000 × 8,000 pixels, more than are allowed. */
const hugeImage = await sharp({ create: { width: 8000, height: 8000, channels: 3, background: 'white' } })
  .png({ compressionLevel: 9 })
  .toBuffer();
const corruptImage = Buffer.concat([cat.subarray(0, 40), Buffer.alloc(40, 7)]);

const stranger = createServer((_request, response) => {
  response.writeHead(200, { 'content-type': 'text/html' }).end('<h1>It works!</h1>');
});

beforeAll(async () => {
  service = await testService({
    CRAFT_MAX_UPLOAD_BYTES: String(MAX_UPLOAD_BYTES),
    CRAFT_MAX_PREDICT_BYTES: String(MAX_PREDICT_BYTES),
    CRAFT_WORKER_CONCURRENCY: '2',
  });
  await new Promise<void>((resolve) => stranger.listen(0, '127.0.0.1', resolve));
  known.strangerUrl = `http://127.0.0.1:${(stranger.address() as AddressInfo).port}`;

  const images = await exampleImages(3, 3);
  known.classes = [...new Set(images.map(({ label }) => label))];
  known.image = toDataUri(images[0].bytes);
  known.file = await uploadImages(service, images);
  const job = await runJob(service, quickJob(known.file));
  expect(job.status).toBe('succeeded');
  known.finishedJob = job.id;
  known.adapter = job.fine_tuned_model ?? '';
  known.exported = await exportAdapter(service, known.adapter);

  known.deletedFile = await uploadImages(service, images);
  await ok(service.request('DELETE', `/v1/files/${known.deletedFile}`));
  known.otherClasses = (await ok<{ id: string }>(service.upload(new Uint8Array(jsonl(twoLines))))).id;
  const split = images.map(({ bytes, label }, i) => ({
    image: toDataUri(bytes),
    label,
    split: i % 3 === 2 ? 'validation' : 'train',
  }));
  known.withValidation = (await ok<{ id: string }>(service.upload(new Uint8Array(jsonl(split))))).id;

  // One request in two seconds: its job is under way until it is cancelled.
  const slow = { ...providerRecord('slow'), limits: { requests_per_second: 0.5 } };
  known.busyProvider = (await ok<{ id: string }>(service.request('POST', '/v1/providers', slow))).id;
  known.unusedProvider = (
    await ok<{ id: string }>(service.request('POST', '/v1/providers', providerRecord('idle')))
  ).id;
  known.busyFile = await uploadImages(service, images);
  const busy = quickJob(known.busyFile, { budget: { max_prompt_evaluations: 5000 } }, { model: 'slow' });
  known.busyJob = (await createJob(service, busy, { 'idempotency-key': 'busy' })).id;
});

afterAll(() => {
  stranger.close();
});

function providerRecord(name: string, changes: Record<string, unknown> = {}) {
  return {
    name,
    protocol: 'open_inference',
    base_url: service.provider.url,
    remote_model: 'emoji-clip',
    credentials: { type: 'bearer', token: service.providerKey },
    ...changes,
  };
}

const send = (method: string, path: string, body?: unknown, headers?: Record<string, string>) => () =>
  service.request(method, path, body, headers);
const withKey = (authorization?: string) => () =>
  fetch(service.url + JOBS, { headers: authorization === undefined ? {} : { authorization } });
const post = (path: string, contentType: string, body: string) => () =>
  fetch(service.url + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${API_KEY}`, 'content-type': contentType },
    body,
  });
const upload = (make: () => Buffer | Promise<Buffer>) => async () => service.upload(new Uint8Array(await make()));
const uploadLines = (...lines: Parameters<typeof jsonl>[0]) => upload(() => jsonl(lines));
const withEntry = (entry: RawEntry) => upload(() => rawZip([...good, entry]));
const create =
  (craft: () => Record<string, unknown>, rest: () => Record<string, unknown> = () => ({})) =>
  () =>
    service.request('POST', JOBS, quickJob(known.file, craft(), rest()));
const createWith = (rest: () => Record<string, unknown>) => create(() => ({}), rest);
const hyperparameters = (values: Record<string, unknown>) => create(() => ({ hyperparameters: values }));
const budget = (values: Record<string, unknown>) => create(() => ({ budget: values }));
const register = (changes: () => Record<string, unknown>) => () =>
  service.request('POST', '/v1/providers', providerRecord('candidate', changes()));
const predict = (body: () => unknown) => () => service.request('POST', `/v1/adapters/${known.adapter}/predict`, body());
const importAdapter = (make: () => Uint8Array) => () =>
  sendForm(service, '/v1/adapters/import', [{ name: 'file', value: make(), filename: 'adapter.safetensors' }]);

/** Sends bytes that no HTTP client would send, and reads until the connection is closed. */
async function rawAnswers(bytes: string): Promise<string> {
  const { hostname, port } = new URL(service.url);
  const socket = connect(Number(port), hostname);
  socket.write(bytes);
  return text(socket);
}

async function rawRequest(bytes: string): Promise<Response> {
  const [head, body] = (await rawAnswers(bytes)).split('\r\n\r\n');
  const [statusLine, ...lines] = head.split('\r\n');
  const headers = lines.map((line) => line.split(/: */, 2) as [string, string]);
  return new Response(body, { status: Number(statusLine.split(' ')[1]), headers });
}

const requests: Bad[] = [
  { what: 'no key', send: withKey(), status: 401, code: 'missing_api_key', says: 'Authorization: Bearer' },
  { what: 'a wrong key', send: withKey('Bearer ck-nobody'), status: 401, code: 'invalid_api_key', says: 'api-key' },
  { what: 'another scheme', send: withKey('Basic YTpi'), status: 401, code: 'missing_api_key', says: 'Bearer <key>' },
  { what: 'an empty key', send: withKey('Bearer '), status: 401, code: 'missing_api_key', says: 'Bearer <key>' },
  {
    what: 'an unknown route',
    send: send('GET', '/v1/fine_tunes'),
    status: 404,
    code: 'route_not_found',
    says: '/docs',
  },
  {
    what: 'a wrong method',
    send: send('DELETE', JOBS),
    status: 405,
    code: 'method_not_allowed',
    says: `no DELETE ${JOBS}, only POST, GET`,
  },
  {
    what: 'a URL that is no URL',
    send: send('GET', '/v1/files/%E0%A4%A'),
    code: 'invalid_url',
    says: 'percent-encode',
  },
  {
    what: 'a path without end',
    send: send('GET', `/v1/files/${'x'.repeat(300)}`),
    code: 'invalid_url',
    says: 'shorter',
  },
  {
    what: 'a NUL in the path',
    send: send('GET', '/v1/files/a%00b'),
    code: 'invalid_text',
    param: 'file_id',
    says: 'Remove',
  },
  {
    what: 'a NUL in the query',
    send: send('GET', '/v1/files?after=%00'),
    code: 'invalid_text',
    param: 'after',
    says: 'Remove',
  },
  {
    what: 'something that is no HTTP',
    send: () => rawRequest('HELO craft\r\n\r\n'),
    code: 'invalid_http',
    says: 'HTTP/1.1',
  },
  {
    what: 'headers without end',
    send: () => rawRequest(`GET / HTTP/1.1\r\nHost: a\r\nX-Long: ${'x'.repeat(20_000)}\r\n\r\n`),
    status: 431,
    code: 'headers_too_large',
    says: 'fewer or shorter headers',
  },
  { what: 'broken JSON', send: send('POST', JOBS, '{"model": '), code: 'invalid_json', says: 'quotes, commas' },
  { what: 'an empty body', send: send('POST', JOBS, ''), code: 'invalid_parameter', says: 'no JSON body' },
  { what: 'no body', send: send('POST', JOBS), code: 'invalid_parameter', says: 'JSON object' },
  { what: 'a JSON array', send: send('POST', JOBS, []), code: 'invalid_parameter', says: 'expected object' },
  {
    what: 'a compressed body',
    send: send('POST', JOBS, '{}', { 'content-encoding': 'gzip' }),
    status: 415,
    code: 'unsupported_content_encoding',
    param: 'Content-Encoding',
    says: 'without Content-Encoding',
  },
  {
    what: 'a query parameter given twice',
    send: send('GET', `${JOBS}?limit=1&limit=2`),
    code: 'repeated_parameter',
    param: 'limit',
    says: 'Send it once',
  },
  {
    what: 'a page of no number',
    send: send('GET', `${JOBS}?limit=many`),
    code: 'invalid_parameter',
    param: 'limit',
    says: 'a whole number from 1 to 1000',
  },
  {
    what: 'a text body',
    send: post(JOBS, 'text/plain', '{}'),
    status: 415,
    code: 'unsupported_media_type',
    says: 'application/json',
  },
  {
    what: 'an XML body',
    send: post(JOBS, 'application/xml', '<a/>'),
    status: 415,
    code: 'unsupported_media_type',
    says: 'application/json',
  },
  {
    what: 'a form for a JSON route',
    send: () => sendForm(service, JOBS, [{ name: 'model', value: 'a' }]),
    code: 'invalid_parameter',
    says: 'application/json',
  },
  {
    what: 'a poisoned prototype',
    send: send('POST', JOBS, '{"__proto__": {"model": "a"}}'),
    code: 'invalid_json',
    says: '__proto__',
  },
  {
    what: 'values nested without end',
    send: send('POST', JOBS, `{"metadata": ${'['.repeat(100_000)}${']'.repeat(100_000)}}`),
    code: 'nested_too_deep',
    param: `metadata${'.0'.repeat(31)}`,
    says: 'less deep',
  },
  {
    what: 'items without end',
    send: send('POST', JOBS, `{"metadata": [${'"",'.repeat(100_000)}""]}`),
    code: 'too_many_items',
    param: 'metadata',
    says: 'fewer items',
  },
  {
    what: 'an oversize JSON body',
    send: send('POST', JOBS, { model: 'x'.repeat(1_100_000) }),
    status: 413,
    code: 'body_too_large',
    says: 'Send fewer',
  },
];

const forms: Bad[] = [
  {
    what: 'JSON in place of a form',
    send: send('POST', '/v1/files', {}),
    status: 415,
    code: 'multipart_expected',
    says: 'multipart/form-data',
  },
  {
    what: 'a form without boundary',
    send: post('/v1/files', 'multipart/form-data', 'x'),
    code: 'malformed_form',
    says: 'boundary',
  },
  {
    what: 'a form without end',
    send: post(
      '/v1/files',
      'multipart/form-data; boundary=x',
      '--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune',
    ),
    code: 'malformed_form',
    says: 'boundary',
  },
  {
    what: 'a form that ends within its file',
    send: post(
      '/v1/files',
      'multipart/form-data; boundary=x',
      '--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\nPK',
    ),
    code: 'upload_aborted',
    param: 'file',
    says: 'send it again',
  },
  {
    what: 'a field named __proto__',
    send: () => sendForm(service, '/v1/files', [{ name: '__proto__', value: 'a' }]),
    code: 'malformed_form',
    says: 'documented fields',
  },
  {
    what: 'no purpose',
    send: async () =>
      sendForm(service, '/v1/files', [
        { name: 'file', value: await zip({ 'cat/1.png': cat, 'dog/1.png': dog }), filename: 'a.zip' },
      ]),
    code: 'purpose_missing',
    param: 'purpose',
    says: 'purpose=fine-tune',
  },
  {
    what: 'a field that an upload does not have',
    send: () =>
      sendForm(service, '/v1/files', [
        { name: 'purpose', value: 'fine-tune' },
        { name: 'expires_after[anchor]', value: 'created_at' },
        { name: 'file', value: jsonl(twoLines), filename: 'a.jsonl' },
      ]),
    code: 'unknown_parameter',
    param: 'expires_after[anchor]',
    says: 'Remove it',
  },
  {
    what: 'a field that an upload does not have, after its file',
    send: () =>
      sendForm(service, '/v1/files', [
        { name: 'purpose', value: 'fine-tune' },
        { name: 'file', value: jsonl(twoLines), filename: 'a.jsonl' },
        { name: 'clases', value: '{}' },
      ]),
    code: 'unknown_parameter',
    param: 'clases',
    says: 'check its spelling',
  },
  {
    what: 'a field that an import does not have',
    send: async () =>
      sendForm(service, '/v1/adapters/import', [
        { name: 'file', value: await exportAdapter(service, known.adapter), filename: 'adapter.safetensors' },
        { name: 'sufix', value: 'a' },
      ]),
    code: 'unknown_parameter',
    param: 'sufix',
    says: 'check its spelling',
  },
  {
    what: 'a wrong purpose',
    send: () => service.upload(new Uint8Array(jsonl(twoLines)), 'a.jsonl', 'assistants'),
    code: 'invalid_purpose',
    param: 'purpose',
    says: '"fine-tune"',
  },
  {
    what: 'a wrong purpose with a large file behind it',
    send: () => service.upload(new Uint8Array(1_900_000).fill(32), 'a.jsonl', 'assistants'),
    code: 'invalid_purpose',
    param: 'purpose',
    says: '"fine-tune"',
  },
  {
    what: 'a wrong purpose after the file',
    send: () =>
      sendForm(service, '/v1/files', [
        { name: 'file', value: jsonl(twoLines), filename: 'a.jsonl' },
        { name: 'purpose', value: 'batch' },
      ]),
    code: 'invalid_purpose',
    param: 'purpose',
    says: '"fine-tune"',
  },
  {
    what: 'two purposes',
    send: () =>
      sendForm(service, '/v1/files', [
        { name: 'purpose', value: 'fine-tune' },
        { name: 'file', value: jsonl(twoLines), filename: 'a.jsonl' },
        { name: 'purpose', value: 'fine-tune' },
      ]),
    code: 'repeated_parameter',
    param: 'purpose',
    says: 'Send it once',
  },
  {
    what: 'no file',
    send: () => sendForm(service, '/v1/files', [{ name: 'purpose', value: 'fine-tune' }]),
    code: 'file_missing',
    param: 'file',
    says: 'form field "file"',
  },
  {
    what: 'two files',
    send: () =>
      sendForm(service, '/v1/files', [
        { name: 'purpose', value: 'fine-tune' },
        { name: 'file', value: jsonl(twoLines), filename: 'a.jsonl' },
        { name: 'file', value: jsonl(twoLines), filename: 'b.jsonl' },
      ]),
    code: 'one_file_expected',
    param: 'file',
    says: 'exactly one file',
  },
  {
    what: 'a file under another name',
    send: () =>
      sendForm(service, '/v1/files', [
        { name: 'purpose', value: 'fine-tune' },
        { name: 'data', value: jsonl(twoLines), filename: 'a.jsonl' },
      ]),
    code: 'unexpected_file_field',
    param: 'data',
    says: 'form field "file"',
  },
  {
    what: 'an oversize upload',
    send: upload(() => Buffer.concat([jsonl(twoLines), Buffer.alloc(MAX_UPLOAD_BYTES, '\n')])),
    status: 413,
    code: 'file_too_large',
    param: 'file',
    says: 'CRAFT_MAX_UPLOAD_BYTES',
  },
  {
    what: 'an upload of many times the limit',
    send: upload(() => Buffer.alloc(20 * MAX_UPLOAD_BYTES, '{')),
    status: 413,
    code: 'file_too_large',
    param: 'file',
    says: 'CRAFT_MAX_UPLOAD_BYTES',
  },
];

const files: Bad[] = [
  {
    what: 'an empty file',
    send: upload(() => Buffer.alloc(0)),
    code: 'empty_file',
    says: 'Upload a ZIP, a JSONL or a CSV',
  },
  {
    what: 'a file of neither format',
    send: upload(() => Buffer.from('hello')),
    code: 'unsupported_file_format',
    says: 'Upload a ZIP',
  },
  {
    what: 'a truncated ZIP',
    send: upload(() => rawZip(good).subarray(0, 150)),
    code: 'invalid_zip',
    says: 'upload it again',
  },
  {
    what: 'a zip bomb',
    send: withEntry({ name: 'cat/2.png', data: Buffer.alloc(5_000_000), deflate: true }),
    code: 'zip_bomb',
    says: 'Upload an ordinary ZIP',
  },
  {
    what: 'entries that share bytes',
    send: upload(() => rawZip([...good, { name: 'cat/2.png', data: cat, offset: 0 }])),
    code: 'zip_bomb',
    says: 'overlap',
  },
  {
    what: 'path traversal',
    send: withEntry({ name: '../../evil.png', data: cat }),
    code: 'unsafe_path',
    says: 'plain relative paths',
  },
  {
    what: 'an absolute path',
    send: withEntry({ name: '/etc/passwd', data: cat }),
    code: 'unsafe_path',
    says: 'plain relative paths',
  },
  {
    what: 'a symbolic link',
    send: withEntry({ name: 'cat/2.png', data: cat, mode: 0o120777 }),
    code: 'unsafe_path',
    says: 'zip without -y',
  },
  {
    what: 'an encrypted ZIP',
    send: withEntry({ name: 'cat/2.png', data: cat, flags: 0x801, deflate: true }),
    code: 'encrypted_zip',
    says: 'without a password',
  },
  {
    what: 'a corrupt image that leaves its class empty',
    send: upload(() => zip({ 'cat/1.png': corruptImage, 'dog/1.png': dog })),
    code: 'class_without_images',
    says: 'cannot be decoded',
  },
  {
    what: 'an image with too many pixels',
    send: upload(() => zip({ 'cat/1.png': hugeImage, 'dog/1.png': dog })),
    code: 'class_without_images',
    says: 'Scale it down',
  },
  {
    what: 'a data set of one class',
    send: upload(() => zip({ 'cat/1.png': cat, 'cat/2.png': dog })),
    code: 'too_few_classes',
    says: 'folder of its own',
  },
  {
    what: 'class names that are one name',
    send: upload(() => zip({ 'sea-lion/1.png': cat, 'Sea_Lion/1.png': dog })),
    code: 'duplicate_class',
    says: 'Merge them',
  },
  {
    what: 'a class without images',
    send: upload(() => zip({ 'cat/1.png': cat, 'dog/1.png': dog, 'bird/': Buffer.alloc(0) })),
    code: 'class_without_images',
    says: '"bird"',
  },
  {
    what: 'a line that is no JSON',
    send: uploadLines(...twoLines, '{"image": '),
    code: 'invalid_jsonl',
    says: 'Line 3 is not valid JSON',
  },
  {
    what: 'nothing but images by URLs that must not be called',
    send: uploadLines(
      { image: 'http://169.254.169.254/cat.png', label: 'cat' },
      { image: 'ftp://example.com/dog.png', label: 'dog' },
    ),
    code: 'class_without_images',
    says: /CRAFT_ALLOWED_NETWORKS/,
  },
  {
    what: 'a label that is a number',
    send: uploadLines(...twoLines, { image: dataUri(cat), label: 3 }),
    code: 'invalid_jsonl',
    says: 'Line 3 has the number 3 as "label"',
  },
].map((file) => ({ param: 'file', ...file }));

const resources: Bad[] = [
  ...(
    [
      ['GET', '/v1/files/file-none', 'file_not_found', 'file_id', 'GET /v1/files'],
      ['GET', '/v1/files/file-none/content', 'file_not_found', 'file_id', 'GET /v1/files'],
      ['DELETE', '/v1/files/file-none', 'file_not_found', 'file_id', 'GET /v1/files'],
      ['GET', `${JOBS}/ftjob-none`, 'job_not_found', 'fine_tuning_job_id', `GET ${JOBS}`],
      ['GET', `${JOBS}/ftjob-none/events`, 'job_not_found', 'fine_tuning_job_id', `GET ${JOBS}`],
      ['GET', `${JOBS}/ftjob-none/checkpoints`, 'job_not_found', 'fine_tuning_job_id', `GET ${JOBS}`],
      ['POST', `${JOBS}/ftjob-none/cancel`, 'job_not_found', 'fine_tuning_job_id', `GET ${JOBS}`],
      ['GET', '/v1/providers/prov-none', 'provider_not_found', 'provider_id', 'GET /v1/providers'],
      ['DELETE', '/v1/providers/prov-none', 'provider_not_found', 'provider_id', 'GET /v1/providers'],
      ['GET', '/v1/adapters/ft:none', 'adapter_not_found', 'adapter_id', 'GET /v1/adapters'],
      ['GET', '/v1/adapters/ft:none/export', 'adapter_not_found', 'adapter_id', 'GET /v1/adapters'],
      ['DELETE', '/v1/adapters/ft:none', 'adapter_not_found', 'adapter_id', 'GET /v1/adapters'],
    ] as const
  ).map(([method, path, code, param, says]) => ({
    what: `${method} ${path}`,
    send: send(method, path),
    status: 404,
    code,
    param,
    says,
  })),
  {
    what: 'a live stream of an unknown job',
    send: send('GET', `${JOBS}/ftjob-none/events`, undefined, { accept: 'text/event-stream' }),
    status: 404,
    code: 'job_not_found',
    param: 'fine_tuning_job_id',
    says: `GET ${JOBS}`,
  },
  {
    what: 'a bad cursor of files',
    send: send('GET', '/v1/files?after=nowhere'),
    code: 'invalid_cursor',
    param: 'after',
    says: 'id of a file',
  },
  {
    what: 'a bad cursor of jobs',
    send: send('GET', `${JOBS}?after=nowhere`),
    code: 'invalid_cursor',
    param: 'after',
    says: 'last id of the page before',
  },
  {
    what: 'a bad cursor of adapters',
    send: send('GET', '/v1/adapters?after=nowhere'),
    code: 'invalid_cursor',
    param: 'after',
    says: 'last id of the page before',
  },
  {
    what: 'a bad cursor of events',
    send: () => service.request('GET', `${JOBS}/${known.finishedJob}/events?after=7`),
    code: 'invalid_cursor',
    param: 'after',
    says: 'last id of the page before',
  },
  {
    what: 'a bad cursor of checkpoints',
    send: () => service.request('GET', `${JOBS}/${known.finishedJob}/checkpoints?after=ftckpt_none`),
    code: 'invalid_cursor',
    param: 'after',
    says: 'last id of the page before',
  },
  {
    what: 'a Last-Event-ID that is none',
    send: () =>
      service.request('GET', `${JOBS}/${known.finishedJob}/events`, undefined, {
        accept: 'text/event-stream',
        'last-event-id': 'yesterday',
      }),
    code: 'invalid_cursor',
    param: 'Last-Event-ID',
    says: 'id of an event',
  },
  {
    what: 'limit 0',
    send: send('GET', `${JOBS}?limit=0`),
    code: 'invalid_parameter',
    param: 'limit',
    says: 'from 1 to 1000',
  },
  {
    what: 'limit 10000',
    send: send('GET', '/v1/files?limit=10000'),
    code: 'invalid_parameter',
    param: 'limit',
    says: 'from 1 to 1000',
  },
  {
    what: 'a limit that is no number',
    send: send('GET', '/v1/adapters?limit=all'),
    code: 'invalid_parameter',
    param: 'limit',
    says: 'number',
  },
  {
    what: 'cancelling a finished job',
    send: () => service.request('POST', `${JOBS}/${known.finishedJob}/cancel`),
    status: 409,
    code: 'illegal_job_state',
    param: 'fine_tuning_job_id',
    says: 'is succeeded and cannot be cancelled',
  },
  {
    what: 'deleting a file in use',
    send: () => service.request('DELETE', `/v1/files/${known.busyFile}`),
    status: 409,
    code: 'file_in_use',
    param: 'file_id',
    says: 'Cancel the job or wait',
  },
  {
    what: 'deleting a provider in use',
    send: () => service.request('DELETE', `/v1/providers/${known.busyProvider}`),
    status: 409,
    code: 'provider_in_use',
    param: 'provider_id',
    says: 'Cancel it first',
  },
];

const craft = 'method.craft';
const jobs: Bad[] = [
  {
    what: 'an unknown model',
    send: createWith(() => ({ model: 'gpt-4o' })),
    code: 'model_not_found',
    param: 'model',
    says: 'GET /v1/providers',
  },
  {
    what: 'no model',
    send: createWith(() => ({ model: undefined })),
    code: 'invalid_parameter',
    param: 'model',
    says: 'is missing. Send a string',
  },
  {
    what: 'a model with a NUL',
    send: createWith(() => ({ model: 'a\u0000' })),
    code: 'invalid_text',
    param: 'model',
    says: 'Remove',
  },
  {
    what: 'an unknown training_file',
    send: createWith(() => ({ training_file: 'file-none' })),
    code: 'file_not_found',
    param: 'training_file',
    says: 'Upload it',
  },
  {
    what: 'a deleted training_file',
    send: createWith(() => ({ training_file: known.deletedFile })),
    code: 'file_not_found',
    param: 'training_file',
    says: 'Upload it',
  },
  {
    what: 'an unknown validation_file',
    send: createWith(() => ({ validation_file: 'file-none' })),
    code: 'file_not_found',
    param: 'validation_file',
    says: 'Upload it',
  },
  {
    what: 'a validation file with unknown classes',
    send: createWith(() => ({ validation_file: known.otherClasses })),
    code: 'validation_classes_unknown',
    param: 'validation_file',
    says: 'Name them alike',
  },
  {
    what: 'training images as validation images',
    send: createWith(() => ({ validation_file: known.file })),
    code: 'validation_leak',
    param: 'validation_file',
    says: /^9 validation images .* SHA-256 [0-9a-f]{64}\. Remove each from one/,
  },
  {
    what: 'a hyperparameter that is the text NaN',
    send: hyperparameters({ initial_step_size: 'NaN' }),
    code: 'invalid_parameter',
    param: `${craft}.hyperparameters.initial_step_size`,
    says: 'expected number',
  },
  {
    what: 'a hyperparameter that is infinite',
    send: () =>
      service.request(
        'POST',
        JOBS,
        JSON.stringify(quickJob(known.file, { hyperparameters: { initial_step_size: '@' } })).replace('"@"', '1e999'),
      ),
    code: 'invalid_parameter',
    param: `${craft}.hyperparameters.initial_step_size`,
    says: 'expected number',
  },
  {
    what: 'a negative hyperparameter',
    send: hyperparameters({ head_learning_rate: -0.1 }),
    code: 'invalid_parameter',
    param: `${craft}.hyperparameters.head_learning_rate`,
    says: '>0',
  },
  {
    what: 'a hyperparameter of zero',
    send: hyperparameters({ intrinsic_dimension: 0 }),
    code: 'invalid_parameter',
    param: `${craft}.hyperparameters.intrinsic_dimension`,
    says: '>=1',
  },
  {
    what: 'a fractional population',
    send: hyperparameters({ population_size: 7.5 }),
    code: 'invalid_parameter',
    param: `${craft}.hyperparameters.population_size`,
    says: 'expected int',
  },
  {
    what: 'an unknown hyperparameter',
    send: hyperparameters({ learning_rate: 0.1 }),
    code: 'unknown_parameter',
    param: `${craft}.hyperparameters.learning_rate`,
    says: 'check its spelling',
  },
  {
    what: 'an unknown parameter',
    send: createWith(() => ({ n_epochs: 3 })),
    code: 'unknown_parameter',
    param: 'n_epochs',
    says: 'check its spelling',
  },
  {
    what: 'no method',
    send: send('POST', JOBS, { model: 'emoji-clip', training_file: 'file-x' }),
    code: 'invalid_parameter',
    param: 'method',
    says: 'is missing',
  },
  {
    what: 'another method',
    send: send('POST', JOBS, {
      model: 'emoji-clip',
      training_file: 'file-x',
      method: { type: 'supervised', craft: { budget: {} } },
    }),
    code: 'invalid_parameter',
    param: 'method.type',
    says: '"craft"',
  },
  {
    what: 'no budget',
    send: create(() => ({ budget: undefined })),
    code: 'invalid_parameter',
    param: `${craft}.budget`,
    says: 'is missing',
  },
  {
    what: 'an empty budget',
    send: budget({}),
    code: 'invalid_parameter',
    param: `${craft}.budget`,
    says: 'Set at least one of',
  },
  {
    what: 'a negative budget',
    send: budget({ max_image_queries: -5 }),
    code: 'invalid_parameter',
    param: `${craft}.budget.max_image_queries`,
    says: '>=1',
  },
  {
    what: 'a fractional budget',
    send: budget({ max_requests: 10.5 }),
    code: 'invalid_parameter',
    param: `${craft}.budget.max_requests`,
    says: 'expected int',
  },
  {
    what: 'a budget for less than one generation',
    send: budget({ max_prompt_evaluations: 4 }),
    code: 'budget_too_small',
    param: `${craft}.budget.max_prompt_evaluations`,
    says: 'Raise max_prompt_evaluations',
  },
  {
    what: 'only a cost limit where nothing costs',
    send: budget({ max_cost_usd: 5 }),
    code: 'budget_unbounded',
    param: `${craft}.budget`,
    says: 'Add max_prompt_evaluations',
  },
  {
    what: 'a budget without end',
    send: budget({ max_prompt_evaluations: Number.MAX_SAFE_INTEGER }),
    code: 'budget_unbounded',
    param: `${craft}.budget`,
    says: 'Lower it',
  },
  {
    what: 'validation_fraction with a validation split',
    send: create(
      () => ({ validation_fraction: 0.2 }),
      () => ({ training_file: known.withValidation }),
    ),
    code: 'validation_given_twice',
    param: `${craft}.validation_fraction`,
    says: 'Leave validation_fraction out',
  },
  {
    what: 'a validation_fraction of almost nothing',
    send: create(() => ({ validation_fraction: 0.01 })),
    code: 'validation_fraction_too_small',
    param: `${craft}.validation_fraction`,
    says: 'Raise it',
  },
  {
    what: 'a validation_fraction of everything',
    send: create(() => ({ validation_fraction: 1 })),
    code: 'invalid_parameter',
    param: `${craft}.validation_fraction`,
    says: '<=0.5',
  },
  {
    what: 'best_validation without validation images',
    send: create(() => ({ checkpoint_selection: 'best_validation' })),
    code: 'validation_images_missing',
    param: `${craft}.checkpoint_selection`,
    says: 'validation_fraction',
  },
  {
    what: 'a negative seed',
    send: createWith(() => ({ seed: -1 })),
    code: 'invalid_parameter',
    param: 'seed',
    says: '>=0',
  },
  {
    what: 'a seed out of range',
    send: createWith(() => ({ seed: 2 ** 31 })),
    code: 'invalid_parameter',
    param: 'seed',
    says: '<=2147483647',
  },
  {
    what: 'a suffix with other characters',
    send: createWith(() => ({ suffix: 'my model' })),
    code: 'invalid_parameter',
    param: 'suffix',
    says: 'letters, digits, dashes',
  },
  {
    what: 'too much metadata',
    send: createWith(() => ({ metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`key${i}`, 'x'])) })),
    code: 'invalid_parameter',
    param: 'metadata',
    says: 'At most 16',
  },
  {
    what: 'too long metadata',
    send: createWith(() => ({ metadata: { note: 'x'.repeat(513) } })),
    code: 'invalid_parameter',
    param: 'metadata.note',
    says: '<=512',
  },
  {
    what: 'metadata with a NUL',
    send: createWith(() => ({ metadata: { note: 'a\u0000b' } })),
    code: 'invalid_text',
    param: 'metadata.note',
    says: 'Remove',
  },
  {
    what: 'metadata with half a character',
    send: createWith(() => ({ metadata: { note: '\ud800' } })),
    code: 'invalid_text',
    param: 'metadata.note',
    says: 'Remove',
  },
  {
    what: 'an Idempotency-Key of another request',
    send: () => service.request('POST', JOBS, quickJob(known.busyFile), { 'idempotency-key': 'busy' }),
    status: 409,
    code: 'idempotency_key_reused',
    param: 'Idempotency-Key',
    says: 'Use a new key',
  },
  {
    what: 'an Idempotency-Key without end',
    send: () => service.request('POST', JOBS, quickJob(known.file), { 'idempotency-key': 'x'.repeat(256) }),
    code: 'invalid_parameter',
    param: 'idempotency-key',
    says: '1 to 255 characters',
  },
  {
    what: 'dry_run=maybe',
    send: () => service.request('POST', `${JOBS}?dry_run=maybe`, quickJob(known.file)),
    code: 'invalid_parameter',
    param: 'dry_run',
    says: '"true"|"false"',
  },
];

const providers: Bad[] = [
  {
    what: 'a base_url that is none',
    send: register(() => ({ base_url: 'my server' })),
    code: 'invalid_parameter',
    param: 'base_url',
    says: 'URL',
  },
  {
    what: 'an ftp:// URL',
    send: register(() => ({ base_url: 'ftp://example.com' })),
    code: 'invalid_parameter',
    param: 'base_url',
    says: 'URL',
  },
  {
    what: 'an address where nobody answers',
    send: register(() => ({ base_url: 'http://127.0.0.1:1' })),
    status: 502,
    code: 'provider_unreachable',
    param: 'base_url',
    says: 'Check its base_url',
  },
  {
    what: 'a server of another kind',
    send: register(() => ({ base_url: known.strangerUrl })),
    code: 'provider_metadata_invalid',
    param: 'base_url',
    says: 'Open Inference Protocol',
  },
  {
    what: 'a path without a model',
    send: register(() => ({ base_url: `${service.url}/nowhere` })),
    status: 502,
    code: 'provider_refused_request',
    param: 'base_url',
    says: 'Check its base_url',
  },
  {
    what: 'an unknown remote model',
    send: register(() => ({ remote_model: 'other' })),
    status: 502,
    code: 'provider_refused_request',
    param: 'base_url',
    says: 'remote_model',
  },
  {
    what: 'wrong credentials',
    send: register(() => ({ credentials: { type: 'bearer', token: 'wrong' } })),
    status: 502,
    code: 'provider_credentials_refused',
    param: 'credentials',
    says: 'credentials',
  },
  {
    what: 'a tensor that the model has not',
    send: register(() => ({ settings: { tensors: { logits: 'scores' } } })),
    code: 'provider_tensor_missing',
    param: 'settings.tensors.logits',
    says: 'It has: logits',
  },
  {
    what: 'a name that is taken',
    send: register(() => ({ name: 'emoji-clip' })),
    status: 409,
    code: 'provider_name_taken',
    param: 'name',
    says: 'Choose another name',
  },
  {
    what: 'a name with blanks',
    send: register(() => ({ name: 'My Model' })),
    code: 'invalid_parameter',
    param: 'name',
    says: 'lower-case letters',
  },
  {
    what: 'a negative price',
    send: register(() => ({ prices: { per_request_usd: -1 } })),
    code: 'invalid_parameter',
    param: 'prices.per_request_usd',
    says: '>=0',
  },
  {
    what: 'no concurrency',
    send: register(() => ({ limits: { concurrency: 0 } })),
    code: 'invalid_parameter',
    param: 'limits.concurrency',
    says: '>=1',
  },
  {
    what: 'another protocol',
    send: register(() => ({ protocol: 'grpc' })),
    code: 'invalid_parameter',
    param: 'protocol',
    says: "'open_inference' | 'hugging_face'",
  },
  {
    what: 'settings of another protocol',
    send: register(() => ({ settings: { dialect: 'jina' } })),
    code: 'unknown_parameter',
    param: 'settings.dialect',
    says: 'Remove it',
  },
  {
    what: 'a template without a place for the class',
    send: register(() => ({ protocol: 'hugging_face', settings: { hypothesis_template: 'a photo' } })),
    code: 'invalid_parameter',
    param: 'settings.hypothesis_template',
    says: 'Put {} where the class name goes',
  },
  {
    what: 'a body that carries no image',
    send: register(() => ({
      protocol: 'custom_http',
      settings: { body: { texts: '{{texts}}' }, result: { kind: 'logits', scores: '$' } },
    })),
    code: 'provider_body_incomplete',
    param: 'settings.body',
    says: '{{image_base64}}',
  },
  {
    what: 'no settings where a protocol needs them',
    send: register(() => ({ protocol: 'custom_http' })),
    code: 'invalid_parameter',
    param: 'settings',
    says: 'settings',
  },
  {
    what: 'a link-local address',
    send: register(() => ({ base_url: 'http://169.254.169.254/latest' })),
    code: 'address_not_allowed',
    param: 'base_url',
    says: 'CRAFT_ALLOWED_NETWORKS',
  },
  {
    what: 'a change to a link-local address',
    send: () =>
      service.request('PATCH', `/v1/providers/${known.unusedProvider}`, {
        base_url: 'http://[fe80::1]',
        credentials: null,
      }),
    code: 'address_not_allowed',
    param: 'base_url',
    says: 'CRAFT_ALLOWED_NETWORKS',
  },
  {
    what: 'a change of settings to those of another protocol',
    send: () => service.request('PATCH', `/v1/providers/${known.unusedProvider}`, { settings: { returns: 'votes' } }),
    code: 'invalid_settings',
    param: 'settings.returns',
    says: 'open_inference',
  },
  {
    what: 'a header that is none',
    send: register(() => ({ credentials: { type: 'header', name: 'a b', value: 'c' } })),
    code: 'invalid_parameter',
    param: 'credentials.name',
    says: 'pattern',
  },
  {
    what: 'a credential that fits in no header',
    send: register(() => ({ credentials: { type: 'bearer', token: 'a\r\nHost: b' } })),
    code: 'invalid_parameter',
    param: 'credentials.token',
    says: 'printable',
  },
  {
    what: 'a change of the name',
    send: () => service.request('PATCH', `/v1/providers/${known.unusedProvider}`, { name: 'other' }),
    code: 'unknown_parameter',
    param: 'name',
    says: 'Remove it',
  },
  {
    what: 'stored credentials for another host',
    send: () => service.request('PATCH', `/v1/providers/${known.unusedProvider}`, { base_url: known.strangerUrl }),
    code: 'credentials_required',
    param: 'credentials',
    says: 'Send credentials together with base_url',
  },
  {
    what: 'a base_url with a password',
    send: register(() => ({ base_url: 'http://me:secret@127.0.0.1:1' })),
    code: 'invalid_parameter',
    param: 'base_url',
    says: 'into credentials',
  },
  {
    what: 'a change to nowhere',
    send: () =>
      service.request('PATCH', `/v1/providers/${known.unusedProvider}`, {
        base_url: 'http://127.0.0.1:1',
        credentials: null,
      }),
    status: 502,
    code: 'provider_unreachable',
    param: 'base_url',
    says: 'Check its base_url',
  },
  {
    what: 'zero-shot with a template without place',
    send: () =>
      service.request('POST', `/v1/providers/${known.unusedProvider}/zero_shot`, {
        images: [known.image],
        labels: ['a', 'b'],
        template: 'a photo',
      }),
    code: 'invalid_parameter',
    param: 'template',
    says: 'Put {} exactly once',
  },
  {
    what: 'zero-shot with one label',
    send: () =>
      service.request('POST', `/v1/providers/${known.unusedProvider}/zero_shot`, {
        images: [known.image],
        labels: ['a'],
      }),
    code: 'invalid_parameter',
    param: 'labels',
    says: '>=2',
  },
  {
    what: 'zero-shot with a label twice',
    send: () =>
      service.request('POST', `/v1/providers/${known.unusedProvider}/zero_shot`, {
        images: [known.image],
        labels: ['a', 'b', ' a'],
      }),
    code: 'invalid_parameter',
    param: 'labels',
    says: 'Name each label once',
  },
];

const predictions: Bad[] = [
  {
    what: 'an unknown adapter',
    send: () => service.request('POST', '/v1/adapters/ft:none/predict', { images: [known.image] }),
    status: 404,
    code: 'adapter_not_found',
    param: 'adapter_id',
    says: 'GET /v1/adapters',
  },
  {
    what: 'no images field',
    send: predict(() => ({})),
    code: 'invalid_parameter',
    param: 'images',
    says: 'is missing',
  },
  { what: 'no images', send: predict(() => ({ images: [] })), code: 'invalid_parameter', param: 'images', says: '>=1' },
  {
    what: '257 images',
    send: predict(() => ({ images: Array(257).fill(known.image) })),
    code: 'invalid_parameter',
    param: 'images',
    says: '<=256',
  },
  {
    what: 'a text as image',
    send: predict(() => ({ images: [known.image, 'a cat'] })),
    code: 'invalid_base64',
    param: 'images.1',
    says: 'base64',
  },
  {
    what: 'an image by URL',
    send: predict(() => ({ images: ['https://example.com/a.png'] })),
    code: 'image_url_not_supported',
    param: 'images.0',
    says: 'data URI',
  },
  {
    what: 'a corrupt image',
    send: predict(() => ({ images: [dataUri(corruptImage)] })),
    code: 'image_undecodable',
    param: 'images.0',
    says: 'Export it again',
  },
  {
    what: 'an image with too many pixels',
    send: predict(() => ({ images: [dataUri(hugeImage)] })),
    code: 'image_too_many_pixels',
    param: 'images.0',
    says: 'Scale it down',
  },
  {
    what: 'top_k 0',
    send: predict(() => ({ images: [known.image], top_k: 0 })),
    code: 'invalid_parameter',
    param: 'top_k',
    says: '>=1',
  },
  {
    what: 'an unknown field',
    send: predict(() => ({ images: [known.image], temperature: 1 })),
    code: 'unknown_parameter',
    param: 'temperature',
    says: 'check its spelling',
  },
  { what: 'a body that is no JSON', send: predict(() => '{"images"'), code: 'invalid_json', says: 'not valid JSON' },
  {
    what: 'more JSON than allowed',
    send: predict(() => ({ images: ['A'.repeat(MAX_PREDICT_BYTES)] })),
    status: 413,
    code: 'body_too_large',
    says: 'fewer or smaller images',
  },
  {
    what: 'more form than allowed',
    send: async () => {
      const noise = await sharp({
        create: {
          width: 600,
          height: 600,
          channels: 3,
          background: 'white',
          noise: { type: 'gaussian', mean: 128, sigma: 60 },
        },
      })
        .png()
        .toBuffer();
      const count = Math.ceil(MAX_PREDICT_BYTES / noise.length) + 1;
      const parts = Array.from({ length: count }, () => ({ name: 'images', value: noise, filename: 'a.png' }));
      return sendForm(service, `/v1/adapters/${known.adapter}/predict`, parts);
    },
    status: 413,
    code: 'body_too_large',
    says: 'fewer or smaller images',
  },
  {
    what: 'a form without images',
    send: () => sendForm(service, `/v1/adapters/${known.adapter}/predict`, [{ name: 'top_k', value: '1' }]),
    code: 'invalid_parameter',
    param: 'images',
    says: 'at least one image',
  },
  {
    what: 'a form with 257 images',
    send: () =>
      sendForm(
        service,
        `/v1/adapters/${known.adapter}/predict`,
        Array.from({ length: 257 }, () => ({ name: 'images', value: cat, filename: 'a.png' })),
      ),
    status: 413,
    code: 'too_many_parts',
    says: 'Send fewer',
  },
  {
    what: 'a form that ends within an image',
    send: () =>
      post(
        `/v1/adapters/${known.adapter}/predict`,
        'multipart/form-data; boundary=x',
        '--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\nabc',
      )(),
    code: 'malformed_form',
    says: 'boundary',
  },
  {
    what: 'a form with a wrong top_k',
    send: () =>
      sendForm(service, `/v1/adapters/${known.adapter}/predict`, [
        { name: 'top_k', value: 'many' },
        { name: 'images', value: cat, filename: 'a.png' },
      ]),
    code: 'invalid_parameter',
    param: 'top_k',
    says: 'top_k: Send a whole number from 1 to 65536.',
  },
  ...['0', '-1', '1.5', '1e1', ' ', '65537', '9'.repeat(400)].map((value) => ({
    what: `a form with top_k ${JSON.stringify(value.slice(0, 8))}`,
    send: () =>
      sendForm(service, `/v1/adapters/${known.adapter}/predict`, [
        { name: 'images', value: cat, filename: 'a.png' },
        { name: 'top_k', value },
      ]),
    code: 'invalid_parameter',
    param: 'top_k',
    says: 'top_k: Send a whole number from 1 to 65536.',
  })),
  {
    what: 'a form with top_k twice',
    send: () =>
      sendForm(service, `/v1/adapters/${known.adapter}/predict`, [
        { name: 'top_k', value: '1' },
        { name: 'images', value: cat, filename: 'a.png' },
        { name: 'top_k', value: '2' },
      ]),
    code: 'repeated_parameter',
    param: 'top_k',
    says: 'Send it once',
  },
  {
    what: 'a form with its images as text',
    send: () => sendForm(service, `/v1/adapters/${known.adapter}/predict`, [{ name: 'images', value: dataUri(cat) }]),
    code: 'images_not_files',
    param: 'images',
    says: 'as files',
  },
];

const imports: Bad[] = [
  ...(
    [
      ['random bytes', () => Buffer.alloc(500, 0xa5), 'no valid safetensors'],
      ['half a file', () => known.exported.subarray(0, known.exported.length >> 1), ' bytes, but the data have '],
      ['a file cut off in its header', () => known.exported.subarray(0, 100), 'within its header. Send a file'],
      ['wrong tensor shapes', () => withTensor(known.exported, 'head.b2', [2], new Float32Array(2)), 'not [3]'],
      ['a tensor of another rank', () => withTensor(known.exported, 'context', [16], new Float32Array(16)), 'rank 2'],
      ['NaN weights', () => withTensor(known.exported, 'head.b2', [3], new Float32Array(3).fill(Number.NaN)), 'NaN'],
      [
        'infinite weights',
        () => withTensor(known.exported, 'head.b2', [3], new Float32Array(3).fill(Number.POSITIVE_INFINITY)),
        'infinite',
      ],
      ['a single class', () => withDescription(known.exported, { classes: ['cat'] }), 'damaged'],
      [
        'a class named with a NUL',
        () => withDescription(known.exported, { classes: ['a\u0000', 'b', 'c'] }),
        'damaged',
      ],
      [
        'a metric named with half a character',
        () => withDescription(known.exported, { metrics: { '\ud800': 1 } }),
        'damaged',
      ],
      ['metrics without bottom', () => withDescription(known.exported, { metrics: { a: nested(1000) } }), 'damaged'],
    ] as const
  ).map(([what, make, says]) => ({
    what: `an adapter of ${what}`,
    send: importAdapter(make),
    code: 'invalid_adapter_file',
    param: 'file',
    says,
  })),
  {
    what: 'no adapter file',
    send: () => sendForm(service, '/v1/adapters/import', [{ name: 'model', value: 'emoji-clip' }]),
    code: 'file_missing',
    param: 'file',
    says: 'form field "file"',
  },
  {
    what: 'an adapter for an unknown model',
    send: () =>
      sendForm(service, '/v1/adapters/import', [
        { name: 'file', value: known.exported, filename: 'a' },
        { name: 'model', value: 'nobody' },
      ]),
    code: 'model_not_found',
    param: 'model',
    says: 'No provider is named "nobody"',
  },
  {
    what: 'an adapter for two models',
    send: () =>
      sendForm(service, '/v1/adapters/import', [
        { name: 'model', value: 'emoji-clip' },
        { name: 'file', value: known.exported, filename: 'a' },
        { name: 'model', value: 'slow' },
      ]),
    code: 'repeated_parameter',
    param: 'model',
    says: 'Send it once',
  },
  {
    what: 'an adapter that does not fit the model',
    send: importAdapter(() => withTensor(known.exported, 'context', [1, 3], new Float32Array(3))),
    code: 'adapter_does_not_fit',
    param: 'model',
    says: '1 × 3',
  },
];

function nested(depth: number): unknown {
  let value: unknown = 0;
  for (let i = 0; i < depth; i++) value = [value];
  return value;
}

describe.each([
  { about: 'Requests', cases: requests },
  { about: 'Forms', cases: forms },
  { about: 'Files', cases: files },
  { about: 'Resources', cases: resources },
  { about: 'Jobs', cases: jobs },
  { about: 'Providers', cases: providers },
  { about: 'Predictions', cases: predictions },
  { about: 'Imports', cases: imports },
])('$about', ({ cases }) => {
  it.each(cases)('$what', async ({ send: sendIt, status = 400, code, param = null, says }) => {
    const response = await sendIt();
    const error = await errorOf(response, status);
    expect(error).toMatchObject({ code, param });
    expect(error.message).toMatch(says);
    expect(error.message).not.toMatch(/\n| at .*\.[jt]s|node_modules|prisma/i);
    expect(response.headers.get('x-request-id')).toMatch(/^req-/);
  });
});

describe('Afterwards', () => {
  it('a real failure inside shows nothing of the inside', async () => {
    const { connectionString } = service.core;
    await query(connectionString, 'ALTER TABLE files RENAME TO files_elsewhere');
    const response = await service.request('GET', '/v1/files').finally(async () => {
      await query(connectionString, 'ALTER TABLE files_elsewhere RENAME TO files');
    });
    const error = await errorOf(response, 500);
    expect(error).toMatchObject({ code: 'internal_error', param: null });
    expect(error.message).toContain(response.headers.get('x-request-id'));
    expect(error.message).not.toMatch(/files|table|relation|prisma|select|Error/i);
    await ok(service.request('GET', '/v1/files'));
  });

  it('refused uploads have left nothing behind', async () => {
    const { data } = await ok<{ data: { id: string }[] }>(service.request('GET', '/v1/files?limit=1000'));
    const kept = [known.file, known.otherClasses, known.withValidation, known.busyFile];
    expect(data.map(({ id }) => id).sort()).toEqual(kept.sort());
  });

  it('refused jobs, providers and adapters have left nothing behind', async () => {
    const ids = async (path: string) =>
      (await ok<{ data: { id: string; name?: string }[] }>(service.request('GET', path))).data.map(
        ({ id, name }) => name ?? id,
      );
    expect(await ids(JOBS)).toEqual([known.busyJob, known.finishedJob]);
    expect(await ids('/v1/providers')).toEqual(['emoji-clip', 'slow', 'idle']);
    expect(await ids('/v1/adapters')).toEqual([known.adapter]);
  });

  it('refused predictions have spent nothing', async () => {
    const { usage } = await ok<{ usage: Record<string, { used: number; reserved: number }> }>(
      service.request('GET', `/v1/adapters/${known.adapter}`),
    );
    expect(usage.image_queries).toMatchObject({ used: 0, reserved: 0 });
    expect(usage.requests).toMatchObject({ used: 0, reserved: 0 });
  });

  it('a refused upload leaves its connection usable', async () => {
    const part = (fields: string, content: string) =>
      `--x\r\nContent-Disposition: form-data; ${fields}\r\n\r\n${content}\r\n`;
    const file = part('name="file"; filename="a.zip"', 'x'.repeat(8_000_000));
    const form = `${part('name="purpose"', 'batch')}${file}--x--\r\n`;
    const answers = await rawAnswers(
      `POST /v1/files HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${API_KEY}\r\nContent-Length: ${form.length}\r\n` +
        `Content-Type: multipart/form-data; boundary=x\r\n\r\n${form}` +
        `GET /v1/files HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${API_KEY}\r\nConnection: close\r\n\r\n`,
    );
    expect([...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual(['400', '200']);
  }, 10_000);

  it('an upload that breaks off leaves nothing and disturbs nobody', async () => {
    const { hostname, port } = new URL(service.url);
    const socket = connect(Number(port), hostname);
    socket.write(
      `POST /v1/files HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${API_KEY}\r\nContent-Length: 100000\r\n` +
        'Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nPK',
    );
    await new Promise((resolve) => setImmediate(resolve));
    socket.destroy();
    await ok(service.request('GET', '/v1/files'));
  });

  it('the service still serves', async () => {
    await ok(service.request('POST', `${JOBS}/${known.busyJob}/cancel`));
    expect(await ok(fetch(`${service.url}/healthz`))).toEqual({ status: 'ok' });
    expect(await ok(fetch(`${service.url}/readyz`))).toEqual({ status: 'ok' });
    const job = await runJob(service, quickJob(known.file));
    expect(job).toMatchObject({ status: 'succeeded', error: null });
    const answer = await ok<{ data: { predictions: { label: string }[] }[] }>(
      service.request('POST', `/v1/adapters/${job.fine_tuned_model}/predict`, { images: [known.image] }),
    );
    expect(known.classes).toContain(answer.data[0].predictions[0].label);
  });
});

describe('Too many requests', () => {
  it('are answered 429 with the time to wait, for each key by itself', async () => {
    const limited = await testService({ CRAFT_RATE_LIMIT_PER_MINUTE: '3' });
    for (let i = 0; i < 3; i++) await ok(limited.request('GET', '/v1/files'));
    const response = await limited.request('GET', '/v1/adapters');
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
    const error = await errorOf(response, 429);
    expect(error).toMatchObject({ code: 'rate_limited', param: null });
    expect(error.message).toContain('Retry-After');
    await ok(fetch(`${limited.url}/healthz`));
  });
});
