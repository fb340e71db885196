// A worker process that takes jobs from the queue of its first argument (a QueueConnection as JSON), says the id of each
// on standard output and never finishes one.
import pino from 'pino';
import { startTrainingWorker } from '../../dist/queue/queue.js';

await startTrainingWorker(JSON.parse(process.argv[2]), {
  concurrency: 1,
  lockDurationMs: 1000,
  stalledIntervalMs: 500,
  log: pino({ level: 'silent' }),
  process: (jobId) => {
    console.log(jobId);
    return new Promise(() => {});
  },
});
