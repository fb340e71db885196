-- Providers of any protocol: limits and prices by the token, embeddings of images kept for all, text prompts that were
-- scored, and what the ledger notes beside what it limits.

ALTER TABLE "jobs" ADD COLUMN "extends_plan" BOOLEAN NOT NULL DEFAULT true;

ALTER TABLE "providers" ADD COLUMN "tokens_per_second" DOUBLE PRECISION;
ALTER TABLE "providers" ADD COLUMN "price_per_input_token_pico_usd" BIGINT NOT NULL DEFAULT 0;
ALTER TABLE "providers" ADD COLUMN "price_per_output_token_pico_usd" BIGINT NOT NULL DEFAULT 0;

CREATE TABLE "scored_prompts" (
    "job_id" TEXT NOT NULL,
    "image_set" TEXT NOT NULL,
    "template" TEXT NOT NULL,
    "generation" INTEGER NOT NULL,
    "answer" BYTEA NOT NULL,

    CONSTRAINT "scored_prompts_pkey" PRIMARY KEY ("job_id","image_set","template")
);
ALTER TABLE "scored_prompts" ADD CONSTRAINT "scored_prompts_job_id_fkey" FOREIGN KEY ("job_id") REFERENCES "jobs"("id") ON DELETE CASCADE ON UPDATE CASCADE;
-- Numbers do not compress.
ALTER TABLE "scored_prompts" ALTER COLUMN "answer" SET STORAGE EXTERNAL;

CREATE TABLE "image_embeddings" (
    "provider_id" TEXT NOT NULL,
    "space" TEXT NOT NULL,
    "sha256" BYTEA NOT NULL,
    "embedding" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "used_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "image_embeddings_pkey" PRIMARY KEY ("provider_id","space","sha256")
);
CREATE INDEX "image_embeddings_used_at_idx" ON "image_embeddings"("used_at");

CREATE TABLE "image_embedding_claims" (
    "provider_id" TEXT NOT NULL,
    "space" TEXT NOT NULL,
    "sha256" BYTEA NOT NULL,
    "owner" TEXT NOT NULL,
    "expires_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "image_embedding_claims_pkey" PRIMARY KEY ("provider_id","space","sha256")
);
ALTER TABLE "image_embeddings" ALTER COLUMN "embedding" SET STORAGE EXTERNAL;

ALTER TABLE "ledger_reservations" ADD COLUMN "billed_input_tokens" BIGINT;
ALTER TABLE "ledger_reservations" ADD COLUMN "billed_output_tokens" BIGINT;
ALTER TABLE "ledger_reservations" ADD COLUMN "text_embeddings" BIGINT NOT NULL DEFAULT 0;
ALTER TABLE "ledger_accounts" ADD COLUMN "input_tokens" BIGINT NOT NULL DEFAULT 0;
ALTER TABLE "ledger_accounts" ADD COLUMN "output_tokens" BIGINT NOT NULL DEFAULT 0;
ALTER TABLE "ledger_accounts" ADD COLUMN "text_embeddings" BIGINT NOT NULL DEFAULT 0;

-- Tokens that were billed, texts that were embedded, and, of images that were embedded, the space and their SHA-256.
ALTER TYPE "ledger_closing" ADD ATTRIBUTE "billed_in" bigint, ADD ATTRIBUTE "billed_out" bigint, ADD ATTRIBUTE "texts" bigint,
    ADD ATTRIBUTE "space" text, ADD ATTRIBUTE "images" text[];

-- What an account's amounts change by when calls are closed.
CREATE TYPE "ledger_closed" AS (
    "id" text, "pr" bigint, "ir" bigint, "rr" bigint, "cr" bigint, "pu" bigint, "iu" bigint, "ru" bigint, "cu" bigint,
    "ti" bigint, "tout" bigint, "tx" bigint
);

-- Ends many reservations at once and keeps the answers that some of them were paid for, in one transaction. A reservation
-- that is closed, or that a later attempt or a newer owner of its job has taken over, is left as it is. Returns which
-- closings hold now: those that were made, and those that had been made before, because the answer to them was lost.
CREATE OR REPLACE FUNCTION "ledger_close"("closings" jsonb, "answers" bytea[]) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    ends ledger_closing[];
    changes ledger_closed[];
    made int[];
    held int[];
    nothing text;
