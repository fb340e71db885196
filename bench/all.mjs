// Every benchmark of speed, one after another, with a table of all at the end; --write makes docs/performance.md of it.
//   npm run bench [-- --only head,cma] [--write]
// Ratios are of figures in one run, so that a slow or busy machine changes them less than it changes times.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cells } from './report.mjs';

const BENCHES = [
  { name: 'head', command: 'bench:head' },
  { name: 'probe-head', command: 'bench:probe-head' },
  { name: 'gpu', command: 'bench:gpu' },
  { name: 'cma', command: 'bench:cma' },
  { name: 'provider', command: 'bench:provider' },
  { name: 'paper', command: 'bench:paper', args: ['--wall'] },
  { name: 'jobs', command: 'bench:jobs' },
  { name: 'predict', command: 'bench:predict' },
  { name: 'api', command: 'bench:api' },
  { name: 'start', command: 'bench:start' },
];
const DOCUMENT = fileURLToPath(new URL('../docs/performance.md', import.meta.url));
const START = '<!-- measured -->';
const END = '<!-- /measured -->';

const { values } = parseArgs({
  options: { only: { type: 'string' }, write: { type: 'boolean', default: false } },
});
const chosen = values.only?.split(',');
const folder = mkdtempSync(join(tmpdir(), 'craft-bench-all-'));
const results = [];
for (const { name, command, args = [] } of BENCHES) {
  if (chosen && !chosen.includes(name)) continue;
  console.log(`\n=== ${command} ===`);
  const json = join(folder, `${name}.json`);
  const script = fileURLToPath(new URL(`${command.slice('bench:'.length)}.mjs`, import.meta.url));
  const { status } = spawnSync(process.execPath, [script, ...args, '--json', json], { stdio: 'inherit' });
  const called = `npm run ${command}${args.length > 0 ? ` -- ${args.join(' ')}` : ''}`;
  if (status !== 0) {
    console.error(`${command} ended with status ${status}.`);
    process.exitCode = 1;
    continue;
  }
  results.push({ called, ...JSON.parse(readFileSync(json, 'utf8')) });
}
rmSync(folder, { recursive: true });

const HEAD = ['', 'median', 'reference', 'ratio', 'target'];
const lines = results.flatMap(({ title, rows }) => [
  [title, '', '', '', ''],
  ...cells(rows).map(([name, ...rest]) => [`  ${name}`, ...rest]),
]);
const widths = HEAD.map((_, column) =>
  Math.max(...[HEAD, ...lines].filter((line) => line[1] !== '' || column > 0).map((line) => line[column].length), 0),
);
console.log('\n=== all ===');
for (const line of [HEAD, ...lines])
  console.log(
    line
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd(),
  );

const machine = `${availableParallelism()} × ${cpus()[0].model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}, ${process.platform}`;
console.log(`\n${machine}`);
if (values.write) {
  const sections = results.map(({ called, title, rows }) =>
    [
      `### ${title}\n`,
      `\`${called}\`\n`,
      ...[HEAD, HEAD.map(() => '---'), ...cells(rows)].map((line) => `| ${line.join(' | ')} |`),
    ].join('\n'),
  );
  const before = readFileSync(DOCUMENT, 'utf8');
  const [start, end] = [before.indexOf(START), before.indexOf(END)];
  if (start < 0 || end < start) throw new Error(`docs/performance.md lacks ${START} and ${END}.`);
  // What was not measured this time stays as it was.
  const titleOf = (section) => section.split('\n')[0];
  const kept = before
    .slice(start, end)
    .split(/\n(?=### )/)
    .slice(1)
    .map((section) => section.trim());
  const measured = new Map([...kept, ...sections].map((section) => [titleOf(section), section]));
  const text = [`Measured on ${machine}.`, ...measured.values()].join('\n\n');
  writeFileSync(DOCUMENT, `${before.slice(0, start + START.length)}\n${text}\n${before.slice(end)}`);
}
