import { setTimeout as sleep } from 'node:timers/promises';
import type { Interruption } from './checks.js';
import type { Cluster } from './cluster.js';
import { LARGEST_CALL } from './jobs.js';
import { until } from './patience.js';
import { signal, type TrainingProcess, trainingProcesses } from './process-table.js';
import type { RunningJob } from './running-job.js';
import type { Fault, KillTarget, Link, SpoiltAnswer } from './schedule.js';
import type { SupervisedProcess } from './supervised-process.js';

/** So that calls are in flight when something dies. */
const USUAL_LATENCY_MS = 50;
/** Postgres stamps a call's row a little later than the signal that its process was still able to precede. */
const STAMP_MS = 20;
/** Within this time nobody else can have taken over a job whose worker was hit. */
const TAKEOVER_MS = 250;
/** Answers that were computed, and so counted, before they were spoilt. */
const COUNTED: SpoiltAnswer[] = ['drop_after', 'truncate'];

/** Commits the faults of one round, and keeps what they may have cost. */
export class FaultInjector {
  readonly interruptions: Interruption[] = [];
  /** Image queries of answers that the provider computed, counted and spoilt. */
  spoiltImageQueries = 0;
  /** What goes on after a fault was committed: restarts and ends of delays. */
  private readonly aftermath: Promise<void>[] = [];
  /** Until when something is away because of an earlier fault. */
  private readonly back = new Map<Link, Promise<void>>();
  private plan: { answer: SpoiltAnswer; count: number } | undefined;

  constructor(
    private readonly cluster: Cluster,
    private readonly jobs: RunningJob[],
  ) {}

  /** The provider answers properly, at its usual pace. */
  async begin(): Promise<void> {
    const { control } = this.cluster;
    await until('the provider takes a plan of faults', () =>
      control.misbehave({ latency_ms: USUAL_LATENCY_MS }).then(
        () => true,
        () => false,
      ),
    );
  }

  /** @returns whether there was something to commit it on */
  async commit(fault: Fault): Promise<boolean> {
    switch (fault.kind) {
      case 'kill':
        return this.kill(fault.target, fault.worker, fault.restartMs);
      case 'cut':
        return this.cut(fault.link, fault.blackoutMs);
      case 'freeze':
        return this.freeze(this.cluster.workers[fault.worker], fault.frozenMs);
      case 'answers':
        return this.spoil(fault.answer, fault.count, fault.retryAfterSeconds);
      case 'delay':
        return this.delay(fault.latencyMs, fault.lastsMs);
      case 'pause':
        return this.pause(this.jobs[fault.job], fault.pausedMs);
    }
  }

  /** Waits until all that was killed, cut, frozen or paused is back. */
  async settle(): Promise<void> {
    await Promise.all(this.aftermath);
    await this.cluster.isUp();
    await this.endPlan();
    await this.begin();
  }

  private kill(target: KillTarget, worker: number, restartMs: number): Promise<boolean> {
    const { api, workers } = this.cluster;
    switch (target) {
      case 'api':
        return api.kill('group', restartMs);
      case 'worker and its jobs':
        return this.killWorker(workers[worker], 'group', restartMs);
      case 'worker alone':
        return this.killWorker(workers[worker], 'alone', restartMs);
      case 'training process':
        return this.killTraining(workers[worker]);
      case 'provider':
        return this.killProvider(restartMs);
      case 'postgres':
        return this.killPostgres(restartMs);
      case 'redis':
        return this.killRedis(restartMs);
    }
  }

  private async killWorker(worker: SupervisedProcess, what: 'alone' | 'group', restartMs: number): Promise<boolean> {
    const training = await this.trainingOf(worker);
    const from = Date.now();
    if (!(await worker.kill(what, restartMs))) return false;
    this.interrupt(from, TAKEOVER_MS, training);
    return true;
  }

  private async killTraining(worker: SupervisedProcess): Promise<boolean> {
    const found = await until('a training process', () => this.someTraining(worker), { timeoutMs: 3000 }).catch(
      () => undefined,
    );
    if (found === undefined) return false;
    const from = Date.now();
    signal(found.pid, 'SIGKILL');
    this.interrupt(from, TAKEOVER_MS, [found]);
    return true;
  }

  private async killProvider(restartMs: number): Promise<boolean> {
    const { provider, links, control } = this.cluster;
    await this.isBack('provider');
    const from = Date.now();
    if (!(await provider.kill('group', restartMs))) return false;
    await links.provider.close();
    this.interrupt(from, STAMP_MS);
    this.away('provider', async () => {
      await until('the provider is back', () => control.isReady());
      await this.begin();
      await links.provider.open();
    });
    // Its plan died with it; how far it had got is not known.
    if (this.plan !== undefined) this.countSpoilt(this.plan.answer, this.plan.count);
    this.plan = undefined;
    return true;
  }

