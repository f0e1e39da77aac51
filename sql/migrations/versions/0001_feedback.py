"""Create items, users, feedback by month, impressions, windows, quarantine and snapshots."""

from alembic import op

revision = "0001"
down_revision = None

# Transaction ids, unlike clocks, order the rows by when they can become visible. The functions are SQL
# functions with one expression, which Postgres inlines into each INSERT or COPY instead of calling them for
# each row. A dump may be restored in a cluster whose transaction ids start low again:
# warehouse_rebase_transaction_ids() then raises the offset. The offset is a constant in a function's body
# and not in a table, so that reading it costs nothing and the dump contains it. The function is STABLE
# because Postgres would fold an IMMUTABLE one into cached plans and not notice a change.
FUNCTIONS = """
CREATE FUNCTION warehouse_transaction_offset() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN 0::bigint;
COMMENT ON FUNCTION warehouse_transaction_offset() IS
    'added to every transaction id, so that ids keep rising after a restore into another cluster';

CREATE FUNCTION warehouse_transaction_id() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    RETURN pg_current_xact_id()::text::bigint + warehouse_transaction_offset();
COMMENT ON FUNCTION warehouse_transaction_id() IS
    'id of this transaction, in the same counting as warehouse_horizon()';

CREATE FUNCTION warehouse_horizon() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_snapshot_xmin(pg_current_snapshot())::text::bigint + warehouse_transaction_offset();
COMMENT ON FUNCTION warehouse_horizon() IS
    'id of the oldest transaction still open: rows with smaller ids are all there, for good';
"""

