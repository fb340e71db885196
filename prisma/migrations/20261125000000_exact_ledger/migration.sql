-- AlterTable
ALTER TABLE "providers" ADD COLUMN "circuit_failures" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "circuit_probe_at" TIMESTAMPTZ(3);

-- AlterTable
ALTER TABLE "jobs" ADD COLUMN "api_key_id" TEXT,
ADD COLUMN "pause_reason" TEXT,
ADD COLUMN "pause_message" TEXT,
ADD COLUMN "pause_shortage" JSONB,
ADD COLUMN "deadline" TIMESTAMPTZ(3),
ADD COLUMN "provider_patience_seconds" INTEGER NOT NULL DEFAULT 300,
ADD COLUMN "budget_revision" INTEGER NOT NULL DEFAULT 0;

ALTER TABLE "jobs" DROP CONSTRAINT "jobs_status_check";
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_status_check"
    CHECK ("status" IN ('validating_files', 'queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled'));
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_pause_check" CHECK (("status" = 'paused') = ("pause_reason" IS NOT NULL));

-- A job that goes on after its success makes another adapter.
DROP INDEX "adapters_job_id_key";
CREATE INDEX "adapters_job_id_idx" ON "adapters"("job_id");

-- The newest state and the one before it.
ALTER TABLE "training_states" DROP CONSTRAINT "training_states_pkey";
ALTER TABLE "training_states" ADD CONSTRAINT "training_states_pkey" PRIMARY KEY ("job_id", "generation");

-- AlterTable
ALTER TABLE "ledger_accounts" ADD COLUMN "kind" TEXT NOT NULL DEFAULT 'job',
ADD COLUMN "project_id" TEXT,
ALTER COLUMN "provider_id" DROP NOT NULL;
UPDATE "ledger_accounts" SET
    "kind" = CASE WHEN "id" = "provider_id" THEN 'provider' WHEN "id" LIKE 'ftjob-%' THEN 'job' ELSE 'adapter' END,
    "project_id" = 'proj-default';
ALTER TABLE "ledger_accounts" ALTER COLUMN "kind" DROP DEFAULT;

-- AlterTable
ALTER TABLE "ledger_reservations" ADD COLUMN "accounts" TEXT[],
ADD COLUMN "purchase_key" TEXT,
ADD COLUMN "token" TEXT,
ADD COLUMN "attempted_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
ADD COLUMN "doubtful" BOOLEAN NOT NULL DEFAULT false,
ADD COLUMN "api_key_id" TEXT,
ADD COLUMN "billed_image_queries" BIGINT,
ADD COLUMN "billed_requests" BIGINT,
ADD COLUMN "billed_cost_micro_usd" BIGINT;
UPDATE "ledger_reservations" SET
    "accounts" = CASE WHEN "account_id" = "provider_id" THEN ARRAY["account_id", 'proj-default']
                      ELSE ARRAY["account_id", "provider_id", 'proj-default'] END,
    "purchase_key" = 'before-' || "id",
    "attempted_at" = "created_at";
ALTER TABLE "ledger_reservations" ALTER COLUMN "purchase_key" SET NOT NULL,
ALTER COLUMN "accounts" SET NOT NULL;

-- CreateIndex
CREATE UNIQUE INDEX "ledger_reservations_purchase_key_key" ON "ledger_reservations"("purchase_key");

-- What schema.prisma cannot say follows.

-- The project that everything belongs to, and of each provider what its limits per day are: a template of the accounts
-- that its days get.
INSERT INTO "ledger_accounts" ("id", "kind") VALUES ('proj-default', 'project');
INSERT INTO "ledger_accounts" ("id", "kind", "provider_id")
    SELECT "id" || '@day', 'provider_day_limits', "provider_id" FROM "ledger_accounts" WHERE "kind" = 'provider';

