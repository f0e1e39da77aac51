-- Let the pipeline stage publications in shards. Does nothing before the migration or without the role. A restored dump
-- contains no grants, so this runs again after a restore.
DO $$
BEGIN
    IF to_regnamespace('staging') IS NULL OR to_regrole('recsys_pipeline') IS NULL THEN
        RETURN;
    END IF;
    GRANT USAGE ON SCHEMA staging TO recsys_pipeline;
    GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA staging TO recsys_pipeline;
    IF current_setting('server_version_num')::integer >= 170000 THEN
        GRANT MAINTAIN ON ALL TABLES IN SCHEMA staging TO recsys_pipeline;
    END IF;
    REVOKE ALL ON FUNCTION staging.current_plan() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION staging.current_plan() TO recsys_pipeline;
END $$