TABLES = """
CREATE TABLE event_types (
    event_type text PRIMARY KEY,
    explicit boolean NOT NULL,
    weight double precision NOT NULL,
    polarity smallint NOT NULL,
    min_value double precision,
    max_value double precision,
    negative_to double precision,
    positive_from double precision,
    CONSTRAINT event_types_polarity_check CHECK (polarity IN (-1, 0, 1))
);
COMMENT ON TABLE event_types IS 'kinds of feedback and what each means; data, not code';
COMMENT ON COLUMN event_types.explicit IS 'given as an opinion, not observed';
COMMENT ON COLUMN event_types.weight IS 'weight as a next-item target; 0: never a target';
COMMENT ON COLUMN event_types.polarity IS '1 or -1; 0: the value decides';
COMMENT ON COLUMN event_types.min_value IS 'null: the type carries no value';
COMMENT ON COLUMN event_types.negative_to IS 'values up to this are negative feedback';
COMMENT ON COLUMN event_types.positive_from IS 'values from this on are positive feedback';

INSERT INTO event_types VALUES
--   type        explicit weight polarity min   max     negative_to positive_from
    ('rating',   true,    1.0,   0,       0.5,  5,      2,          4),
    ('like',     true,    1.0,   1,       NULL, NULL,   NULL,       NULL),
    ('dislike',  true,    0.0,  -1,       NULL, NULL,   NULL,       NULL),
    ('comment',  true,    0.5,   0,       NULL, NULL,   NULL,       NULL),
    ('view',     false,   0.3,   0,       NULL, NULL,   NULL,       NULL),
    ('click',    false,   0.5,   0,       NULL, NULL,   NULL,       NULL),
    ('purchase', false,   1.0,   1,       NULL, NULL,   NULL,       NULL),
    ('share',    false,   1.0,   1,       NULL, NULL,   NULL,       NULL),
    ('dwell',    false,   0.3,   0,       0,    86400,  3,          30);

CREATE TABLE items (
    item_id text PRIMARY KEY,
    title text NOT NULL DEFAULT '',
    description text NOT NULL DEFAULT '',
    attributes jsonb NOT NULL DEFAULT '{}'::jsonb,
    available boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE items IS 'what can be recommended; titles and descriptions are what the model reads';
COMMENT ON COLUMN items.available IS 'may be recommended';

CREATE FUNCTION items_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER items_touch BEFORE UPDATE ON items
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION items_touch();

CREATE TABLE users (
    user_id text PRIMARY KEY,
    user_key text UNIQUE,
    consent boolean NOT NULL DEFAULT true,
    attributes jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX users_without_key ON users (user_id) WHERE user_key IS NULL;
COMMENT ON TABLE users IS 'people who give feedback; applications add them, with their consent';
COMMENT ON COLUMN users.user_key IS 'keyed hash, filled by the pipeline; the name outside';
COMMENT ON COLUMN users.consent IS 'false: no training';

CREATE TABLE feedback (
    feedback_id bigint GENERATED ALWAYS AS IDENTITY,
    event_id text NOT NULL DEFAULT gen_random_uuid()::text,
    user_id text NOT NULL,
    item_id text NOT NULL,
    event_type text NOT NULL,
    value double precision,
    comment text,
    impression_id text,
    occurred_at timestamptz DEFAULT clock_timestamp(),
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction_id bigint NOT NULL DEFAULT warehouse_transaction_id(),
    released_from bigint
) PARTITION BY RANGE (occurred_at);
CREATE UNIQUE INDEX feedback_event_key ON feedback (event_id, occurred_at) NULLS NOT DISTINCT;
CREATE INDEX feedback_transaction_id ON feedback (transaction_id);
CREATE INDEX feedback_user ON feedback (user_id, occurred_at);
COMMENT ON TABLE feedback IS
    'one reaction of a user to an item; applications INSERT here and never update';
COMMENT ON COLUMN feedback.feedback_id IS 'log order';
COMMENT ON COLUMN feedback.event_id IS 'idempotency key of the application';
COMMENT ON COLUMN feedback.value IS 'rating, seconds, ...; null where the type carries none';
COMMENT ON COLUMN feedback.impression_id IS 'the slate that the event answers, if known';
COMMENT ON COLUMN feedback.occurred_at IS 'clock of the application; null is quarantined';
COMMENT ON COLUMN feedback.received_at IS 'clock of the warehouse';
COMMENT ON COLUMN feedback.transaction_id IS 'of the writer';
COMMENT ON COLUMN feedback.released_from IS 'quarantine_id: row rules do not apply again';

CREATE TABLE impressions (
    impression_id text PRIMARY KEY,
    user_id text NOT NULL,
    query text,
    item_ids text[] NOT NULL,
    propensities real[],
    model_version text,
    shown_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT impressions_propensities_check CHECK (
        cardinality(propensities) = cardinality(item_ids)
        AND 0 <= ALL (propensities) AND 1 >= ALL (propensities)
    )
);
CREATE INDEX impressions_user ON impressions (user_id, shown_at);
COMMENT ON TABLE impressions IS
    'one slate shown to a user, with the propensities of the policy that chose it';
COMMENT ON COLUMN impressions.query IS 'request in natural language, if there was one';
COMMENT ON COLUMN impressions.item_ids IS 'the slate, first position first';
COMMENT ON COLUMN impressions.propensities IS 'probability of each item at its position';

CREATE TABLE windows (
    window_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer text NOT NULL,
    run_key text NOT NULL,
    lower_transaction_id bigint NOT NULL,
    upper_transaction_id bigint NOT NULL,
    interval_start timestamptz,
    interval_end timestamptz,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    arrived bigint NOT NULL,
    valid bigint,
    quarantined bigint,
    duplicates bigint,
    erased bigint,
    reconciled_at timestamptz,
    CONSTRAINT windows_run_key UNIQUE (consumer, run_key),
    CONSTRAINT windows_bounds_key UNIQUE (consumer, lower_transaction_id, upper_transaction_id, run_key),
    CONSTRAINT windows_bounds_check CHECK (lower_transaction_id <= upper_transaction_id)
);
COMMENT ON TABLE windows IS
    'half-open sets of feedback, by order of commit, that one run of a consumer handles';
COMMENT ON COLUMN windows.consumer IS 'the DAG that handles the window';
COMMENT ON COLUMN windows.run_key IS 'the run that opened it; its retries reuse it';
COMMENT ON COLUMN windows.lower_transaction_id IS 'inclusive';
COMMENT ON COLUMN windows.upper_transaction_id IS 'exclusive';
COMMENT ON COLUMN windows.arrived IS 'rows in the window when it was opened';

CREATE TABLE quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feedback_id bigint NOT NULL UNIQUE,
    window_id bigint NOT NULL REFERENCES windows (window_id),
    reasons text[] NOT NULL,
    user_id text NOT NULL,
    transaction_id bigint NOT NULL,
    feedback jsonb NOT NULL,
    status text NOT NULL DEFAULT 'held',
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at timestamptz,
    settled_by text,
    CONSTRAINT quarantine_status_check CHECK (status IN ('held', 'released', 'discarded'))
);
CREATE INDEX quarantine_transaction_id ON quarantine (transaction_id);
CREATE INDEX quarantine_event_id ON quarantine ((feedback ->> 'event_id'));
COMMENT ON TABLE quarantine IS 'feedback that broke a row rule, moved here whole, with the reasons';
COMMENT ON COLUMN quarantine.reasons IS 'names of the rules broken';
COMMENT ON COLUMN quarantine.feedback IS 'the whole row as it arrived';

CREATE TABLE validation_results (
    window_id bigint NOT NULL REFERENCES windows (window_id),
    expectation text NOT NULL,
    success boolean NOT NULL,
    severity text NOT NULL,
    observed jsonb NOT NULL,
    expected jsonb NOT NULL,
    validated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (window_id, expectation)
);
COMMENT ON TABLE validation_results IS 'outcome of every table expectation of every window';

CREATE TABLE snapshots (
    snapshot_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    window_id bigint NOT NULL REFERENCES windows (window_id),
    kind text NOT NULL,
    uri text NOT NULL UNIQUE,
    digest text NOT NULL,
    rows bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT snapshots_kind_check CHECK (kind IN ('full', 'micro'))
);
COMMENT ON TABLE snapshots IS 'immutable, pseudonymised Parquet files that models were trained on';
"""