WITH "sums" AS (
    SELECT "a"."id",
        coalesce(sum("prompt_evaluations") FILTER (WHERE "state" IN ('settled', 'unknown')), 0) AS "pu",
        coalesce(sum("prompt_evaluations") FILTER (WHERE "state" = 'reserved'), 0) AS "pr",
        coalesce(sum("image_queries") FILTER (WHERE "state" IN ('settled', 'unknown')), 0) AS "iu",
        coalesce(sum("image_queries") FILTER (WHERE "state" = 'reserved'), 0) AS "ir",
        coalesce(sum("requests") FILTER (WHERE "state" IN ('settled', 'unknown')), 0) AS "ru",
        coalesce(sum("requests") FILTER (WHERE "state" = 'reserved'), 0) AS "rr",
        coalesce(sum("cost_micro_usd") FILTER (WHERE "state" IN ('settled', 'unknown')), 0) AS "cu",
        coalesce(sum("cost_micro_usd") FILTER (WHERE "state" = 'reserved'), 0) AS "cr"
    FROM "ledger_reservations" "r", unnest("r"."accounts") AS "a"("id") GROUP BY "a"."id"
)
UPDATE "ledger_accounts" "l" SET
    "prompt_evaluations_used" = "pu", "prompt_evaluations_reserved" = "pr",
    "image_queries_used" = "iu", "image_queries_reserved" = "ir",
    "requests_used" = "ru", "requests_reserved" = "rr",
    "cost_micro_usd_used" = "cu", "cost_micro_usd_reserved" = "cr"
FROM "sums" WHERE "sums"."id" = "l"."id" AND "l"."kind" IN ('provider', 'project');

-- Checked when its transaction ends and has the account anyway: before that it would be one more lock on it.
ALTER TABLE "ledger_reservations" ALTER CONSTRAINT "ledger_reservations_account_id_fkey" DEFERRABLE INITIALLY DEFERRED;

-- Every reservation rewrites its accounts, and every closing its reservation; room on their pages keeps the indexes out of
-- it, as long as none knows of the state. Open reservations are found by their account.
ALTER TABLE "ledger_accounts" SET (fillfactor = 50);
ALTER TABLE "ledger_reservations" SET (fillfactor = 70);
DROP INDEX "ledger_reservations_account_id_open_idx";

-- The last line of defence: whatever the code does, no draw passes a limit. A limit may be set below what was spent, and
-- what a provider billed is counted even where it is more than was reserved; after both, nothing more can be drawn. It is
-- a trigger, because a constraint is parsed anew with every statement, while everybody waits for the accounts.
ALTER TABLE "ledger_accounts"
    DROP CONSTRAINT "ledger_accounts_prompt_evaluations_check",
    DROP CONSTRAINT "ledger_accounts_image_queries_check",
    DROP CONSTRAINT "ledger_accounts_requests_check",
    DROP CONSTRAINT "ledger_accounts_cost_micro_usd_check";

CREATE FUNCTION "ledger_check_account"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.kind NOT IN ('job', 'adapter', 'provider', 'provider_day', 'provider_day_limits', 'project') THEN
        RAISE EXCEPTION 'there are no ledger accounts of kind %', NEW.kind USING ERRCODE = 'check_violation';
    END IF;
    IF least(NEW.prompt_evaluations_used, NEW.prompt_evaluations_reserved, NEW.image_queries_used, NEW.image_queries_reserved,
            NEW.requests_used, NEW.requests_reserved, NEW.cost_micro_usd_used, NEW.cost_micro_usd_reserved) < 0 THEN
        RAISE EXCEPTION 'ledger account % would hold less than nothing', NEW.id USING ERRCODE = 'check_violation';
    END IF;
    IF TG_OP = 'UPDATE' AND (
        (NEW.prompt_evaluations_reserved > OLD.prompt_evaluations_reserved
            AND NEW.prompt_evaluations_used + NEW.prompt_evaluations_reserved > NEW.prompt_evaluations_limit
            AND NEW.prompt_evaluations_used + NEW.prompt_evaluations_reserved
                > OLD.prompt_evaluations_used + OLD.prompt_evaluations_reserved)
        OR (NEW.image_queries_reserved > OLD.image_queries_reserved
            AND NEW.image_queries_used + NEW.image_queries_reserved > NEW.image_queries_limit
            AND NEW.image_queries_used + NEW.image_queries_reserved > OLD.image_queries_used + OLD.image_queries_reserved)
        OR (NEW.requests_reserved > OLD.requests_reserved
            AND NEW.requests_used + NEW.requests_reserved > NEW.requests_limit
            AND NEW.requests_used + NEW.requests_reserved > OLD.requests_used + OLD.requests_reserved)
        OR (NEW.cost_micro_usd_reserved > OLD.cost_micro_usd_reserved
            AND NEW.cost_micro_usd_used + NEW.cost_micro_usd_reserved > NEW.cost_micro_usd_limit
            AND NEW.cost_micro_usd_used + NEW.cost_micro_usd_reserved > OLD.cost_micro_usd_used + OLD.cost_micro_usd_reserved)
    ) THEN
        RAISE EXCEPTION 'ledger account % would be overdrawn', NEW.id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER "ledger_accounts_check" BEFORE INSERT OR UPDATE ON "ledger_accounts"
    FOR EACH ROW EXECUTE FUNCTION "ledger_check_account"();

