// The HTTP API itself: reading a job against a bare route that selects a row, lists at 100 and at 100,000 rows, and the
// memory that an upload of a large ZIP takes.
import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import pg from 'pg';
import sharp from 'sharp';
import { request } from 'undici';
import yazl from 'yazl';
import { readExample, toJsonl } from '../dist/demo/example-data.js';
import { startBareRoute } from './bare-route.mjs';
import { closedLoop, counted, percentile } from './closed-loop.mjs';
import { median, report } from './report.mjs';
import { startService } from './service.mjs';

const { values } = parseArgs({
  options: {
    callers: { type: 'string', default: '16' },
    requests: { type: 'string', default: '4000' },
    repeats: { type: 'string', default: '5' },
    rows: { type: 'string', default: '100000' },
    mib: { type: 'string', default: '1024' },
    only: { type: 'string' },
    json: { type: 'string' },
  },
});
const callers = Number(values.callers);
const repeats = Number(values.repeats);
const MIB = 1024 * 1024;
const FEW = 100;
const MANY = Number(values.rows);
const MODEL = 'emoji-clip';

const folder = await mkdtemp(join(tmpdir(), 'craft-bench-api-'));
const service = await startService({
  CRAFT_RATE_LIMIT_PER_MINUTE: '1000000000',
  // The API alone is measured, so a worker's process must not begin jobs that are only rows.
  CRAFT_UPKEEP_SECONDS: '86400',
});
const { client, url, apiKey, pid, stop } = service;
const databaseUrl = await service.databaseUrl();
const headers = { authorization: `Bearer ${apiKey}` };
const database = new pg.Client({ connectionString: databaseUrl });
await database.connect();

async function trainedJob() {
  const example = await readExample('fluent-contrast-subgroups', 'seed-1');
  const file = await client.upload('/v1/files', 'train.jsonl', toJsonl(example.train));
  let job = await client.post('/v1/fine_tuning/jobs', {
    model: MODEL,
    training_file: file.id,
    seed: 1,
    method: { type: 'craft', craft: { budget: { max_prompt_evaluations: 100 } } },
  });
  while (['queued', 'running'].includes(job.status)) {
    await sleep(100);
    job = await client.get(`/v1/fine_tuning/jobs/${job.id}`);
  }
  if (job.status !== 'succeeded') throw new Error(`The job ended ${job.status}: ${JSON.stringify(job.error)}`);
  return job;
}

async function readingRow(job) {
  const path = `/v1/fine_tuning/jobs/${job.id}`;
  const bare = await startBareRoute(databaseUrl);
  const sides = [
    { origin: bare.url, request: { method: 'GET', path: `/jobs/${job.id}` }, rates: [] },
    { origin: url, request: { method: 'GET', path, headers }, rates: [] },
  ];
  for (let repeat = -1; repeat < repeats; repeat++) {
    for (const { origin, request, rates } of sides) {
      const count = Number(values.requests);
      const { latencies, seconds } = await closedLoop({ origin, callers, next: counted(count, () => request) });
      if (repeat >= 0) rates.push(latencies.length / seconds);
    }
  }
  await bare.stop();
  const [reference, rate] = sides.map(({ rates }) => median(rates));
  return {
    name: `reading a job, ${callers} callers`,
    value: rate,
    unit: 'req/s',
    reference: 'bare Fastify + pg route',
    referenceValue: reference,
    target: '≥ 0.5',
    met: rate / reference >= 0.5,
  };
}

/** Copies of a row, the older the higher their number. Columns that are not named stay as they are. */
async function copies(table, id, count, changed) {
  const { rows } = await database.query(
    `SELECT column_name AS name FROM information_schema.columns WHERE table_name = $1 AND table_schema = current_schema()`,
    [table],
  );
  const columns = rows.map(({ name }) => name).filter((name) => changed[name] !== null);
  const source = columns.map((name) => changed[name] ?? `t.${name}`);
  await database.query(
    `INSERT INTO ${table} (${columns.join(', ')})
     SELECT ${source.join(', ')} FROM ${table} t, generate_series(1, ${count}) n WHERE t.id = $1`,
    [id],
  );
}

const OLDER = `t.created_at - n * interval '1 second'`;

