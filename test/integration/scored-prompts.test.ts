import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { newId } from '../../src/ids.js';
import { ScoredPrompts, writeScoredPrompts } from '../../src/jobs/scored-prompts.js';
import { Ledger } from '../../src/ledger/ledger.js';
import { createProvider, createRunningJob } from '../helpers/ledger-records.js';
import { type TestDatabase, testDatabase } from '../helpers/postgres.js';

let db: TestDatabase;
let ledger: Ledger;
let providerId: string;
let jobId: string;

beforeAll(async () => {
  db = await testDatabase();
  ledger = new Ledger(db.database, db.connectionString);
  providerId = newId('prov-');
  await createProvider(db.database, ledger, providerId);
  return () => ledger.close();
});

beforeEach(async () => {
  jobId = await createRunningJob(db.database, ledger, providerId);
});

const open = () => ScoredPrompts.open(db.database, jobId);
const values = (...numbers: number[]) => Float32Array.from(numbers);

function add(scored: ScoredPrompts, template: string, answer: Float32Array, imageSet = 'training'): void {
  scored.add({ imageSet, template, values: answer });
}

/** As the end of a generation does. */
async function write(scored: ScoredPrompts, generation = 1): Promise<void> {
  const { prompts, written } = scored.take();
  await db.database.$transaction((tx) => writeScoredPrompts(tx, jobId, generation, prompts));
  written();
}

async function found(scored: ScoredPrompts, ...templates: string[]): Promise<Record<string, number[]>> {
  const map = await scored.find('training', templates);
  return Object.fromEntries([...map].map(([template, answer]) => [template, [...answer]]));
}

describe('prompts that were scored', () => {
  it('are found before they are written, and after', async () => {
    const scored = await open();
    add(scored, 'a {}', values(1, 2));
    expect(await found(scored, 'a {}', 'b {}')).toEqual({ 'a {}': [1, 2] });
    await write(scored);
    expect(await found(scored, 'a {}', 'b {}')).toEqual({ 'a {}': [1, 2] });
    expect(scored.take().prompts).toEqual([]);
    const again = await open();
    expect((await again.find('training', ['a {}'])).has('a {}')).toBe(true);
    expect((await again.find('training', ['b {}'])).has('b {}')).toBe(false);
    expect(await found(again, 'a {}', 'b {}')).toEqual({ 'a {}': [1, 2] });
  });

  it('are gone for a successor where their generation was not recorded', async () => {
    const scored = await open();
    add(scored, 'a {}', values(1));
    const { prompts } = scored.take();
    await expect(
      db.database.$transaction(async (tx) => {
        await writeScoredPrompts(tx, jobId, 1, prompts);
        throw new Error('the epoch is not ours');
      }),
    ).rejects.toThrow('not ours');
    expect((await (await open()).find('training', ['a {}'])).has('a {}')).toBe(false);
    // This run still knows it, and writes it with the next.
    expect((await scored.find('training', ['a {}'])).has('a {}')).toBe(true);
    await write(scored, 2);
    expect(await found(await open(), 'a {}')).toEqual({ 'a {}': [1] });
  });

  it('that come while others are written wait for the next generation', async () => {
    const scored = await open();
    add(scored, 'a {}', values(1));
    const { prompts, written } = scored.take();
    add(scored, 'b {}', values(2));
    await db.database.$transaction((tx) => writeScoredPrompts(tx, jobId, 1, prompts));
    written();
    expect(scored.take().prompts.map(({ template }) => template)).toEqual(['b {}']);
    expect(await found(scored, 'a {}', 'b {}')).toEqual({ 'a {}': [1], 'b {}': [2] });
  });

  it('are told apart by the image set', async () => {
    const scored = await open();
    add(scored, 'a {}', values(1), 'training');
    add(scored, 'a {}', values(2), 'validation');
    await write(scored);
    const again = await open();
    expect([...(await again.find('validation', ['a {}'])).values()]).toEqual([values(2)]);
    expect(await found(again, 'a {}')).toEqual({ 'a {}': [1] });
    expect((await again.find('texts', ['a {}'])).has('a {}')).toBe(false);
  });

  it('are those of one job', async () => {
    const scored = await open();
    add(scored, 'a {}', values(1));
    await write(scored);
    jobId = await createRunningJob(db.database, ledger, providerId);
    expect((await (await open()).find('training', ['a {}'])).has('a {}')).toBe(false);
  });

  it('are found however many there are, also those that were used long ago', async () => {
    const scored = await open();
    const templates = Array.from({ length: 50 }, (_, i) => `${i} {}`);
    for (const [i, template] of templates.entries()) add(scored, template, values(i, -i));
    await write(scored);
    for (let round = 0; round < 2; round++) {
      const map = await scored.find('training', templates);
      for (const [i, template] of templates.entries()) expect(map.get(template)).toEqual(values(i, -i));
    }
    for (const i of [1, 49, 1, 7]) expect(await found(scored, `${i} {}`)).toEqual({ [`${i} {}`]: [i, -i] });
  });

  it('keep the first answer where two runs wrote the same', async () => {
    for (const answer of [1, 2]) {
      await db.database.$transaction((tx) =>
        writeScoredPrompts(tx, jobId, answer, [{ imageSet: 'training', template: 'a {}', values: values(answer) }]),
      );
    }
    expect(await found(await open(), 'a {}')).toEqual({ 'a {}': [1] });
  });

  it('are written from within a larger buffer, and in batches where they are large', async () => {
    const large = new Float32Array(3 * 1024 * 1024).map((_, i) => i);
    const scored = await open();
    add(scored, 'part {}', values(9, 1, 2, 9).subarray(1, 3));
    for (const name of ['x', 'y', 'z']) add(scored, `${name} {}`, large);
    await write(scored);
    const again = await open();
    expect(await found(again, 'part {}')).toEqual({ 'part {}': [1, 2] });
    for (const name of ['x', 'y', 'z']) {
      const answer = (await again.find('training', [`${name} {}`])).get(`${name} {}`);
      expect(answer?.length).toBe(large.length);
      expect(answer?.at(-1)).toBe(large.length - 1);
    }
  });
});
