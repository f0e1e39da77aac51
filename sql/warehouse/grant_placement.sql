-- Let applications say in which placement a slate was shown. Does nothing before the migration or without the role. A
-- restored dump contains no grants, so this runs again after a restore.
DO $$
BEGIN
    IF to_regrole('recsys_writer') IS NOT NULL AND EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = to_regclass('impressions') AND attname = 'placement'
    ) THEN
        GRANT INSERT (placement) ON impressions TO recsys_writer;
    END IF;
END $$
