/** The queue of training jobs: BullMQ on Redis or on Postgres, without anybody outside this folder knowing which. */
export { openQueueConnection, type QueueConnection } from './connection.js';
export { openTrainingQueue, type TrainingQueue } from './training-queue.js';
export {
  HandBack,
  LockLostError,
  startTrainingWorker,
  type TrainingWorker,
  type TrainingWorkerOptions,
} from './training-worker.js';