/** Makes `count` rows more of everything that is listed. */
async function grow(job, count, label) {
  const { rows } = await database.query('SELECT min(id) AS id FROM job_events WHERE job_id = $1', [job.id]);
  const { rows: entries } = await database.query(
    `SELECT min(id) AS id FROM ledger_reservations WHERE account_id = $1 AND state = 'settled'`,
    [job.id],
  );
  const { rows: checkpoints } = await database.query('SELECT min(id) AS id FROM checkpoints WHERE job_id = $1', [
    job.id,
  ]);
  const { rows: providers } = await database.query('SELECT id FROM providers WHERE name = $1', [MODEL]);
  const named = (prefix) => ({ id: `'${prefix}-${label}-' || n`, created_at: OLDER });
  await copies('jobs', job.id, count, named('ftjob'));
  await copies('ledger_accounts', job.id, count, named('ftjob'));
  await copies('files', job.training_file, count, named('file'));
  await copies('adapters', job.fine_tuned_model, count, {
    ...named('ft:bench'),
    job_id: 'NULL',
    // The list does not read them, and 100,000 would be gigabytes.
    weights: `'\\x00'::bytea`,
  });
  await copies('ledger_accounts', job.fine_tuned_model, count, named('ft:bench'));
  const provider = providers[0].id;
  await copies('providers', provider, count, {
    ...named('prov'),
    name: `'p-${label}-' || n`,
    created_at: `t.created_at + n * interval '1 second'`,
  });
  await copies('ledger_accounts', provider, count, { ...named('prov'), provider_id: `'prov-${label}-' || n` });
  await copies('ledger_accounts', `${provider}@day`, count, {
    ...named('prov'),
    id: `'prov-${label}-' || n || '@day'`,
    provider_id: `'prov-${label}-' || n`,
  });
  await copies('job_events', rows[0].id, count, { id: null, created_at: OLDER });
  await copies('checkpoints', checkpoints[0].id, count, {
    ...named('ckpt'),
    generation: `100 + n + (SELECT max(generation) FROM checkpoints)`,
    weights: `'\\x00'::bytea`,
  });
  const purchase = { id: null, purchase_key: `'${label}-' || n`, token: 'NULL', created_at: OLDER };
  await copies('ledger_reservations', entries[0].id, count, purchase);
  await database.query(
    `UPDATE ledger_accounts a SET (entries_settled, prompt_evaluations_used, image_queries_used, requests_used,
         cost_micro_usd_used) = (
       SELECT count(*), sum(prompt_evaluations), sum(coalesce(billed_image_queries, image_queries)),
         sum(coalesce(billed_requests, requests)), sum(coalesce(billed_cost_micro_usd, cost_micro_usd))
       FROM ledger_reservations WHERE account_id = a.id) WHERE id = $1`,
    [job.id],
  );
  await database.query('VACUUM ANALYZE');
  // What was written so fast is on its way to the disk for minutes.
  await database.query('CHECKPOINT');
}

const LISTS = {
  jobs: () => '/v1/fine_tuning/jobs',
  files: () => '/v1/files',
  adapters: () => '/v1/adapters',
  providers: () => '/v1/providers?limit=20',
  events: ({ id }) => `/v1/fine_tuning/jobs/${id}/events`,
  checkpoints: ({ id }) => `/v1/fine_tuning/jobs/${id}/checkpoints`,
  ledger: ({ id }) => `/v1/fine_tuning/jobs/${id}/ledger`,
};

/**
 * Milliseconds of the first page, and of one from the middle, of every list. The fastest tenth counts, because few and many
 * rows are measured minutes apart, and what else the machine does then differs more than the lists do.
 */
async function timeLists(job, rows) {
  const times = {};
  for (const [name, pathOf] of Object.entries(LISTS)) {
    const first = pathOf(job);
    const deep = `${first}${first.includes('?') ? '&' : '?'}after=${await middleOf(name, job, rows)}`;
    for (const [page, path] of [
      [name, first],
      [`${name}, from the middle`, deep],
    ]) {
      const make = () => ({ method: 'GET', path, headers });
      await closedLoop({ origin: url, callers: 1, next: counted(5, make) });
      const { latencies } = await closedLoop({ origin: url, callers: 1, next: counted(60, make) });
      times[page] = percentile(latencies, 0.1);
    }
  }
  times['ledger, of a job that goes on spending'] = await timeSpendingLedger(job);
  return times;
}

/** The same of a job that makes a call between any two reads, so that no totals of before can be shown. */
async function timeSpendingLedger(job) {
  const latencies = [];
  const make = () => ({ method: 'GET', path: LISTS.ledger(job), headers });
  for (let i = 0; i < 60; i++) {
    await spend(job);
    latencies.push(...(await closedLoop({ origin: url, callers: 1, next: counted(1, make) })).latencies);
  }
  return percentile(
    latencies.sort((a, b) => a - b),
    0.1,
  );
}

/** One call, reserved and settled, of what the job's budget does not limit. */
async function spend(job) {
  const key = randomBytes(16).toString('hex');
  const { rows } = await database.query(
    `SELECT ledger_reserve(jsonb_build_array(jsonb_build_object('ord', 0, 'account', id, 'provider', provider_id,
       'purpose', 'candidates', 'guard', 'live_provider', 'worker', 'bench', 'key', $2::text, 'token', $2::text,
       'p', 0, 'i', 1, 'r', 1, 'c', 0))) AS outcomes FROM jobs WHERE id = $1`,
    [job.id, key],
  );
  const [{ id, attempt, outcome }] = rows[0].outcomes;
  if (outcome !== 'reserved') throw new Error(`A call of the benchmark was answered ${outcome}.`);
  await database.query('SELECT ledger_close($1, ARRAY[]::bytea[])', [
    JSON.stringify([{ ord: 0, id, attempt, state: 'settled' }]),
  ]);
}

