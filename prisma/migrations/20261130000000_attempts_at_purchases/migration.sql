-- Two corrections of the ledger's functions; nothing else of them changes.
DO $$
DECLARE
    present text;
    changed text;
BEGIN
    -- A purchase whose process died was never closed, and so was taken for the same one however long ago it was: sent again
    -- after the provider had forgotten its key it was paid for twice, and counted once. Now that, too, is another purchase;
    -- the first stays counted until it is closed.
    present := pg_get_functiondef('ledger_reserve(jsonb)'::regprocedure);
    changed := replace(present, 'one.window_seconds IS NOT NULL AND known.state <> ''reserved''', 'one.window_seconds IS NOT NULL');
    IF changed = present THEN RAISE EXCEPTION 'ledger_reserve is not as the migration before this one left it'; END IF;
    EXECUTE changed;

    -- Of closings of two attempts at one purchase in one statement the first was taken, which is that of an attempt that counts
    -- no more: the purchase stayed open. Now each is looked at.
    present := pg_get_functiondef('ledger_close(jsonb, bytea[])'::regprocedure);
    changed := replace(present, 'SELECT DISTINCT ON (c.id) c.* FROM', 'SELECT DISTINCT ON (c.id, c.attempt) c.* FROM');
    changed := replace(changed, 'c ORDER BY c.id, c.ord', 'c ORDER BY c.id, c.attempt, c.ord');
    IF changed = present OR position('c.id, c.attempt, c.ord' IN changed) = 0 THEN
        RAISE EXCEPTION 'ledger_close is not as the migration before this one left it';
    END IF;
    EXECUTE changed;
END $$;
