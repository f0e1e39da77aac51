-- Let applications say how long an item rests and when it is available, and the pipeline read rest periods. Does nothing
-- before the migrations or without the roles. A restored dump contains no grants, so this runs again after a restore.
DO $$
BEGIN
    IF to_regclass('rest_periods') IS NULL THEN
        RETURN;
    END IF;
    IF to_regrole('recsys_writer') IS NOT NULL THEN
        GRANT INSERT (rest_days), UPDATE (rest_days) ON items TO recsys_writer;
        IF EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'available_until'
        ) THEN
            GRANT INSERT (available_from, available_until), UPDATE (available_from, available_until)
                ON items TO recsys_writer;
        END IF;
    END IF;
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        GRANT SELECT ON rest_periods TO recsys_pipeline;
    END IF;
END $$