async function middleOf(name, job, rows) {
  const of = {
    jobs: `SELECT id FROM jobs ORDER BY created_at DESC, id DESC`,
    files: `SELECT id FROM files ORDER BY created_at DESC, id DESC`,
    adapters: `SELECT id FROM adapters ORDER BY created_at DESC, id DESC`,
    providers: `SELECT id FROM providers ORDER BY created_at, id`,
    events: `SELECT 'ftevent-' || id AS id FROM job_events WHERE job_id = '${job.id}' ORDER BY job_events.id DESC`,
    checkpoints: `SELECT id FROM checkpoints WHERE job_id = '${job.id}' ORDER BY generation DESC`,
    ledger: `SELECT id FROM ledger_reservations WHERE account_id = '${job.id}' ORDER BY id DESC`,
  }[name];
  return (await database.query(`${of} OFFSET ${Math.floor(rows / 2)} LIMIT 1`)).rows[0].id;
}

async function listRows(job) {
  await grow(job, FEW, 'few');
  const few = await timeLists(job, FEW);
  await grow(job, MANY - FEW, 'many');
  const many = await timeLists(job, MANY);
  return Object.keys(few).map((name) => ({
    name: `listing ${name}: ${MANY.toLocaleString('en')} rows`,
    value: many[name],
    unit: 'ms',
    reference: `${FEW} rows`,
    referenceValue: few[name],
    target: '≤ 1.25',
    met: many[name] / few[name] <= 1.25,
  }));
}

/** A ZIP of so many MiB, of images that do not compress. */
async function writeZip(path, mib) {
  const zip = new yazl.ZipFile();
  const done = finished(zip.outputStream.pipe(createWriteStream(path)));
  const side = 1024;
  for (let total = 0, i = 0; total < mib * MIB; i++) {
    const raw = { width: side, height: side, channels: 3 };
    const image = await sharp(randomBytes(side * side * 3), { raw })
      .png({ compressionLevel: 0 })
      .toBuffer();
    zip.addBuffer(image, `class-${i % 4}/image-${i}.png`, { compress: false });
    total += image.length;
    while (zip.outputStream.readableLength > 0 && zip.outputStream.readableLength > 8 * MIB) await sleep(1);
  }
  zip.end();
  await done;
}

async function residentMib() {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) / 1024;
}

async function upload(path) {
  const boundary = 'craft-bench-boundary';
  const { createReadStream } = await import('node:fs');
  const body = async function* () {
    yield `--${boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n`;
    yield `--${boundary}\r\ncontent-disposition: form-data; name="file"; filename="large.zip"\r\ncontent-type: application/zip\r\n\r\n`;
    yield* createReadStream(path, { highWaterMark: MIB });
    yield `\r\n--${boundary}--\r\n`;
  };
  const { Readable } = await import('node:stream');
  const answer = await request(`${url}/v1/files`, {
    method: 'POST',
    headers: { ...headers, 'content-type': `multipart/form-data; boundary=${boundary}` },
    body: Readable.from(body()),
    headersTimeout: 600_000,
    bodyTimeout: 600_000,
  });
  const text = await answer.body.text();
  if (answer.statusCode !== 200) throw new Error(`The upload was answered ${answer.statusCode}: ${text}`);
}

async function uploadRow() {
  const path = join(folder, 'large.zip');
  await writeZip(path, Number(values.mib) - 8);
  const small = join(folder, 'small.zip');
  await writeZip(small, 16);
  // What every upload needs once: compiled code, the decoder's own memory.
  await upload(small);
  await sleep(1000);
  const before = await residentMib();
  let most = before;
  const watch = setInterval(() => void residentMib().then((now) => (most = Math.max(most, now))), 50);
  const startedAt = performance.now();
  await upload(path);
  clearInterval(watch);
  const size = (await stat(path)).size / MIB;
  const rate = size / ((performance.now() - startedAt) / 1000);
  return [
    {
      name: `upload of a ZIP of ${Math.round(size)} MiB: growth of the API's memory`,
      value: most - before,
      unit: 'MiB',
      target: '< 64',
      met: most - before < 64,
    },
    { name: 'the same: rate', value: rate, unit: 'MiB/s' },
  ];
}

const wanted = (name) => values.only === undefined || values.only === name;
const rows = [];
try {
  const job = await trainedJob();
  if (wanted('read')) rows.push(await readingRow(job));
  if (wanted('upload')) rows.push(...(await uploadRow()));
  if (wanted('lists')) rows.push(...(await listRows(job)));
} finally {
  await database.end();
  await stop();
  await rm(folder, { recursive: true, force: true });
}
report('The HTTP API', rows, values.json);