# Partitions have their own schema, so that a list of tables does not show them. Rows of a month without a
# partition go to the default partition: partitions are for speed and never reject a row. A partition is
# filled before it is attached, because ATTACH does not block writers of other months and CREATE TABLE ...
# PARTITION OF does.
PARTITIONS = """
CREATE SCHEMA partitions;
COMMENT ON SCHEMA partitions IS 'monthly partitions of feedback';
CREATE TABLE partitions.feedback_default PARTITION OF feedback DEFAULT;

CREATE FUNCTION ensure_feedback_partitions(from_time timestamptz, to_time timestamptz) RETURNS integer
    LANGUAGE plpgsql AS $$
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
COMMENT ON FUNCTION ensure_feedback_partitions(timestamptz, timestamptz) IS
    'make the monthly partitions that are missing between two moments; returns how many were made';

SELECT ensure_feedback_partitions(now() - interval '1 month', now() + interval '3 months');
"""

REBASE = """
CREATE FUNCTION warehouse_rebase_transaction_ids() RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    highest bigint := greatest(
        (SELECT max(transaction_id) FROM feedback),
        (SELECT max(transaction_id) FROM quarantine),
        (SELECT max(upper_transaction_id) FROM windows),
        0
    );
    current_offset bigint := warehouse_transaction_offset();
    shift bigint := greatest(highest + 1 - warehouse_transaction_id(), 0);
BEGIN
    IF shift > 0 THEN
        EXECUTE format(
            'CREATE OR REPLACE FUNCTION warehouse_transaction_offset() RETURNS bigint'
            ' LANGUAGE sql STABLE PARALLEL SAFE RETURN %s::bigint',
            current_offset + shift
        );
    END IF;
    RETURN current_offset + shift;
END $$;
COMMENT ON FUNCTION warehouse_rebase_transaction_ids() IS
    'call once after restoring a dump, before any writer: new ids continue above the restored ones';
"""


def upgrade() -> None:
    for script in (FUNCTIONS, TABLES, PARTITIONS, REBASE):
        op.execute(script)
