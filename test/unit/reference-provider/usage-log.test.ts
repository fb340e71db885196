import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Purchase, UsageLog } from '../../../src/reference-provider/usage-log.js';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'usage-log-'));
  path = join(directory, 'made', 'usage.jsonl');
});
afterEach(() => rmSync(directory, { recursive: true }));

const purchase = (images: number): Purchase => ({
  client: 'anonymous',
  prompts: 2,
  images,
  key: 'k '.repeat(100),
  question: 'q',
  time: new Date(images).toISOString(),
});

function open() {
  const read: Purchase[] = [];
  const log = UsageLog.open(path, (entry) => read.push(entry));
  return { log, read };
}

describe('UsageLog', () => {
  it('hands back what was appended, across several reads of the file', () => {
    const entries = Array.from({ length: 5000 }, (_, i) => purchase(i + 1));
    const first = open();
    for (const entry of entries) first.log.append(entry);
    first.log.close();
    const second = open();
    expect(second.read).toEqual(entries);
    second.log.append(purchase(7));
    second.log.close();
    expect(open().read).toEqual([...entries, purchase(7)]);
  });

  it('drops a last line that was not finished', () => {
    const { log } = open();
    log.append(purchase(1));
    log.close();
    appendFileSync(path, JSON.stringify(purchase(2)));
    const reopened = open();
    expect(reopened.read).toEqual([purchase(1)]);
    reopened.log.append(purchase(3));
    expect(open().read).toEqual([purchase(1), purchase(3)]);
  });

  it('names a line that it cannot count', () => {
    const { log } = open();
    log.append(purchase(1));
    appendFileSync(path, '{"client":"a","prompts":1}\n');
    expect(open).toThrow('usage.jsonl:2 is no purchase');
  });

  it('empties the file, and refuses to write after it was closed', () => {
    const { log } = open();
    log.append(purchase(1));
    log.clear();
    expect(readFileSync(path, 'utf8')).toBe('');
    log.append(purchase(2));
    expect(open().read).toEqual([purchase(2)]);
    log.close();
    expect(() => log.append(purchase(3))).toThrow('closed');
  });
});
