-- Let applications that only read, and writers, call the reading functions. Those run with the rights of their owner. The
-- other functions of the schema belong to them: a role that could call them could read somebody's history.
DO $$
DECLARE
    role text;
    reading text;
BEGIN
    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA serving FROM PUBLIC;
    FOREACH role IN ARRAY ARRAY['recsys_reader', 'recsys_writer'] LOOP
        CONTINUE WHEN to_regrole(role) IS NULL;
        IF NOT has_database_privilege(role, current_database(), 'CONNECT') THEN
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA serving TO %I', role);
        FOR reading IN
            SELECT oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = 'serving'::regnamespace AND prosecdef
        LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', reading, role);
        END LOOP;
    END LOOP;
END $$