  private async killPostgres(restartMs: number): Promise<boolean> {
    const { postgres, links } = this.cluster;
    await this.isBack('postgres');
    const from = Date.now();
    await postgres.kill();
    await links.postgres.close();
    this.interrupt(from, STAMP_MS);
    this.away('postgres', async () => {
      await sleep(restartMs);
      await postgres.start();
      await links.postgres.open();
    });
    return true;
  }

  private async killRedis(restartMs: number): Promise<boolean> {
    const { redis, links } = this.cluster;
    if (redis === undefined) return false;
    await this.isBack('redis');
    await redis.kill();
    await links.redis.close();
    this.away('redis', async () => {
      await sleep(restartMs);
      await redis.start();
      await links.redis.open();
    });
    return true;
  }

  private async cut(name: Link, blackoutMs: number): Promise<boolean> {
    const link = this.cluster.links[name];
    if (link === undefined) return false;
    await this.isBack(name);
    const from = Date.now();
    await (blackoutMs === 0 ? link.cut() : link.close());
    if (name !== 'redis') this.interrupt(from, STAMP_MS);
    this.away(name, async () => {
      await sleep(blackoutMs);
      await link.open();
    });
    return true;
  }

  private async freeze(worker: SupervisedProcess, frozenMs: number): Promise<boolean> {
    const { pid } = worker;
    if (pid === undefined) return false;
    const training = await this.trainingOf(worker);
    const from = Date.now();
    signal(-pid, 'SIGSTOP');
    this.interrupt(from, TAKEOVER_MS, training);
    this.later(sleep(frozenMs).then(() => signal(-pid, 'SIGCONT')));
    return true;
  }

  private async spoil(answer: SpoiltAnswer, count: number, retryAfterSeconds: number | undefined): Promise<boolean> {
    await this.isBack('provider');
    await this.endPlan();
    const failure = { kind: answer, count, ...(retryAfterSeconds && { retry_after_s: retryAfterSeconds }) };
    await this.cluster.control.misbehave({ latency_ms: USUAL_LATENCY_MS, fail_next: [failure] });
    this.plan = { answer, count };
    return true;
  }

  private async delay(latencyMs: number, lastsMs: number): Promise<boolean> {
    await this.isBack('provider');
    await this.endPlan();
    await this.cluster.control.misbehave({ latency_ms: latencyMs });
    this.later(
      sleep(lastsMs).then(async () => {
        await this.isBack('provider');
        if (this.plan === undefined) await this.begin();
      }),
    );
    return true;
  }

  private async pause(job: RunningJob, pausedMs: number): Promise<boolean> {
    if (job.ended) return false;
    await job.pause();
    this.later(sleep(pausedMs).then(() => job.resume()));
    return true;
  }

  /** Reads how far the provider got with the faults it was told to commit, before they are replaced. */
  private async endPlan(): Promise<void> {
    const { plan } = this;
    this.plan = undefined;
    if (plan === undefined) return;
    const committed = await this.cluster.control.committed();
    this.countSpoilt(plan.answer, committed[plan.answer] ?? 0);
  }

  private countSpoilt(answer: SpoiltAnswer, count: number): void {
    if (COUNTED.includes(answer)) this.spoiltImageQueries += count * LARGEST_CALL.image_queries;
  }

  private interrupt(from: number, grace: number, training?: TrainingProcess[]): void {
    const workers = training?.map(({ name }) => name);
    this.interruptions.push({ from: from - STAMP_MS, to: Date.now() + grace, workers });
  }

  private away(what: Link, comeBack: () => Promise<void>): void {
    const back = comeBack();
    this.back.set(what, back);
    this.later(back);
  }

  private later(work: Promise<void>): void {
    // Its failure is met when the round settles, not before.
    work.catch(() => {});
    this.aftermath.push(work);
  }

  private async isBack(what: Link): Promise<void> {
    await this.back.get(what);
  }

  private async trainingOf(worker: SupervisedProcess): Promise<TrainingProcess[]> {
    return (await trainingProcesses([worker])).filter(({ parent }) => parent === worker.pid);
  }

  /** The worker's, or any worker's while that one has none. */
  private async someTraining(worker: SupervisedProcess): Promise<TrainingProcess | undefined> {
    const all = await trainingProcesses(this.cluster.workers);
    return all.find(({ parent }) => parent === worker.pid) ?? all[0];
  }
}