-- What an account must hold by its reservations, where that is not what it holds. Always empty.
CREATE VIEW "ledger_discrepancies" AS
WITH "counted" AS (
    SELECT "accounts", "state" = 'reserved' AS "open", "prompt_evaluations" AS "p",
        CASE WHEN "state" = 'settled' THEN coalesce("billed_image_queries", "image_queries") ELSE "image_queries" END AS "i",
        CASE WHEN "state" = 'settled' THEN coalesce("billed_requests", "requests") ELSE "requests" END AS "r",
        CASE WHEN "state" = 'settled' THEN coalesce("billed_cost_micro_usd", "cost_micro_usd") ELSE "cost_micro_usd" END AS "c"
    FROM "ledger_reservations" WHERE "state" <> 'released'
), "sums" AS (
    SELECT "a"."id",
        coalesce(sum("p") FILTER (WHERE NOT "open"), 0) AS "pu", coalesce(sum("p") FILTER (WHERE "open"), 0) AS "pr",
        coalesce(sum("i") FILTER (WHERE NOT "open"), 0) AS "iu", coalesce(sum("i") FILTER (WHERE "open"), 0) AS "ir",
        coalesce(sum("r") FILTER (WHERE NOT "open"), 0) AS "ru", coalesce(sum("r") FILTER (WHERE "open"), 0) AS "rr",
        coalesce(sum("c") FILTER (WHERE NOT "open"), 0) AS "cu", coalesce(sum("c") FILTER (WHERE "open"), 0) AS "cr"
    FROM "counted", unnest("accounts") AS "a"("id") GROUP BY "a"."id"
)
SELECT "l".* FROM "ledger_accounts" "l" LEFT JOIN "sums" "s" ON "s"."id" = "l"."id"
WHERE ("prompt_evaluations_used", "prompt_evaluations_reserved", "image_queries_used", "image_queries_reserved",
        "requests_used", "requests_reserved", "cost_micro_usd_used", "cost_micro_usd_reserved")
    IS DISTINCT FROM (coalesce("pu", 0), coalesce("pr", 0), coalesce("iu", 0), coalesce("ir", 0),
        coalesce("ru", 0), coalesce("rr", 0), coalesce("cu", 0), coalesce("cr", 0));

-- One call that wants to draw; src/ledger/ledger.ts says what the fields mean.
CREATE TYPE "ledger_request" AS (
    "ord" int, "account" text, "provider" text, "purpose" text, "guard" text, "epoch" int, "generation" int, "chunk" int,
    "worker" text, "api_key" text, "key" text, "token" text, "window_seconds" int,
    "p" bigint, "i" bigint, "r" bigint, "c" bigint,
    "id" bigint, "accounts" text[]
);

