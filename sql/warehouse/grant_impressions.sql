-- Let only the pipeline make and drop partitions of impressions. Does nothing before the migration. A restored dump
-- contains no grants, so this runs again after a restore.
DO $$
BEGIN
    IF to_regprocedure('drop_old_impressions(integer)') IS NULL THEN
        RETURN;
    END IF;
    REVOKE ALL ON FUNCTION
        ensure_impressions_partitions(timestamptz, timestamptz), drop_old_impressions(integer), skip_known_impression()
        FROM PUBLIC;
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION
            ensure_impressions_partitions(timestamptz, timestamptz), drop_old_impressions(integer)
            TO recsys_pipeline;
        IF current_setting('server_version_num')::integer >= 170000 THEN
            GRANT MAINTAIN ON impressions TO recsys_pipeline;
        END IF;
    END IF;
END $$
