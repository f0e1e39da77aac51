-- Create a role if this user may. The setting recsys.role names it.
DO $$
BEGIN
    IF to_regrole(current_setting('recsys.role')) IS NULL THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN', current_setting('recsys.role'));
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL;  -- another database of this cluster was faster
    WHEN insufficient_privilege THEN
        NULL;  -- the warehouse works without it
END $$