-- What an account's reserved and used amounts change by.
CREATE TYPE "ledger_change" AS (
    "id" text, "pr" bigint, "ir" bigint, "rr" bigint, "cr" bigint, "pu" bigint, "iu" bigint, "ru" bigint, "cu" bigint
);

-- Why a call may not draw; null when it may.
CREATE FUNCTION "ledger_guard"("request" ledger_request) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT nullif(coalesce(CASE "request"."guard"
        WHEN 'running_job' THEN (
            SELECT CASE WHEN status <> 'running' OR epoch <> "request"."epoch" THEN 'refused'
                        WHEN deadline <= now() THEN 'deadline_passed' ELSE 'granted' END
            FROM jobs WHERE id = "request"."account")
        WHEN 'paused_job' THEN (SELECT 'granted' FROM jobs WHERE id = "request"."account" AND status = 'paused')
        WHEN 'live_adapter' THEN (
            SELECT 'granted' FROM adapters a JOIN providers p ON p.id = a.provider_id
            WHERE a.id = "request"."account" AND a.deleted_at IS NULL AND p.deleted_at IS NULL)
        WHEN 'live_provider' THEN (
            SELECT 'granted' FROM providers WHERE id = "request"."provider" AND deleted_at IS NULL)
    END, 'refused'), 'granted')
$$;

