import { Random } from './random.js';

/** Which faults a round commits and when, drawn from the seed alone. */

export type QueueKind = 'postgres' | 'redis';

export type KillTarget =
  | 'api'
  /** The worker with the training processes that it has started. */
  | 'worker and its jobs'
  | 'worker alone'
  | 'training process'
  | 'provider'
  | 'postgres'
  | 'redis';

export type Link = 'postgres' | 'redis' | 'provider';

const SPOILT_ANSWERS = ['429', '500', '503', 'drop_before', 'drop_after', 'truncate', 'hang'] as const;
export type SpoiltAnswer = (typeof SPOILT_ANSWERS)[number];

/** After this long, or after so many more settled calls of the round's jobs. */
export type Moment = { afterMs: number } | { afterCalls: number };

export type Fault =
  | { kind: 'kill'; target: KillTarget; worker: number; restartMs: number }
  /** All connections are cut; new ones are refused for a while. */
  | { kind: 'cut'; link: Link; blackoutMs: number }
  /** A worker and its training processes stand still for longer than its lock, then go on. */
  | { kind: 'freeze'; worker: number; frozenMs: number }
  | { kind: 'answers'; answer: SpoiltAnswer; count: number; retryAfterSeconds?: number }
  | { kind: 'delay'; latencyMs: number; lastsMs: number }
  /** A caller pauses a job and resumes it. */
  | { kind: 'pause'; job: number; pausedMs: number };

export interface ScheduledFault {
  when: Moment;
  fault: Fault;
}

export interface RoundSchedule {
  /** Indices of the kinds of job that run, all at once. */
  kinds: number[];
  faults: ScheduledFault[];
}

const KILLS_PER_ROUND = 7;
const OTHERS_PER_ROUND = 4;

export function scheduleRound(
  seed: number,
  round: number,
  system: { queue: QueueKind; kinds: number; jobs: number; lockMs: number },
): RoundSchedule {
  const random = new Random(seed, round);
  const kinds = random
    .shuffled(Array.from({ length: system.kinds }, (_, index) => index))
    .slice(0, system.jobs)
    .sort();
  const kill = () => drawKill(random, system.queue);
  const other = () => drawOther(random, system, kinds.length);
  const draws = random.shuffled([
    ...Array.from({ length: KILLS_PER_ROUND }, () => kill),
    ...Array.from({ length: OTHERS_PER_ROUND }, () => other),
  ]);
  return { kinds, faults: draws.map((draw) => ({ when: drawMoment(random), fault: draw() })) };
}

/** Most faults come in the midst of progress, some while the system is still getting over the last one. */
function drawMoment(random: Random): Moment {
  return random.next() < 0.3 ? { afterMs: random.integer(50, 1500) } : { afterCalls: random.integer(1, 20) };
}

function drawKill(random: Random, queue: QueueKind): Fault {
  const target = random.weighted<KillTarget>({
    'training process': 4,
    'worker and its jobs': 4,
    'worker alone': 2,
    provider: 3,
    postgres: 3,
    api: 2,
    ...(queue === 'redis' ? { redis: 3 } : {}),
  });
  return { kind: 'kill', target, worker: random.integer(0, 1), restartMs: random.integer(50, 1500) };
}

function drawOther(random: Random, { queue, lockMs }: { queue: QueueKind; lockMs: number }, jobs: number): Fault {
  const kind = random.weighted<Exclude<Fault['kind'], 'kill'>>({ answers: 5, cut: 4, freeze: 2, delay: 1, pause: 2 });
  switch (kind) {
    case 'cut': {
      const link = random.weighted<Link>({ postgres: 2, provider: 2, ...(queue === 'redis' ? { redis: 2 } : {}) });
      return { kind, link, blackoutMs: random.next() < 0.5 ? 0 : random.integer(100, 2500) };
    }
    case 'freeze':
      return { kind, worker: random.integer(0, 1), frozenMs: Math.round(lockMs * (1.6 + random.next())) };
    case 'answers':
      return drawAnswers(random);
    case 'delay':
      return { kind, latencyMs: random.integer(200, 1000), lastsMs: random.integer(500, 2000) };
    case 'pause':
      return { kind, job: random.integer(0, jobs - 1), pausedMs: random.integer(0, 1500) };
  }
}

function drawAnswers(random: Random): Fault {
  const answer = random.pick(SPOILT_ANSWERS);
  const count = random.integer(1, answer === 'hang' ? 2 : 4);
  const says = answer === '429' || answer === '503';
  return { kind: 'answers', answer, count, ...(says && random.next() < 0.5 ? { retryAfterSeconds: 1 } : {}) };
}

export function describeFault(fault: Fault): string {
  switch (fault.kind) {
    case 'kill': {
      const which = /worker|training/.test(fault.target) ? ` of worker ${fault.worker}` : '';
      return `kill ${fault.target}${which}, back after ${fault.restartMs} ms`;
    }
    case 'cut':
      return `cut the connections to ${fault.link}, refuse new ones for ${fault.blackoutMs} ms`;
    case 'freeze':
      return `freeze worker ${fault.worker} for ${fault.frozenMs} ms`;
    case 'answers':
      return `spoil ${fault.count} answers: ${fault.answer}${fault.retryAfterSeconds ? ' with Retry-After' : ''}`;
    case 'delay':
      return `delay answers by ${fault.latencyMs} ms for ${fault.lastsMs} ms`;
    case 'pause':
      return `pause job ${fault.job} and resume it after ${fault.pausedMs} ms`;
  }
}

/** The row of the table that counts the fault. */
export function faultName(fault: Fault): string {
  switch (fault.kind) {
    case 'kill':
      return `kill ${fault.target}`;
    case 'cut':
      return `cut ${fault.link}`;
    case 'freeze':
      return 'freeze worker';
    case 'answers':
      return `answer ${fault.answer}`;
    case 'delay':
      return 'delay answers';
    case 'pause':
      return 'pause and resume';
  }
}
