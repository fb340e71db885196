import type { Prisma } from '../db/client.js';

/** Tells the processes that stream a job's events that there are new ones. */
export const EVENT_CHANNEL = 'craft_job_events';

export interface NewJobEvent {
  level: 'info' | 'warn' | 'error';
  /** `message` for people, `metrics` for one generation's figures. */
  type: 'message' | 'metrics';
  message: string;
  data?: Prisma.InputJsonObject;
}

/** Writes events in the transaction of the change that they tell of; listeners hear of them when it commits. */
export async function recordEvents(tx: Prisma.TransactionClient, jobId: string, events: NewJobEvent[]): Promise<void> {
  if (events.length === 0) return;
  await tx.jobEvent.createMany({ data: events.map((event) => ({ jobId, ...event })) });
  await tx.$executeRaw`SELECT pg_notify(${EVENT_CHANNEL}, ${jobId})`;
}
