"""Retire whole months of feedback that are no longer needed, and restore or drop them."""

from alembic import op

revision = "0011"
down_revision = "0010"

# Plain inheritance instead of partitions: adding or removing a month only changes the catalogue. The month
# keeps its indexes, so that windows still reconcile and erasure finds a user in it.
TABLES = """
CREATE SCHEMA retired;
COMMENT ON SCHEMA retired IS 'months of feedback that housekeeping has taken out of use';
CREATE TABLE retired.feedback (LIKE feedback);
COMMENT ON TABLE retired.feedback IS
    'the rows of all retired months: counted, erased on request, never trained on';

CREATE TABLE dropped_feedback (
    window_id bigint NOT NULL REFERENCES windows (window_id),
    month date NOT NULL,
    rows bigint NOT NULL,
    PRIMARY KEY (window_id, month)
);
COMMENT ON TABLE dropped_feedback IS
    'how many rows of a window were in a retired month that was dropped, so that windows reconcile';
"""

# A table with a default partition rejects DETACH ... CONCURRENTLY. The plain DETACH blocks everybody, but
# only changes the catalogue, and the caller sets a lock_timeout. It is one transaction: if it is
# interrupted, nothing has changed.
RETIRE = """
CREATE FUNCTION retire_feedback_month(month date) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    month_start timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
    month_end timestamptz := date_add(month_start, interval '1 month', 'UTC');
    name text := 'feedback_' || to_char(month, 'YYYY_MM');
    locked boolean := false;
    newest bigint;
    holder text;
    champion text;
    known bigint;
    known_before timestamptz;
BEGIN
    -- The lock of transactions that move rows of feedback: FEEDBACK_MOVES in recsys.warehouse.advisory_locks.
    PERFORM pg_advisory_xact_lock(hashtextextended('moves of feedback', 0));
    PERFORM pg_advisory_xact_lock(hashtextextended('ensure_feedback_partitions', 0));
    IF EXISTS (SELECT FROM pg_class WHERE relnamespace = 'retired'::regnamespace AND relname = name) THEN
        RETURN 'the month is retired already, this is what came late';
    END IF;
    IF EXISTS (
        SELECT FROM quarantine
        WHERE status = 'held'
            AND (feedback ->> 'occurred_at')::timestamptz >= month_start
            AND (feedback ->> 'occurred_at')::timestamptz < month_end
    ) THEN
        RETURN 'rows of it are held in quarantine: release or discard them';
    END IF;
    SELECT ledger.model_version INTO champion FROM promotion_ledger AS ledger
    WHERE champion_sequence IS NOT NULL ORDER BY champion_sequence DESC LIMIT 1;
    -- Once without a lock, so that nobody waits for a month that stays, and once when nobody can write.
    LOOP
        EXECUTE format('SELECT max(transaction_id) FROM partitions.%I', name) INTO newest;
        IF newest IS NOT NULL THEN
            SELECT consumer INTO holder FROM windows
            GROUP BY consumer HAVING max(upper_transaction_id) <= newest LIMIT 1;
            IF FOUND THEN
                RETURN format('%s has opened no window over its latest rows', holder);
            ELSIF NOT EXISTS (SELECT FROM windows) THEN
                RETURN 'no window has been opened yet';
            END IF;
            -- The validation of a window handles the consumer's earlier ones too.
            SELECT format('%s has not validated window %s', pending.consumer, pending.window_id) INTO holder
            FROM windows AS pending
            WHERE pending.arrived > 0
                AND pending.lower_transaction_id <= newest
                AND NOT EXISTS (
                    SELECT FROM windows AS later
                    JOIN validation_results AS result
                        ON result.window_id = later.window_id AND result.expectation = 'valid_share'
                    WHERE later.consumer = pending.consumer
                        AND later.window_id >= pending.window_id
                        AND NOT EXISTS (
                            SELECT FROM validation_results AS failed
                            WHERE failed.window_id = later.window_id
                                AND failed.severity = 'critical' AND NOT failed.success
                        )
                )
            LIMIT 1;
            IF FOUND THEN
                RETURN holder;
            END IF;
            IF champion IS NOT NULL THEN
                SELECT snapshots.trained_transaction_id, snapshots.trained_occurred_before
                INTO known, known_before
                FROM promotion_ledger AS ledger
                JOIN windows ON windows.run_key = ledger.run_key
                JOIN snapshots ON snapshots.window_id = windows.window_id
                WHERE ledger.model_version = champion AND snapshots.kind IN ('full', 'micro')
                ORDER BY snapshots.snapshot_id DESC LIMIT 1;
                IF newest < known AND month_end <= known_before THEN
                    NULL;
                ELSE  -- also when it is not known
                    RETURN format('champion %s has not trained on all of it', champion);
                END IF;
            END IF;
        END IF;
        EXIT WHEN locked;
        LOCK TABLE ONLY feedback IN ACCESS EXCLUSIVE MODE;
        locked := true;
    END LOOP;
    EXECUTE format('ALTER TABLE feedback DETACH PARTITION partitions.%I', name);
    EXECUTE format('ALTER TABLE partitions.%I SET SCHEMA retired', name);
    EXECUTE format('ALTER TABLE retired.%I INHERIT retired.feedback', name);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION retire_feedback_month(date) IS
    'take the partition of a month out of feedback; returns why not, or null';
REVOKE ALL ON FUNCTION retire_feedback_month(date) FROM PUBLIC;
"""