-- Draws for many calls at once, each on all of its accounts or not at all, in their order; one transaction, one answer
-- for each. Locks are taken in the order jobs, reservations, accounts, each by id, here and in ledger_close.
--
-- Everybody waits for the accounts of provider and project, so they come last, right before the commit, and behind one lock
-- for all: to queue for that is much cheaper than for rows, each of which would have been changed meanwhile. They are
-- updated in the order of "changes".
CREATE FUNCTION "ledger_reserve"("requests" jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    today text := to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD');
    asked ledger_request[];
    one ledger_request;
    changes ledger_change[];
    covered text[];
    known ledger_reservations%ROWTYPE;
    lacking record;
    verdict text;
    day_missing boolean;
    one_by_one boolean;
    outcomes jsonb := '[]';
    -- For the results of functions: an assignment runs them without a query.
    nothing text;
BEGIN
    -- Whoever takes a job over meanwhile waits for this, and finds these reservations; or was first, and these are refused.
    -- A row with the same key that comes after this look fails the insertion below, and the caller asks again.
    WITH q AS MATERIALIZED (
        SELECT a.*, nextval('ledger_reservations_id_seq') AS new_id, o.provider_id IS NOT NULL AND d.id IS NULL AS day_missing,
            k.id IS NOT NULL AS known,
            array_remove(ARRAY[o.id, nullif(o.provider_id, o.id), o.provider_id || '@' || today, o.project_id], NULL) AS drawn_on
        FROM jsonb_populate_recordset(NULL::ledger_request, requests) a JOIN ledger_accounts o ON o.id = a.account
            LEFT JOIN ledger_accounts d ON d.id = o.provider_id || '@' || today
            LEFT JOIN ledger_reservations k ON k.purchase_key = a.key
    ), owners AS MATERIALIZED (
        SELECT id, status, epoch, deadline FROM jobs WHERE id IN (SELECT account FROM q) ORDER BY id FOR SHARE
    )
    SELECT array_agg(ROW(q.ord, q.account, q.provider, q.purpose, q.guard, q.epoch, q.generation, q.chunk, q.worker, q.api_key,
                q.key, q.token, q.window_seconds, q.p, q.i, q.r, q.c, q.new_id, q.drawn_on)::ledger_request ORDER BY q.ord),
            bool_or(q.day_missing),
            bool_or(q.known) OR count(DISTINCT q.key) < count(*) OR bool_or(CASE q.guard
                WHEN 'running_job' THEN j.status = 'running' AND j.epoch = q.epoch AND (j.deadline > now()) IS NOT FALSE
                WHEN 'paused_job' THEN j.status = 'paused'
                ELSE ledger_guard(ROW(q.ord, q.account, q.provider, q.purpose, q.guard, q.epoch, q.generation, q.chunk, q.worker,
                    q.api_key, q.key, q.token, q.window_seconds, q.p, q.i, q.r, q.c, q.new_id, q.drawn_on)) IS NULL
                END IS NOT TRUE),
            (SELECT array_agg(ROW(s.*, 0, 0, 0, 0)::ledger_change ORDER BY s.a) FROM (
                SELECT a, sum(q.p), sum(q.i), sum(q.r), sum(q.c) FROM q, unnest(q.drawn_on) a GROUP BY a
            ) s)
        INTO asked, day_missing, one_by_one, changes
        FROM q LEFT JOIN owners j ON j.id = q.account;
    IF cardinality(asked) IS DISTINCT FROM jsonb_array_length(requests) THEN
        SELECT jsonb_agg(jsonb_build_object('ord', a.ord, 'outcome', 'refused')) INTO outcomes
            FROM jsonb_populate_recordset(NULL::ledger_request, requests) a
            WHERE NOT EXISTS (SELECT 1 FROM ledger_accounts o WHERE o.id = a.account);
        IF asked IS NULL THEN RETURN outcomes; END IF;
    END IF;

    -- The first call of a day at a provider opens the day's account.
    IF day_missing THEN
        INSERT INTO ledger_accounts (id, kind, provider_id, prompt_evaluations_limit, image_queries_limit, requests_limit,
                cost_micro_usd_limit)
            SELECT provider_id || '@' || today, 'provider_day', provider_id, prompt_evaluations_limit, image_queries_limit,
                requests_limit, cost_micro_usd_limit
            FROM ledger_accounts t
            WHERE kind = 'provider_day_limits' AND id IN (SELECT provider || '@day' FROM unnest(asked))
                AND NOT EXISTS (SELECT 1 FROM ledger_accounts d WHERE d.id = t.provider_id || '@' || today)
            ORDER BY id FOR SHARE OF t
            ON CONFLICT DO NOTHING;
    END IF;

    -- Mostly all may draw and all limits hold: all at once.
    IF NOT one_by_one THEN
        INSERT INTO ledger_reservations (id, account_id, provider_id, accounts, purchase_key, token, purpose, state, generation,
                chunk, attempt, epoch, worker, api_key_id, prompt_evaluations, image_queries, requests, cost_micro_usd)
            SELECT q.id, q.account, q.provider, q.accounts, q.key, q.token, q.purpose, 'reserved', q.generation, q.chunk, 1,
                q.epoch, q.worker, q.api_key, q.p, q.i, q.r, q.c
            FROM unnest(asked) q;
        nothing := pg_advisory_xact_lock(20261125);
        WITH drawn AS (
            UPDATE ledger_accounts l SET
                prompt_evaluations_reserved = prompt_evaluations_reserved + s.pr,
                image_queries_reserved = image_queries_reserved + s.ir,
                requests_reserved = requests_reserved + s.rr,
                cost_micro_usd_reserved = cost_micro_usd_reserved + s.cr
            FROM unnest(changes) s WHERE l.id = s.id
                AND (s.pr = 0 OR (prompt_evaluations_used + prompt_evaluations_reserved + s.pr > prompt_evaluations_limit) IS NOT TRUE)
                AND (s.ir = 0 OR (image_queries_used + image_queries_reserved + s.ir > image_queries_limit) IS NOT TRUE)
                AND (s.rr = 0 OR (requests_used + requests_reserved + s.rr > requests_limit) IS NOT TRUE)
                AND (s.cr = 0 OR (cost_micro_usd_used + cost_micro_usd_reserved + s.cr > cost_micro_usd_limit) IS NOT TRUE)
            RETURNING l.id
        ) SELECT array_agg(id) INTO covered FROM drawn;
        IF cardinality(covered) = cardinality(changes) THEN
            RETURN outcomes || (
                SELECT jsonb_agg(jsonb_build_object('ord', q.ord, 'outcome', 'reserved', 'id', q.id, 'attempt', 1))
                FROM unnest(asked) q);
        END IF;
        UPDATE ledger_accounts l SET
            prompt_evaluations_reserved = prompt_evaluations_reserved - s.pr,
            image_queries_reserved = image_queries_reserved - s.ir,
            requests_reserved = requests_reserved - s.rr,
            cost_micro_usd_reserved = cost_micro_usd_reserved - s.cr
        FROM unnest(changes) s WHERE l.id = s.id AND l.id = ANY (covered);
        DELETE FROM ledger_reservations r USING unnest(asked) q WHERE r.id = q.id;
    END IF;

    PERFORM 1 FROM ledger_reservations WHERE purchase_key IN (SELECT key FROM unnest(asked)) ORDER BY id FOR UPDATE;
    PERFORM 1 FROM ledger_accounts WHERE id IN (
        SELECT unnest(accounts) FROM unnest(asked)
        UNION SELECT unnest(r.accounts) FROM ledger_reservations r JOIN unnest(asked) q ON r.purchase_key = q.key
    ) ORDER BY id FOR NO KEY UPDATE;
    FOREACH one IN ARRAY asked LOOP
        SELECT * INTO known FROM ledger_reservations WHERE purchase_key = one.key;

        -- The very same request again: the answer to it was lost.
        IF known.token = one.token THEN
            outcomes := outcomes || jsonb_build_object('ord', one.ord, 'id', known.id, 'attempt', known.attempt,
                'outcome', CASE known.state WHEN 'reserved' THEN 'reserved' ELSE 'refused' END);
            CONTINUE;
        END IF;

        verdict := ledger_guard(one);
        IF verdict IS NOT NULL THEN
            outcomes := outcomes || jsonb_build_object('ord', one.ord, 'outcome', verdict);
            CONTINUE;
        END IF;

        -- The provider has forgotten a key by then, so that sending it again is another purchase.
        IF known.id IS NOT NULL AND one.window_seconds IS NOT NULL AND known.state <> 'reserved'
            AND known.created_at < now() - make_interval(secs => one.window_seconds) THEN
            UPDATE ledger_reservations SET purchase_key = purchase_key || '#' || id WHERE id = known.id;
            known := NULL;
        END IF;

        -- The same purchase again, drawn already: whatever was counted of it stays counted.
        IF known.id IS NOT NULL AND known.state <> 'released' THEN
            IF known.state <> 'reserved' THEN
                IF known.state = 'settled' THEN
                    known.image_queries := coalesce(known.billed_image_queries, known.image_queries);
                    known.requests := coalesce(known.billed_requests, known.requests);
                    known.cost_micro_usd := coalesce(known.billed_cost_micro_usd, known.cost_micro_usd);
                END IF;
                UPDATE ledger_accounts SET
                    prompt_evaluations_used = prompt_evaluations_used - known.prompt_evaluations,
                    prompt_evaluations_reserved = prompt_evaluations_reserved + known.prompt_evaluations,
                    image_queries_used = image_queries_used - known.image_queries,
                    image_queries_reserved = image_queries_reserved + known.image_queries,
                    requests_used = requests_used - known.requests,
                    requests_reserved = requests_reserved + known.requests,
                    cost_micro_usd_used = cost_micro_usd_used - known.cost_micro_usd,
                    cost_micro_usd_reserved = cost_micro_usd_reserved + known.cost_micro_usd
                WHERE id = ANY (known.accounts);
            END IF;
            UPDATE ledger_reservations SET state = 'reserved', doubtful = true, attempt = known.attempt + 1, epoch = one.epoch,
                worker = one.worker, token = one.token, attempted_at = now(), closed_at = NULL, reason = NULL,
                image_queries = known.image_queries, requests = known.requests, cost_micro_usd = known.cost_micro_usd,
                billed_image_queries = NULL, billed_requests = NULL, billed_cost_micro_usd = NULL
            WHERE id = known.id;
            outcomes := outcomes || jsonb_build_object('ord', one.ord, 'outcome', 'reserved', 'id', known.id,
                'attempt', known.attempt + 1);
            CONTINUE;
        END IF;

        SELECT l.id, l.kind, u.unit, u.cap, u.cap - u.taken AS remaining, u.needed INTO lacking
        FROM unnest(one.accounts) WITH ORDINALITY o(id, place) JOIN ledger_accounts l ON l.id = o.id,
            LATERAL (VALUES
                (1, 'prompt_evaluations', l.prompt_evaluations_limit, l.prompt_evaluations_used + l.prompt_evaluations_reserved, one.p),
                (2, 'image_queries', l.image_queries_limit, l.image_queries_used + l.image_queries_reserved, one.i),
                (3, 'requests', l.requests_limit, l.requests_used + l.requests_reserved, one.r),
                (4, 'cost_micro_usd', l.cost_micro_usd_limit, l.cost_micro_usd_used + l.cost_micro_usd_reserved, one.c)
            ) u(place, unit, cap, taken, needed)
        WHERE u.needed > 0 AND u.taken + u.needed > u.cap
        ORDER BY o.place, u.place LIMIT 1;
        IF FOUND THEN
            outcomes := outcomes || jsonb_build_object('ord', one.ord, 'outcome', 'limit_reached', 'account', lacking.id,
                'kind', lacking.kind, 'unit', lacking.unit, 'limit', lacking.cap, 'remaining', lacking.remaining,
                'needed', lacking.needed);
            CONTINUE;
        END IF;

        UPDATE ledger_accounts SET
            prompt_evaluations_reserved = prompt_evaluations_reserved + one.p,
            image_queries_reserved = image_queries_reserved + one.i,
            requests_reserved = requests_reserved + one.r,
            cost_micro_usd_reserved = cost_micro_usd_reserved + one.c
        WHERE id = ANY (one.accounts);
        IF known.id IS NULL THEN
            INSERT INTO ledger_reservations (id, account_id, provider_id, accounts, purchase_key, token, purpose, state, generation,
                chunk, attempt, epoch, worker, api_key_id, prompt_evaluations, image_queries, requests, cost_micro_usd)
            VALUES (one.id, one.account, one.provider, one.accounts, one.key, one.token, one.purpose, 'reserved', one.generation,
                one.chunk, 1, one.epoch, one.worker, one.api_key, one.p, one.i, one.r, one.c);
        ELSE
            UPDATE ledger_reservations SET state = 'reserved', doubtful = false, attempt = known.attempt + 1, epoch = one.epoch,
                worker = one.worker, token = one.token, accounts = one.accounts, created_at = now(), attempted_at = now(),
                closed_at = NULL, reason = NULL, prompt_evaluations = one.p, image_queries = one.i, requests = one.r,
                cost_micro_usd = one.c
            WHERE id = known.id;
        END IF;
        outcomes := outcomes || jsonb_build_object('ord', one.ord, 'outcome', 'reserved', 'id', coalesce(known.id, one.id),
            'attempt', coalesce(known.attempt, 0) + 1);
    END LOOP;
    RETURN outcomes;
END $$;

-- How one attempt of a reservation ends.
CREATE TYPE "ledger_closing" AS (
    "ord" int, "id" bigint, "attempt" int, "epoch" int, "state" text, "reason" text,
    "billed_i" bigint, "billed_r" bigint, "billed_c" bigint, "call_hash" text, "answer" int
);

-- Ends many reservations at once and keeps the answers that some of them were paid for, in one transaction. A reservation
-- that is closed, or that a later attempt or a newer owner of its job has taken over, is left as it is. Returns which
-- closings hold now: those that were made, and those that had been made before, because the answer to them was lost.
CREATE FUNCTION "ledger_close"("closings" jsonb, "answers" bytea[]) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    ends ledger_closing[];
    changes ledger_change[];
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
            SELECT account_id FROM ledger_reservations r JOIN unnest(ends) e ON e.id = r.id WHERE e.answer IS NOT NULL
        ) ORDER BY id FOR SHARE;
    END IF;

    WITH done AS (
        UPDATE ledger_reservations r SET
            -- That one attempt was not billed does not tell that an earlier one of the same purchase was not.
            state = CASE WHEN e.state = 'released' AND r.doubtful THEN 'unknown' ELSE e.state END,
            closed_at = now(), reason = e.reason,
            billed_image_queries = CASE WHEN e.state = 'settled' THEN e.billed_i END,
            billed_requests = CASE WHEN e.state = 'settled' THEN e.billed_r END,
            billed_cost_micro_usd = CASE WHEN e.state = 'settled' THEN e.billed_c END
        FROM unnest(ends) e
        WHERE r.id = e.id AND r.state = 'reserved' AND r.attempt = e.attempt AND r.epoch IS NOT DISTINCT FROM e.epoch
        RETURNING e.ord, r.accounts, (r.state <> 'released')::int AS counts, r.prompt_evaluations AS p, r.image_queries AS i,
            r.requests AS r, r.cost_micro_usd AS c, coalesce(r.billed_image_queries, r.image_queries) AS bi,
            coalesce(r.billed_requests, r.requests) AS br, coalesce(r.billed_cost_micro_usd, r.cost_micro_usd) AS bc
    ), sums AS (
        SELECT a, sum(p) AS p, sum(i) AS i, sum(r) AS r, sum(c) AS c,
            sum(p * counts) AS pu, sum(bi * counts) AS iu, sum(br * counts) AS ru, sum(bc * counts) AS cu
        FROM done, unnest(done.accounts) a GROUP BY a
    )
    SELECT array_agg(ROW(a, p, i, r, c, pu, iu, ru, cu)::ledger_change ORDER BY a),
            coalesce((SELECT array_agg(ord) FROM done), '{}')
        INTO changes, made FROM sums;

    IF cardinality(answers) > 0 THEN
        -- Of several answers to one call the last one asked for.
        INSERT INTO stored_answers (job_id, generation, chunk, call_hash, logits)
            SELECT DISTINCT ON (r.account_id, r.generation, r.chunk)
                r.account_id, r.generation, r.chunk, decode(e.call_hash, 'hex'), answers[e.answer]
            FROM ledger_reservations r JOIN unnest(ends) e ON e.id = r.id
                JOIN jobs j ON j.id = r.account_id AND j.status IN ('running', 'paused', 'queued')
            WHERE e.ord = ANY (made) AND e.answer IS NOT NULL
            ORDER BY r.account_id, r.generation, r.chunk, e.ord DESC
            ON CONFLICT (job_id, generation, chunk) DO UPDATE SET call_hash = excluded.call_hash, logits = excluded.logits;
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
        cost_micro_usd_used = cost_micro_usd_used + s.cu
    FROM unnest(changes) s WHERE l.id = s.id;
    RETURN made || held;
END $$;

-- Writes out everything that was committed before: a message that nobody reads, which Postgres flushes at once since
-- version 17, and with its commit before that. (Each branch is parsed when it is first run.)
CREATE FUNCTION "ledger_flush"() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    place text;
BEGIN
    IF current_setting('server_version_num')::int >= 170000 THEN
        place := pg_logical_emit_message(false, 'craft', '', true);
    ELSE
        place := pg_logical_emit_message(true, 'craft', '');
    END IF;
END $$;

-- The two as they are called: what they did is on disk when they answer, but nobody waits for the accounts until it is.
-- The commit lets go of them.
CREATE PROCEDURE "ledger_reserve_durably"("requests" jsonb, INOUT "outcomes" jsonb) LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL synchronous_commit = off;
    outcomes := ledger_reserve(requests);
    COMMIT;
    PERFORM ledger_flush();
END $$;

CREATE PROCEDURE "ledger_close_durably"("closings" jsonb, "answers" bytea[], INOUT "held" int[]) LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL synchronous_commit = off;
    held := ledger_close(closings, answers);
    COMMIT;
    PERFORM ledger_flush();
END $$;
