-- Totals by state on the account, kept by the functions that reserve and close, so that reading them costs the same however
-- many entries there are. Of reserved entries the account holds the amounts already; those of settled ones are what is used
-- without what is unknown.

ALTER TABLE "ledger_accounts"
    ADD COLUMN "entries_reserved" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "entries_settled" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "entries_released" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "entries_unknown" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "prompt_evaluations_released" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "image_queries_released" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "requests_released" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "cost_micro_usd_released" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "prompt_evaluations_unknown" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "image_queries_unknown" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "requests_unknown" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "cost_micro_usd_unknown" BIGINT NOT NULL DEFAULT 0;

-- Whoever reserves or closes waits for the accounts until this is committed.
WITH "sums" AS (
    SELECT "a"."id", count(*) FILTER (WHERE "state" = 'reserved') AS "open", count(*) FILTER (WHERE "state" = 'settled') AS "settled",
        count(*) FILTER (WHERE "state" = 'released') AS "released", count(*) FILTER (WHERE "state" = 'unknown') AS "unknown",
        coalesce(sum("prompt_evaluations") FILTER (WHERE "state" = 'released'), 0) AS "pl",
        coalesce(sum("image_queries") FILTER (WHERE "state" = 'released'), 0) AS "il",
        coalesce(sum("requests") FILTER (WHERE "state" = 'released'), 0) AS "rl",
        coalesce(sum("cost_micro_usd") FILTER (WHERE "state" = 'released'), 0) AS "cl",
        coalesce(sum("prompt_evaluations") FILTER (WHERE "state" = 'unknown'), 0) AS "pn",
        coalesce(sum("image_queries") FILTER (WHERE "state" = 'unknown'), 0) AS "in",
        coalesce(sum("requests") FILTER (WHERE "state" = 'unknown'), 0) AS "rn",
        coalesce(sum("cost_micro_usd") FILTER (WHERE "state" = 'unknown'), 0) AS "cn"
    FROM "ledger_reservations", unnest("accounts") AS "a"("id") GROUP BY "a"."id"
)
UPDATE "ledger_accounts" "l" SET
    "entries_reserved" = "open", "entries_settled" = "settled", "entries_released" = "released", "entries_unknown" = "unknown",
    "prompt_evaluations_released" = "pl", "prompt_evaluations_unknown" = "pn",
    "image_queries_released" = "il", "image_queries_unknown" = "in",
    "requests_released" = "rl", "requests_unknown" = "rn",
    "cost_micro_usd_released" = "cl", "cost_micro_usd_unknown" = "cn"
FROM "sums" WHERE "sums"."id" = "l"."id";

CREATE OR REPLACE FUNCTION "ledger_check_account"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.kind NOT IN ('job', 'adapter', 'provider', 'provider_day', 'provider_day_limits', 'project') THEN
        RAISE EXCEPTION 'there are no ledger accounts of kind %', NEW.kind USING ERRCODE = 'check_violation';
    END IF;
    IF least(NEW.prompt_evaluations_used, NEW.prompt_evaluations_reserved, NEW.image_queries_used, NEW.image_queries_reserved,
            NEW.requests_used, NEW.requests_reserved, NEW.cost_micro_usd_used, NEW.cost_micro_usd_reserved) < 0 THEN
        RAISE EXCEPTION 'ledger account % would hold less than nothing', NEW.id USING ERRCODE = 'check_violation';
    END IF;
    -- A call of the functions of an earlier version that was under way while they were replaced: the caller repeats it.
    IF NEW.entries_reserved = OLD.entries_reserved THEN
        IF (NEW.prompt_evaluations_reserved, NEW.image_queries_reserved, NEW.requests_reserved, NEW.cost_micro_usd_reserved)
            <> (OLD.prompt_evaluations_reserved, OLD.image_queries_reserved, OLD.requests_reserved, OLD.cost_micro_usd_reserved) THEN
            RAISE EXCEPTION 'ledger account % would hold amounts without an entry', NEW.id USING ERRCODE = 'serialization_failure';
        END IF;
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

-- What an account must hold by its reservations, where that is not what it holds. Always empty.
CREATE OR REPLACE VIEW "ledger_discrepancies" AS
WITH "counted" AS (
    SELECT "accounts", "state", "prompt_evaluations" AS "p",
        CASE WHEN "state" = 'settled' THEN coalesce("billed_image_queries", "image_queries") ELSE "image_queries" END AS "i",
        CASE WHEN "state" = 'settled' THEN coalesce("billed_requests", "requests") ELSE "requests" END AS "r",
        CASE WHEN "state" = 'settled' THEN coalesce("billed_cost_micro_usd", "cost_micro_usd") ELSE "cost_micro_usd" END AS "c"
    FROM "ledger_reservations"
), "by_state" AS (
    SELECT "a"."id", "state", count(*) AS "n", sum("p") AS "p", sum("i") AS "i", sum("r") AS "r", sum("c") AS "c"
    FROM "counted", unnest("accounts") AS "a"("id") GROUP BY "a"."id", "state"
)
SELECT "l".* FROM "ledger_accounts" "l"
    LEFT JOIN "by_state" "o" ON "o"."id" = "l"."id" AND "o"."state" = 'reserved'
    LEFT JOIN "by_state" "s" ON "s"."id" = "l"."id" AND "s"."state" = 'settled'
    LEFT JOIN "by_state" "r" ON "r"."id" = "l"."id" AND "r"."state" = 'released'
    LEFT JOIN "by_state" "u" ON "u"."id" = "l"."id" AND "u"."state" = 'unknown'
