import { inspect, parseArgs } from 'node:util';
import { KINDS } from './jobs.js';
import { roundRow, summary, tableHead } from './report.js';
import { type ChaosOptions, runChaos } from './run.js';

/** `npm run chaos`: disturbs the whole service at random moments and checks that nothing is lost, miscounted or changed. */

const USAGE =
  'Usage: npm run chaos -- [--kills 200] [--seed 1] [--queue postgres|redis] [--idempotency on|off] [--jobs 1-4] [--first-round 1]';

function readOptions(): ChaosOptions {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '200' },
      seed: { type: 'string', default: '1' },
      queue: { type: 'string', default: 'postgres' },
      idempotency: { type: 'string', default: 'on' },
      jobs: { type: 'string', default: '3' },
      'first-round': { type: 'string', default: '1' },
    },
  });
  return {
    kills: count(values.kills, 0, 1e6),
    seed: count(values.seed, 0, 2 ** 32 - 1),
    queue: oneOf(values.queue, ['postgres', 'redis']),
    idempotency: oneOf(values.idempotency, ['on', 'off']) === 'on',
    jobs: count(values.jobs, 1, KINDS),
    firstRound: count(values['first-round'], 1, 1e6),
  };
}

function count(text: string, low: number, high: number): number {
  const number = Number(text);
  if (Number.isInteger(number) && number >= low && number <= high) return number;
  throw new UsageError(`${text} is not a whole number from ${low} to ${high}.`);
}

function oneOf<Choice extends string>(text: string, choices: Choice[]): Choice {
  const choice = choices.find((candidate) => candidate === text);
  if (choice !== undefined) return choice;
  throw new UsageError(`${text} is none of ${choices.join(', ')}.`);
}

class UsageError extends Error {}

async function main(): Promise<void> {
  const options = readOptions();
  const say = (line: string) => process.stdout.write(`${line}\n`);
  const keys = options.idempotency ? 'honours' : 'knows no';
  say(`seed ${options.seed}, queue on ${options.queue}, the provider ${keys} idempotency keys`);
  say(tableHead());
  const result = await runChaos({ ...options, onRound: (round) => say(roundRow(round)) });
  say(summary(result));
  if (result.breaches.length > 0) process.exitCode = 1;
}

// What was started dies with this process.
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => process.exit(130));

main().catch((error: Error & { code?: string }) => {
  const wrongUse = error instanceof UsageError || error.code?.startsWith('ERR_PARSE_ARGS');
  process.stderr.write(wrongUse ? `${error.message}\n${USAGE}\n` : `${inspect(error)}\n`);
  process.exit(wrongUse ? 2 : 1);
});
