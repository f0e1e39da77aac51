-- Let applications say in which placement a slate was shown, and which rules placed its items. Does nothing before the
-- migrations or without the role. A restored dump contains no grants, so this runs again after a restore.
DO $$
DECLARE
    stated text;
BEGIN
    IF to_regrole('recsys_writer') IS NOT NULL THEN
        FOR stated IN
            SELECT attname FROM pg_attribute
            WHERE attrelid = to_regclass('impressions') AND attname IN ('placement', 'rules')
        LOOP
            EXECUTE 'GRANT INSERT (' || stated || ') ON impressions TO recsys_writer';
        END LOOP;
    END IF;
END $$