WHERE ("entries_reserved", "prompt_evaluations_reserved", "image_queries_reserved", "requests_reserved", "cost_micro_usd_reserved")
        IS DISTINCT FROM (coalesce("o"."n", 0), coalesce("o"."p", 0), coalesce("o"."i", 0), coalesce("o"."r", 0), coalesce("o"."c", 0))
    OR ("entries_settled", "prompt_evaluations_used" - "prompt_evaluations_unknown", "image_queries_used" - "image_queries_unknown",
            "requests_used" - "requests_unknown", "cost_micro_usd_used" - "cost_micro_usd_unknown")
        IS DISTINCT FROM (coalesce("s"."n", 0), coalesce("s"."p", 0), coalesce("s"."i", 0), coalesce("s"."r", 0), coalesce("s"."c", 0))
    OR ("entries_released", "prompt_evaluations_released", "image_queries_released", "requests_released", "cost_micro_usd_released")
        IS DISTINCT FROM (coalesce("r"."n", 0), coalesce("r"."p", 0), coalesce("r"."i", 0), coalesce("r"."r", 0), coalesce("r"."c", 0))
    OR ("entries_unknown", "prompt_evaluations_unknown", "image_queries_unknown", "requests_unknown", "cost_micro_usd_unknown")
        IS DISTINCT FROM (coalesce("u"."n", 0), coalesce("u"."p", 0), coalesce("u"."i", 0), coalesce("u"."r", 0), coalesce("u"."c", 0));

-- What a reservation adds to an account. (ledger_change and ledger_closed stay for the calls that are under way.)
CREATE TYPE "ledger_draw" AS ("id" text, "n" bigint, "pr" bigint, "ir" bigint, "rr" bigint, "cr" bigint);

-- What an account's amounts change by when calls are closed, as many as n.
CREATE TYPE "ledger_end" AS (
    "id" text, "pr" bigint, "ir" bigint, "rr" bigint, "cr" bigint, "pu" bigint, "iu" bigint, "ru" bigint, "cu" bigint,
    "ti" bigint, "tout" bigint, "tx" bigint, "n" bigint
);

-- How many of these were released and left unknown, and the amounts of both.
CREATE TYPE "ledger_unsettled" AS (
    "id" text, "nl" bigint, "nu" bigint, "pl" bigint, "il" bigint, "rl" bigint, "cl" bigint,
    "pu" bigint, "iu" bigint, "ru" bigint, "cu" bigint
);

