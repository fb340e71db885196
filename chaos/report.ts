import { countStates } from './checks.js';
import type { RoundResult } from './round.js';
import { type ChaosResult, countKills } from './run.js';
import { faultName } from './schedule.js';

const COLUMNS = [
  'round',
  'jobs',
  'generations',
  'kills',
  'other',
  'settled',
  'unknown',
  'released',
  'raised',
  'paid twice',
  'allowed',
  'seconds',
  '',
];
const WIDTHS = [6, 6, 13, 7, 7, 9, 9, 10, 8, 12, 9, 9, 2];

export function tableHead(): string {
  return row(COLUMNS);
}

/** One line of the table. */
export function roundRow(result: RoundResult): string {
  const states = countStates(result.reservations);
  const kills = countKills([result]);
  return row([
    result.round,
    result.jobs,
    result.generations,
    kills,
    result.committed.length - kills,
    states.settled,
    states.unknown,
    states.released,
    result.raises,
    result.paidTwice.paidTwice,
    result.paidTwice.allowed,
    result.seconds.toFixed(1),
    `  ${result.breaches.length === 0 ? 'ok' : 'BREACH'}`,
  ]);
}

/** What comes under the table: faults by kind, totals, breaches. */
export function summary({ rounds, kills, breaches, endedByThemselves, folder }: ChaosResult): string {
  const sum = (figure: (round: RoundResult) => number) => rounds.reduce((total, round) => total + figure(round), 0);
  const faults = new Map<string, number>();
  for (const fault of rounds.flatMap(({ committed }) => committed)) {
    faults.set(faultName(fault), (faults.get(faultName(fault)) ?? 0) + 1);
  }
  const states = countStates(rounds.flatMap(({ reservations }) => reservations));
  const restarts = Object.entries(endedByThemselves).map(([name, times]) => `${name} ${times}`);
  return [
    '',
    ...[...faults]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, times]) => `${name.padEnd(28)}${String(times).padStart(5)}`),
    '',
    `ended without being killed: ${restarts.join(', ')}`,
    `${rounds.length} rounds, ${sum(({ jobs }) => jobs)} jobs, ${sum(({ generations }) => generations)} generations, ` +
      `${kills} kills, ${sum(({ committed }) => committed.length) - kills} other faults; ${states.settled} calls settled, ` +
      `${states.unknown} unknown, ${states.released} released; ${sum((round) => round.paidTwice.paidTwice)} image queries ` +
      `paid twice, at most ${sum((round) => round.paidTwice.allowed)} allowed; ${Math.round(sum(({ seconds }) => seconds))} s; ` +
      `${breaches.length} breaches`,
    ...breaches.map((breach) => `BREACH ${breach}`),
    ...(breaches.length > 0 ? [`Logs: ${folder}`] : []),
  ].join('\n');
}

function row(cells: (string | number)[]): string {
  return cells.map((cell, index) => String(cell).padStart(WIDTHS[index])).join('');
}
