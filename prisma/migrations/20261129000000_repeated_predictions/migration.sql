-- Predictions that are sent again with the same Idempotency-Key get the first answer, and pay for nothing.

-- Who works on a request's answer, until when that is believed, and when the answer is forgotten (that of a created job never is).
ALTER TABLE "idempotent_requests"
    ADD COLUMN "claimed_by" TEXT,
    ADD COLUMN "claimed_until" TIMESTAMPTZ(3),
    ADD COLUMN "expires_at" TIMESTAMPTZ(3);

CREATE INDEX "idempotent_requests_expires_at_idx" ON "idempotent_requests"("expires_at") WHERE "expires_at" IS NOT NULL;

-- What was answered to the provider calls of a request that has no answer yet.
CREATE TABLE "answered_calls" (
    "api_key_id" TEXT NOT NULL,
    "key" TEXT NOT NULL,
    "chunk" INTEGER NOT NULL,
    "call_hash" BYTEA NOT NULL,
    "answer" BYTEA NOT NULL,
    "usage" JSONB NOT NULL,

    CONSTRAINT "answered_calls_pkey" PRIMARY KEY ("api_key_id", "key", "chunk"),
    CONSTRAINT "answered_calls_api_key_id_key_fkey" FOREIGN KEY ("api_key_id", "key")
        REFERENCES "idempotent_requests"("api_key_id", "key") ON DELETE CASCADE ON UPDATE CASCADE
);
