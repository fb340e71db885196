import type { Closing, Reservation } from './reservation.js';

/**
 * A closing as `ledger_close` takes it.
 * @param ord names it in the statement's answer
 * @param answerAt position of what is kept with it among the statement's answers, from 1
 */
export function closingRow(reservation: Reservation, closing: Closing, ord: number, answerAt: number | null) {
  const { billed, answer, embeddings } = closing.state === 'settled' ? closing : {};
  return {
    ord,
    id: String(reservation.id),
    attempt: reservation.attempt,
    epoch: reservation.epoch,
    state: closing.state,
    reason: closing.reason ?? null,
    billed_i: billed?.imageQueries ?? null,
    billed_r: billed?.requests ?? null,
    billed_c: billed?.costMicroUsd ?? null,
    call_hash: answer ? Buffer.from(answer.callHash).toString('hex') : null,
    answer: answerAt,
    billed_in: billed?.tokens?.inputTokens ?? null,
    billed_out: billed?.tokens?.outputTokens ?? null,
    texts: closing.texts ?? null,
    space: embeddings?.space ?? null,
    images: embeddings?.images ?? null,
  };
}
