-- A purchase whose process died was never closed, and so was taken for the same one however long ago it was: sent again after
-- the provider had forgotten its key it was paid for twice, and counted once. Now that, too, is another purchase; the first
-- stays counted until it is closed. Nothing else of ledger_reserve changes.
DO $$
DECLARE
    present text := pg_get_functiondef('ledger_reserve(jsonb)'::regprocedure);
    changed text := replace(present, 'one.window_seconds IS NOT NULL AND known.state <> ''reserved''', 'one.window_seconds IS NOT NULL');
BEGIN
    IF changed = present THEN
        RAISE EXCEPTION 'ledger_reserve is not as the migration before this one left it';
    END IF;
    EXECUTE changed;
END $$;