BRING_BACK = """
CREATE FUNCTION restore_feedback_month(month date) RETURNS void
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    month_start timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
    month_end timestamptz := date_add(month_start, interval '1 month', 'UTC');
    name text := 'feedback_' || to_char(month, 'YYYY_MM');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('moves of feedback', 0));
    PERFORM pg_advisory_xact_lock(hashtextextended('ensure_feedback_partitions', 0));
    -- Lets ATTACH do without a scan, for which readers and writers would wait.
    EXECUTE format(
        'ALTER TABLE retired.%I ADD CONSTRAINT in_month'
        ' CHECK (occurred_at IS NOT NULL AND occurred_at >= %L AND occurred_at < %L)',
        name, month_start, month_end
    );
    EXECUTE format('ALTER TABLE retired.%I NO INHERIT retired.feedback', name);
    LOCK TABLE ONLY feedback IN ACCESS EXCLUSIVE MODE;
    LOCK TABLE partitions.feedback_default IN ACCESS EXCLUSIVE MODE;
    -- What came late meanwhile.
    IF EXISTS (SELECT FROM pg_class WHERE relnamespace = 'partitions'::regnamespace AND relname = name) THEN
        EXECUTE format('ALTER TABLE feedback DETACH PARTITION partitions.%I', name);
        EXECUTE format('INSERT INTO retired.%I SELECT * FROM partitions.%I', name, name);
        EXECUTE format('DROP TABLE partitions.%I', name);
    END IF;
    EXECUTE format(
        'WITH moved AS (DELETE FROM partitions.feedback_default'
        '     WHERE occurred_at >= %L AND occurred_at < %L RETURNING *)'
        ' INSERT INTO retired.%I SELECT * FROM moved',
        month_start, month_end, name
    );
    EXECUTE format('ALTER TABLE retired.%I SET SCHEMA partitions', name);
    EXECUTE format(
        'ALTER TABLE feedback ATTACH PARTITION partitions.%I FOR VALUES FROM (%L) TO (%L)',
        name, month_start, month_end
    );
    EXECUTE format('ALTER TABLE partitions.%I DROP CONSTRAINT in_month', name);
END $$;
COMMENT ON FUNCTION restore_feedback_month(date) IS
    'put a retired month back into feedback, with what came late meanwhile';
REVOKE ALL ON FUNCTION restore_feedback_month(date) FROM PUBLIC;
"""

DROP = """
CREATE FUNCTION drop_feedback_month(month date) RETURNS bigint
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    name text := 'feedback_' || to_char(month, 'YYYY_MM');
    dropped bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('moves of feedback', 0));
    EXECUTE format('LOCK TABLE retired.%I IN ACCESS EXCLUSIVE MODE', name);
    EXECUTE format('SELECT count(*) FROM retired.%I', name) INTO dropped;
    EXECUTE format(
        'INSERT INTO dropped_feedback (window_id, month, rows)'
        ' SELECT windows.window_id, %L, count(*) FROM windows JOIN retired.%I AS gone'
        ' ON gone.transaction_id >= windows.lower_transaction_id'
        ' AND gone.transaction_id < windows.upper_transaction_id'
        ' GROUP BY windows.window_id'
        ' ON CONFLICT (window_id, month) DO UPDATE SET rows = dropped_feedback.rows + excluded.rows',
        date_trunc('month', month)::date, name
    );
    EXECUTE format('DROP TABLE retired.%I', name);
    RETURN dropped;
END $$;
COMMENT ON FUNCTION drop_feedback_month(date) IS
    'delete a retired month for good and note its counts; returns its rows';
REVOKE ALL ON FUNCTION drop_feedback_month(date) FROM PUBLIC;
"""

# recsys.warehouse.roles.grant_roles calls it again, because a restored dump contains no grants.
RIGHTS = """
CREATE FUNCTION warehouse_grant_retired() RETURNS void
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA retired TO recsys_pipeline;
        -- Through this table alone: to count, and to erase.
        GRANT SELECT, DELETE ON retired.feedback TO recsys_pipeline;
        GRANT SELECT ON dropped_feedback TO recsys_pipeline;
        REVOKE INSERT, UPDATE, DELETE ON dropped_feedback FROM recsys_pipeline;
        GRANT EXECUTE ON FUNCTION retire_feedback_month(date) TO recsys_pipeline;
    END IF;
END $$;
COMMENT ON FUNCTION warehouse_grant_retired() IS 'grant the pipeline its rights on retired feedback';
REVOKE ALL ON FUNCTION warehouse_grant_retired() FROM PUBLIC;
SELECT warehouse_grant_retired();
"""


def upgrade() -> None:
    for script in (TABLES, RETIRE, BRING_BACK, DROP, RIGHTS):
        op.execute(script)