-- Draws for many calls at once, each on all of its accounts or not at all, in their order; one transaction, one answer
-- for each. Locks are taken in the order jobs, reservations, accounts, each by id, here and in ledger_close.
--
-- Everybody waits for the accounts of provider and project, so they come last, right before the commit, and behind one lock
-- for all: to queue for that is much cheaper than for rows, each of which would have been changed meanwhile. They are
-- updated in the order of "changes".
CREATE OR REPLACE FUNCTION "ledger_reserve"("requests" jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    today text := to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD');
    asked ledger_request[];
    one ledger_request;
    changes ledger_draw[];
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
            (SELECT array_agg(ROW(s.*)::ledger_draw ORDER BY s.a) FROM (
                SELECT a, count(*), sum(q.p), sum(q.i), sum(q.r), sum(q.c) FROM q, unnest(q.drawn_on) a GROUP BY a
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
                entries_reserved = entries_reserved + s.n,
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
            entries_reserved = entries_reserved - s.n,
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
                    entries_reserved = entries_reserved + 1,
                    entries_settled = entries_settled - (known.state = 'settled')::int,
                    entries_unknown = entries_unknown - (known.state = 'unknown')::int,
                    prompt_evaluations_unknown = prompt_evaluations_unknown
                        - CASE known.state WHEN 'unknown' THEN known.prompt_evaluations ELSE 0 END,
                    image_queries_unknown = image_queries_unknown
                        - CASE known.state WHEN 'unknown' THEN known.image_queries ELSE 0 END,
                    requests_unknown = requests_unknown - CASE known.state WHEN 'unknown' THEN known.requests ELSE 0 END,
                    cost_micro_usd_unknown = cost_micro_usd_unknown
                        - CASE known.state WHEN 'unknown' THEN known.cost_micro_usd ELSE 0 END,
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

        -- An entry that is drawn anew may be on another day's account than it was.
        IF known.id IS NOT NULL THEN
            UPDATE ledger_accounts SET
                entries_released = entries_released - 1,
                prompt_evaluations_released = prompt_evaluations_released - known.prompt_evaluations,
                image_queries_released = image_queries_released - known.image_queries,
                requests_released = requests_released - known.requests,
                cost_micro_usd_released = cost_micro_usd_released - known.cost_micro_usd
            WHERE id = ANY (known.accounts);
        END IF;
        UPDATE ledger_accounts SET
            entries_reserved = entries_reserved + 1,
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

-- Ends many reservations at once and keeps the answers that some of them were paid for, in one transaction. A reservation
-- that is closed, or that a later attempt or a newer owner of its job has taken over, is left as it is. Returns which
-- closings hold now: those that were made, and those that had been made before, because the answer to them was lost.
CREATE OR REPLACE FUNCTION "ledger_close"("closings" jsonb, "answers" bytea[]) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    ends ledger_closing[];
    changes ledger_end[];
    unsettled boolean;
    corrections ledger_unsettled[];
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
        RETURNING e.ord, r.accounts, r.state, (r.state <> 'released')::int AS counts, r.prompt_evaluations AS p, r.image_queries AS i,
            r.requests AS r, r.cost_micro_usd AS c, coalesce(r.billed_image_queries, r.image_queries) AS bi,
            coalesce(r.billed_requests, r.requests) AS br, coalesce(r.billed_cost_micro_usd, r.cost_micro_usd) AS bc,
            -- A purchase that is closed again was noted before.
            coalesce(r.billed_input_tokens, 0) - coalesce(o.billed_input_tokens, 0) AS ti,
            coalesce(r.billed_output_tokens, 0) - coalesce(o.billed_output_tokens, 0) AS tout,
            r.text_embeddings - o.text_embeddings AS tx
    ), sums AS (
        SELECT a, sum(p) AS p, sum(i) AS i, sum(r) AS r, sum(c) AS c,
            sum(p * counts) AS pu, sum(bi * counts) AS iu, sum(br * counts) AS ru, sum(bc * counts) AS cu,
            sum(ti) AS ti, sum(tout) AS tout, sum(tx) AS tx, count(*) AS n
        FROM done, unnest(done.accounts) a GROUP BY a
    )
    SELECT (SELECT array_agg(ROW(a, p, i, r, c, pu, iu, ru, cu, ti, tout, tx, n)::ledger_end ORDER BY a) FROM sums),
            coalesce(array_agg(ord), '{}'), bool_or(state <> 'settled')
        INTO changes, made, unsettled FROM done;
    IF unsettled THEN
        SELECT array_agg(ROW(s.*)::ledger_unsettled) INTO corrections FROM (
            SELECT a, count(*) FILTER (WHERE r.state = 'released'), count(*) FILTER (WHERE r.state = 'unknown'),
                coalesce(sum(r.prompt_evaluations) FILTER (WHERE r.state = 'released'), 0),
                coalesce(sum(r.image_queries) FILTER (WHERE r.state = 'released'), 0),
                coalesce(sum(r.requests) FILTER (WHERE r.state = 'released'), 0),
                coalesce(sum(r.cost_micro_usd) FILTER (WHERE r.state = 'released'), 0),
                coalesce(sum(r.prompt_evaluations) FILTER (WHERE r.state = 'unknown'), 0),
                coalesce(sum(r.image_queries) FILTER (WHERE r.state = 'unknown'), 0),
                coalesce(sum(r.requests) FILTER (WHERE r.state = 'unknown'), 0),
                coalesce(sum(r.cost_micro_usd) FILTER (WHERE r.state = 'unknown'), 0)
            FROM unnest(ends) e JOIN ledger_reservations r ON r.id = e.id, unnest(r.accounts) a
            WHERE e.ord = ANY (made) AND r.state <> 'settled' GROUP BY a
        ) s;
    END IF;

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
        text_embeddings = text_embeddings + s.tx,
        entries_reserved = entries_reserved - s.n,
        entries_settled = entries_settled + s.n
    FROM unnest(changes) s WHERE l.id = s.id;
    -- Nearly all are settled; what is not costs a statement more.
    IF unsettled THEN
        UPDATE ledger_accounts l SET
            entries_settled = entries_settled - s.nl - s.nu,
            entries_released = entries_released + s.nl,
            entries_unknown = entries_unknown + s.nu,
            prompt_evaluations_released = prompt_evaluations_released + s.pl,
            image_queries_released = image_queries_released + s.il,
            requests_released = requests_released + s.rl,
            cost_micro_usd_released = cost_micro_usd_released + s.cl,
            prompt_evaluations_unknown = prompt_evaluations_unknown + s.pu,
            image_queries_unknown = image_queries_unknown + s.iu,
            requests_unknown = requests_unknown + s.ru,
            cost_micro_usd_unknown = cost_micro_usd_unknown + s.cu
        FROM unnest(corrections) s WHERE l.id = s.id;
    END IF;
    RETURN made || held;
END $$;