BEGIN
    SELECT array_agg(e ORDER BY e.id) INTO ends FROM (
        SELECT DISTINCT ON (c.id) c.* FROM jsonb_populate_recordset(NULL::ledger_closing, closings) c ORDER BY c.id, c.ord
    ) e;
    IF ends IS NULL THEN RETURN '{}'; END IF;
    IF cardinality(answers) > 0 THEN
        -- A job that is cancelled at this moment discards its answers; none may come after that.
        PERFORM 1 FROM jobs WHERE id IN (
            SELECT account_id FROM ledger_reservations r JOIN unnest(ends) e ON e.id = r.id
                WHERE e.answer IS NOT NULL AND e.images IS NULL
        ) ORDER BY id FOR SHARE;
    END IF;

    WITH done AS (
        UPDATE ledger_reservations r SET
            -- That one attempt was not billed does not tell that an earlier one of the same purchase was not.
            state = CASE WHEN e.state = 'released' AND r.doubtful THEN 'unknown' ELSE e.state END,
            closed_at = now(), reason = e.reason,
            billed_image_queries = CASE WHEN e.state = 'settled' THEN e.billed_i END,
            billed_requests = CASE WHEN e.state = 'settled' THEN e.billed_r END,
            billed_cost_micro_usd = CASE WHEN e.state = 'settled' THEN e.billed_c END,
            -- What an earlier attempt was noted for stays, unless this one tells better.
            billed_input_tokens = coalesce(e.billed_in, r.billed_input_tokens),
            billed_output_tokens = coalesce(e.billed_out, r.billed_output_tokens),
            text_embeddings = coalesce(e.texts, r.text_embeddings)
        FROM unnest(ends) e JOIN ledger_reservations o ON o.id = e.id
        WHERE r.id = e.id AND r.state = 'reserved' AND r.attempt = e.attempt AND r.epoch IS NOT DISTINCT FROM e.epoch
        RETURNING e.ord, r.accounts, (r.state <> 'released')::int AS counts, r.prompt_evaluations AS p, r.image_queries AS i,
            r.requests AS r, r.cost_micro_usd AS c, coalesce(r.billed_image_queries, r.image_queries) AS bi,
            coalesce(r.billed_requests, r.requests) AS br, coalesce(r.billed_cost_micro_usd, r.cost_micro_usd) AS bc,
            -- A purchase that is closed again was noted before.
            coalesce(r.billed_input_tokens, 0) - coalesce(o.billed_input_tokens, 0) AS ti,
            coalesce(r.billed_output_tokens, 0) - coalesce(o.billed_output_tokens, 0) AS tout,
            r.text_embeddings - o.text_embeddings AS tx
    ), sums AS (
        SELECT a, sum(p) AS p, sum(i) AS i, sum(r) AS r, sum(c) AS c,
            sum(p * counts) AS pu, sum(bi * counts) AS iu, sum(br * counts) AS ru, sum(bc * counts) AS cu,
            sum(ti) AS ti, sum(tout) AS tout, sum(tx) AS tx
        FROM done, unnest(done.accounts) a GROUP BY a
    )
    SELECT array_agg(ROW(a, p, i, r, c, pu, iu, ru, cu, ti, tout, tx)::ledger_closed ORDER BY a),
            coalesce((SELECT array_agg(ord) FROM done), '{}')
        INTO changes, made FROM sums;

    IF cardinality(answers) > 0 THEN
        -- Of several answers to one call the last one asked for.
        INSERT INTO stored_answers (job_id, generation, chunk, call_hash, logits)
            SELECT DISTINCT ON (r.account_id, r.generation, r.chunk)
                r.account_id, r.generation, r.chunk, decode(e.call_hash, 'hex'), answers[e.answer]
            FROM ledger_reservations r JOIN unnest(ends) e ON e.id = r.id
                JOIN jobs j ON j.id = r.account_id AND j.status IN ('running', 'paused', 'queued')
            WHERE e.ord = ANY (made) AND e.answer IS NOT NULL AND e.images IS NULL
            ORDER BY r.account_id, r.generation, r.chunk, e.ord DESC
            ON CONFLICT (job_id, generation, chunk) DO UPDATE SET call_hash = excluded.call_hash, logits = excluded.logits;
    END IF;
    -- An image's embedding is the same whoever asked for it, and whatever became of him.
    IF EXISTS (SELECT 1 FROM unnest(ends) e WHERE e.images IS NOT NULL) THEN
        INSERT INTO image_embeddings (provider_id, space, sha256, embedding)
            SELECT DISTINCT ON (r.provider_id, e.space, s.sha) r.provider_id, e.space, decode(s.sha, 'hex'),
                substring(answers[e.answer] FROM ((s.place - 1) * w.size + 1)::int FOR w.size)
            FROM ledger_reservations r JOIN unnest(ends) e ON e.id = r.id AND e.images IS NOT NULL,
                LATERAL (SELECT octet_length(answers[e.answer]) / cardinality(e.images) AS size) w,
                LATERAL unnest(e.images) WITH ORDINALITY s(sha, place)
            ORDER BY r.provider_id, e.space, s.sha
            ON CONFLICT DO NOTHING;
    END IF;
    IF cardinality(made) < jsonb_array_length(closings) THEN
        SELECT array_agg(e.ord) INTO held
            FROM jsonb_populate_recordset(NULL::ledger_closing, closings) e JOIN ledger_reservations r ON r.id = e.id
                AND r.attempt = e.attempt AND r.epoch IS NOT DISTINCT FROM e.epoch
                AND r.state = CASE WHEN e.state = 'released' AND r.doubtful THEN 'unknown' ELSE e.state END
            WHERE e.ord <> ALL (made);
    END IF;
    nothing := pg_advisory_xact_lock(20261125);
    UPDATE ledger_accounts l SET
        prompt_evaluations_reserved = prompt_evaluations_reserved - s.pr,
        prompt_evaluations_used = prompt_evaluations_used + s.pu,
        image_queries_reserved = image_queries_reserved - s.ir,
        image_queries_used = image_queries_used + s.iu,
        requests_reserved = requests_reserved - s.rr,
        requests_used = requests_used + s.ru,
        cost_micro_usd_reserved = cost_micro_usd_reserved - s.cr,
        cost_micro_usd_used = cost_micro_usd_used + s.cu,
        input_tokens = input_tokens + s.ti,
        output_tokens = output_tokens + s.tout,
        text_embeddings = text_embeddings + s.tx
    FROM unnest(changes) s WHERE l.id = s.id;
    RETURN made || held;
END $$;
