import type { BilledAmounts, QueryAmounts } from '../providers/provider.js';

/** One provider call as the ledger sees it. */

export const QUERY_PURPOSES = [
  'images',
  'candidates',
  'elites',
  'centre',
  'validation',
  'predict',
  'zero_shot',
  'probe',
  'test',
] as const;
export type QueryPurpose = (typeof QUERY_PURPOSES)[number];

/** Who may draw: the account's owner must be in this state when the reservation is made. */
export type ReservationGuard =
  | { kind: 'running_job'; epoch: number }
  | { kind: 'paused_job' }
  | { kind: 'live_adapter' }
  | { kind: 'live_provider' };

export interface ReservationRequest {
  /** The account of the job, adapter or provider that the call is made for. */
  accountId: string;
  providerId: string;
  purpose: QueryPurpose;
  amounts: QueryAmounts;
  guard: ReservationGuard;
  generation?: number;
  /** Position of the call in its generation's plan. */
  chunk?: number;
  worker: string;
  /** The API key that asked for it. */
  apiKeyId?: string | null;
  /**
   * The idempotency key that goes to the provider, where it honours them, and how long it does. Every reservation with
   * the same key is the same purchase: it is drawn once, however often it is tried.
   */
  purchase?: { key: string; windowSeconds: number };
}

/** A drawn reservation; whoever holds it closes it. */
export interface Reservation {
  id: bigint;
  /** The owner's epoch, where it is a job's; a closing under an older one is refused. */
  epoch: number | null;
  /** 1, or more where the purchase was tried before. */
  attempt: number;
}

/** What the provider answered to a job's call, with a hash of everything that was asked. */
export interface PaidAnswer {
  callHash: Uint8Array<ArrayBuffer>;
  /** little-endian float32 */
  logits: Uint8Array<ArrayBuffer>;
}

/** The embeddings that a call was paid for: kept for whoever needs one of these images again. */
export interface PaidEmbeddings {
  /** Names all that decides an embedding, within the provider. */
  space: string;
  /** SHA-256 of each image, in hexadecimal. */
  images: string[];
  /** [images, D], little-endian float32 */
  values: Uint8Array<ArrayBuffer>;
}

/** How a reservation ends. */
export type Closing =
  | {
      state: 'settled';
      billed?: BilledAmounts | null;
      answer?: PaidAnswer;
      embeddings?: PaidEmbeddings;
      /** Texts that were embedded. */
      texts?: number;
      reason?: string;
    }
  | { state: 'released' | 'unknown'; reason: string; texts?: number };

/** The account's owner is no longer in the state that its guard demands: cancelled, deleted, or owned by a newer worker. */
export class ReservationRefusedError extends Error {
  override readonly name = 'ReservationRefusedError';
}

/** The job's deadline has passed: no call is sent any more. */
export class DeadlinePassedError extends Error {
  override readonly name = 'DeadlinePassedError';
}
