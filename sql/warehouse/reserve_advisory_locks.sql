-- Let only the owner of the tables and the pipeline take advisory locks in this database. Nothing happens unless a
-- superuser runs it: the functions belong to one.
DO $$
DECLARE
    lock_function text;
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RETURN;
    END IF;
    FOR lock_function IN
        SELECT oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace
            AND (starts_with(proname, 'pg_advisory_') OR starts_with(proname, 'pg_try_advisory_'))
            AND proname NOT LIKE '%unlock%'
            AND (proacl IS NULL OR has_function_privilege('public', oid, 'EXECUTE'))
    LOOP
        EXECUTE format(
            'GRANT EXECUTE ON FUNCTION %s TO %I',
            lock_function,
            (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'feedback'::regclass)
        );
        IF to_regrole('recsys_pipeline') IS NOT NULL THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO recsys_pipeline', lock_function);
        END IF;
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', lock_function);
    END LOOP;
END $$
