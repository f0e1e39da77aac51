-- Let applications say how long an item rests, when it is available and what it is a variant of, and the pipeline read
-- rest periods. Does nothing before the migrations or without the roles. A restored dump contains no grants, so this
-- runs again after a restore.
DO $$
DECLARE
    meaning text;
BEGIN
    IF to_regclass('rest_periods') IS NULL THEN
        RETURN;
    END IF;
    IF to_regrole('recsys_writer') IS NOT NULL THEN
        FOR meaning IN
            SELECT attname FROM pg_attribute
            WHERE attrelid = 'items'::regclass
                AND attname IN ('rest_days', 'available_from', 'available_until', 'variant_of')
        LOOP
            EXECUTE 'GRANT INSERT (' || meaning || '), UPDATE (' || meaning || ') ON items TO recsys_writer';
        END LOOP;
    END IF;
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        GRANT SELECT ON rest_periods TO recsys_pipeline;
    END IF;
END $$
