import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Logger } from 'pino';

const REPORT_MS = 60_000;
const RESOLUTION_MS = 10;
const MIB = 1024 * 1024;

/**
 * Tells in the log, every minute and when the last job has ended, how busy a process that runs many jobs was since it last
 * told: jobs at most, how late its event loop was (in ms), and its memory.
 */
export class HostLoad {
  private jobs = 0;
  private most = 0;
  private delays: IntervalHistogram | null = null;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly log: Logger) {}

  /** A job begins. @returns what is to be called at its end */
  begin(): () => void {
    this.jobs++;
    this.most = Math.max(this.most, this.jobs);
    if (!this.delays) {
      this.delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
      this.delays.enable();
      this.timer = setInterval(() => this.tell(), REPORT_MS).unref();
    }
    return () => {
      this.jobs--;
      if (this.jobs > 0) return;
      this.tell();
      this.stop();
    };
  }

  stop(): void {
    clearInterval(this.timer);
    this.delays?.disable();
    this.delays = null;
  }

  private tell(): void {
    const { delays } = this;
    if (!delays) return;
    // What is measured is the time between two ticks of a timer.
    const late = (nanoseconds: number) => Math.max(0, Math.round(nanoseconds / 1e5) / 10 - RESOLUTION_MS);
    this.log.info(
      {
        jobs: this.most,
        eventLoopDelayMs: { p50: late(delays.percentile(50)), p99: late(delays.percentile(99)), max: late(delays.max) },
        residentMiB: Math.round(process.memoryUsage.rss() / MIB),
      },
      this.jobs > 0 ? 'training jobs' : 'training jobs, until the last one ended',
    );
    delays.reset();
    this.most = this.jobs;
  }
}
