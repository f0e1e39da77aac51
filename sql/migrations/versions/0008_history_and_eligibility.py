"""Add an index for user histories, keep it vacuumed, and define in one view who may be trained on."""

from alembic import op

revision = "0008"
down_revision = "0007"

# In the table, a user's events are on as many pages as there are events; in this index they are next to
# each other. It has everything that a history needs except the comments. About one row in twenty has one,
# and feedback_comments finds it. An entry of a B-tree holds about 2,700 bytes: longer ids are rejected.
INDEXES = """
CREATE INDEX feedback_history ON feedback (user_id, occurred_at, feedback_id)
    INCLUDE (transaction_id, item_id, event_type, value);
CREATE INDEX feedback_comments ON feedback (user_id, occurred_at, feedback_id) WHERE comment IS NOT NULL;
DROP INDEX feedback_user;
"""

# Postgres reads only the index, and not the table, for pages that a vacuum has marked as visible to all.
# With the default share of new rows (a fifth of a month), days of rows would still be looked up in the
# table.
VACUUM = """
CREATE FUNCTION warehouse_vacuum_soon(partition regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    EXECUTE format(
        'ALTER TABLE %s SET (autovacuum_vacuum_insert_scale_factor = 0.02,'
        ' autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05)', partition
    );
END $$;
COMMENT ON FUNCTION warehouse_vacuum_soon(regclass) IS
    'have autovacuum visit a partition of feedback often, so that histories are read from the index alone';
REVOKE ALL ON FUNCTION warehouse_vacuum_soon(regclass) FROM PUBLIC;
SELECT warehouse_vacuum_soon(inhrelid) FROM pg_inherits WHERE inhparent = 'feedback'::regclass;
"""

PARTITIONS = """
CREATE OR REPLACE FUNCTION ensure_feedback_partitions(from_time timestamptz, to_time timestamptz)
    RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    month_start timestamptz;
    month_end timestamptz;
    name text;
    made integer := 0;
BEGIN
    FOR month_start IN
        SELECT generate_series(date_trunc('month', from_time, 'UTC'), to_time, interval '1 month', 'UTC')
    LOOP
        name := 'feedback_' || to_char(month_start AT TIME ZONE 'UTC', 'YYYY_MM');
        CONTINUE WHEN to_regclass('partitions.' || name) IS NOT NULL;
        PERFORM pg_advisory_xact_lock(hashtextextended('ensure_feedback_partitions', 0));
        -- Who held the lock may have made it. to_regclass would answer from this session's cache.
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_class WHERE relnamespace = 'partitions'::regnamespace AND relname = name
        );
        month_end := date_add(month_start, interval '1 month', 'UTC');
        EXECUTE format('CREATE TABLE partitions.%I (LIKE feedback INCLUDING DEFAULTS)', name);
        PERFORM warehouse_vacuum_soon(format('partitions.%I', name)::regclass);
        LOCK TABLE partitions.feedback_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format(
            'WITH moved AS (DELETE FROM partitions.feedback_default'
            '     WHERE occurred_at >= %L AND occurred_at < %L RETURNING *)'
            ' INSERT INTO partitions.%I SELECT * FROM moved',
            month_start, month_end, name
        );
        EXECUTE format(
            'ALTER TABLE feedback ATTACH PARTITION partitions.%I FOR VALUES FROM (%L) TO (%L)',
            name, month_start, month_end
        );
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
"""

# Both kinds of snapshots use this view. A reader of the view needs the right to read its tables.
ELIGIBILITY = """
CREATE VIEW user_eligibility WITH (security_invoker = true) AS
SELECT
    user_id,
    user_key,
    consent
    AND users.user_id <> ALL (ARRAY(SELECT user_id FROM erasure_requests WHERE user_id IS NOT NULL))
        AS may_train
FROM users;
COMMENT ON VIEW user_eligibility IS
    'whose feedback may be trained on: who consents and has not asked to be forgotten';
"""


def upgrade() -> None:
    for script in (INDEXES, VACUUM, PARTITIONS, ELIGIBILITY):
        op.execute(script)
