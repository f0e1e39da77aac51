"""Keep impressions in partitions by month, so that old ones are dropped at once."""

from alembic import op

revision = "0042"
down_revision = "0041"

# A view keeps the table that it was made with, whatever that is called later. Those of the schema analytics
# are installed again because the comment of the schema no longer says that they are.
BEFORE = """
CREATE TEMPORARY TABLE rights_on_impressions ON COMMIT DROP AS
SELECT grantee, privilege_type AS privilege, is_grantable, NULL::name AS attname
FROM pg_class, aclexplode(relacl)
WHERE oid = 'impressions'::regclass AND grantee <> relowner
UNION ALL
SELECT grantee, privilege_type, is_grantable, attname
FROM pg_attribute, aclexplode(attacl)
WHERE attrelid = 'impressions'::regclass;

CREATE TEMPORARY TABLE views_of_impressions ON COMMIT DROP AS
SELECT DISTINCT
    class.oid::regclass::text AS name,
    class.relkind,
    class.relnamespace::regnamespace::text = 'analytics' AS own,
    array_to_string(class.reloptions, ', ') AS options,
    pg_get_viewdef(class.oid) AS definition
FROM pg_depend
JOIN pg_rewrite ON pg_depend.classid = 'pg_rewrite'::regclass AND pg_rewrite.oid = pg_depend.objid
JOIN pg_class AS class ON class.oid = pg_rewrite.ev_class
WHERE pg_depend.refclassid = 'pg_class'::regclass AND pg_depend.refobjid = 'impressions'::regclass;

DO $$
DECLARE
    view record;
BEGIN
    FOR view IN SELECT * FROM views_of_impressions WHERE own OR relkind = 'm' LOOP
        IF NOT view.own THEN
            RAISE dependent_objects_still_exist USING
                MESSAGE = format('the materialised view %s reads impressions, which is made anew', view.name),
                HINT = 'Drop it, run recsys migrate, and create it again.';
        END IF;
        EXECUTE format(
            'DROP %s VIEW %s', CASE WHEN view.relkind = 'm' THEN 'MATERIALIZED' ELSE '' END, view.name
        );
        COMMENT ON SCHEMA analytics IS NULL;
    END LOOP;
END $$;
"""

# The table as it was becomes the partition of everything up to the end of this month: rows and indexes stay
# where they are, and ATTACH reads the rows once.
TABLE = """
ALTER TABLE impressions SET SCHEMA partitions;
ALTER TABLE partitions.impressions RENAME TO old_impressions;
DROP TRIGGER name_user_of_session ON partitions.old_impressions;
CREATE TABLE impressions (
    LIKE partitions.old_impressions INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS
) PARTITION BY RANGE (shown_at);
COMMENT ON TABLE impressions IS
    'one slate shown to a user, with the propensities of the policy that chose it';
CREATE INDEX impressions_user ON impressions (user_id, shown_at);
CREATE INDEX impressions_shown_at ON impressions (shown_at);
CREATE TABLE partitions.impressions_default PARTITION OF impressions DEFAULT;
ALTER TABLE partitions.impressions_default ADD PRIMARY KEY (impression_id);
COMMENT ON SCHEMA partitions IS 'monthly partitions of feedback and impressions';

DO $$
DECLARE
    month_end timestamptz := date_add(date_trunc('month', now(), 'UTC'), interval '1 month', 'UTC');
    name text := 'impressions_before_' || to_char(month_end AT TIME ZONE 'UTC', 'YYYY_MM');
    held record;
BEGIN
    IF NOT EXISTS (SELECT FROM partitions.old_impressions) THEN
        DROP TABLE partitions.old_impressions;
    ELSE
        COMMENT ON TABLE partitions.old_impressions IS NULL;
        -- From clocks that are ahead.
        EXECUTE format(
            'WITH moved AS (DELETE FROM partitions.old_impressions WHERE shown_at >= %L RETURNING *)'
            ' INSERT INTO partitions.impressions_default SELECT * FROM moved', month_end
        );
        EXECUTE format('ALTER TABLE partitions.old_impressions RENAME TO %I', name);
        EXECUTE format(
            'ALTER TABLE impressions ATTACH PARTITION partitions.%I FOR VALUES FROM (MINVALUE) TO (%L)',
            name, month_end
        );
    END IF;
    FOR held IN
        SELECT
            privilege || coalesce(' (' || quote_ident(attname) || ')', '') AS rights,
            CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role,
            CASE WHEN is_grantable THEN 'WITH GRANT OPTION' ELSE '' END AS options
        FROM rights_on_impressions
    LOOP
        EXECUTE format('GRANT %s ON impressions TO %s %s', held.rights, held.role, held.options);
        IF to_regclass('partitions.' || name) IS NOT NULL THEN
            EXECUTE format('REVOKE %s ON partitions.%I FROM %s', held.rights, name, held.role);
        END IF;
    END LOOP;
    FOR held IN SELECT * FROM views_of_impressions WHERE NOT own LOOP
        EXECUTE format(
            'CREATE OR REPLACE VIEW %s %s AS %s',
            held.name, coalesce('WITH (' || held.options || ')', ''), held.definition
        );
    END LOOP;
END $$;
"""

MONTHS = """
CREATE FUNCTION ensure_impressions_partitions(from_time timestamptz, to_time timestamptz) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    month_start timestamptz;
    month_end timestamptz;
    month text;
    name text;
    made integer := 0;
BEGIN
    FOR month_start IN
        SELECT generate_series(date_trunc('month', from_time, 'UTC'), to_time, interval '1 month', 'UTC')
    LOOP
        month := to_char(month_start AT TIME ZONE 'UTC', 'YYYY_MM');
        name := 'impressions_' || month;
        CONTINUE WHEN to_regclass('partitions.' || name) IS NOT NULL;
        PERFORM pg_advisory_xact_lock(hashtextextended('ensure_impressions_partitions', 0));
        -- Who held the lock may have made it. to_regclass would answer from this session's cache.
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_class
            WHERE relnamespace = 'partitions'::regnamespace
                AND (
                    relname = name
                    OR starts_with(relname, 'impressions_before_') AND substr(relname, 20) > month
                )
        );
        month_end := date_add(month_start, interval '1 month', 'UTC');
        EXECUTE format(
            'CREATE TABLE partitions.%I (LIKE impressions INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name
        );
        EXECUTE format('ALTER TABLE partitions.%I ADD PRIMARY KEY (impression_id)', name);
        LOCK TABLE partitions.impressions_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format(
            'WITH moved AS (DELETE FROM partitions.impressions_default'
            '     WHERE shown_at >= %L AND shown_at < %L RETURNING *)'
            ' INSERT INTO partitions.%I SELECT * FROM moved',
            month_start, month_end, name
        );
        EXECUTE format(
            'ALTER TABLE impressions ATTACH PARTITION partitions.%I FOR VALUES FROM (%L) TO (%L)',
            name, month_start, month_end
        );
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
COMMENT ON FUNCTION ensure_impressions_partitions(timestamptz, timestamptz) IS
    'make the monthly partitions that are missing between two moments; returns how many were made';
REVOKE ALL ON FUNCTION ensure_impressions_partitions(timestamptz, timestamptz) FROM PUBLIC;

SELECT ensure_impressions_partitions(now() - interval '1 month', now() + interval '3 months');
"""

# A unique index cannot span partitions unless it contains shown_at, so each partition has its own. What comes
# twice has the same time or nearly so; a look into all months would make each row dearer with every month.
# A session may plan the look while a month is empty, and would read all of it for each row as it fills.
TRIGGERS = """
CREATE FUNCTION skip_known_impression() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
BEGIN
    IF EXISTS (
        SELECT FROM impressions AS known
        WHERE known.impression_id = NEW.impression_id
            AND known.shown_at BETWEEN NEW.shown_at - interval '1 month' AND NEW.shown_at + interval '1 month'
            AND date_trunc('month', known.shown_at, 'UTC') <> date_trunc('month', NEW.shown_at, 'UTC')
    ) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION skip_known_impression() IS
    'skip an impression whose id another month''s has, shown less than a month apart; a month has an index';
REVOKE ALL ON FUNCTION skip_known_impression() FROM PUBLIC;
CREATE TRIGGER name_user_of_session BEFORE INSERT ON impressions
    FOR EACH ROW WHEN (NEW.user_id IS NULL AND NEW.session_id IS NOT NULL)
    EXECUTE FUNCTION name_user_of_session();
CREATE TRIGGER skip_known_impression BEFORE INSERT ON impressions
    FOR EACH ROW EXECUTE FUNCTION skip_known_impression();

-- A statement that waits while rows move between partitions would look for them in the old one.
DO $$
BEGIN
    EXECUTE replace(
        pg_get_functiondef('join_session(text, text)'::regprocedure),
        'LOCK TABLE feedback IN', 'LOCK TABLE feedback, impressions IN'
    );
END $$;
"""

RETENTION = """
CREATE TABLE dropped_impressions (
    month date PRIMARY KEY,
    rows bigint NOT NULL,
    dropped_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE dropped_impressions IS 'how many impressions of each month retention has deleted';
COMMENT ON COLUMN dropped_impressions.month IS 'its first day, UTC';
COMMENT ON COLUMN dropped_impressions.dropped_at IS 'when the latest of them were deleted';

CREATE FUNCTION drop_old_impressions(months integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    oldest text;
    dropped bigint;
BEGIN
    SELECT relname INTO oldest
    FROM pg_inherits
    JOIN pg_class ON pg_class.oid = pg_inherits.inhrelid
    CROSS JOIN LATERAL (
        SELECT make_date(substr(relname, length(relname) - 6, 4)::integer, right(relname, 2)::integer, 1)
            + make_interval(months => CASE WHEN relname ~ 'before' THEN 0 ELSE 1 END) AS month_end
        WHERE relname ~ '\\d{4}_\\d{2}$'
    ) AS named
    WHERE inhparent = 'impressions'::regclass
        AND month_end <= (now() AT TIME ZONE 'UTC') - make_interval(months => drop_old_impressions.months)
    ORDER BY month_end
    LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- Before anybody has to wait. What comes for a month so old meanwhile is not counted.
    EXECUTE format(
        'WITH counted AS ('
        '     INSERT INTO dropped_impressions AS known (month, rows)'
        '     SELECT date_trunc(''month'', shown_at AT TIME ZONE ''UTC'')::date, count(*)'
        '     FROM partitions.%I GROUP BY 1'
        '     ON CONFLICT (month) DO UPDATE'
        '     SET rows = known.rows + excluded.rows, dropped_at = excluded.dropped_at)'
        ' SELECT count(*) FROM partitions.%I', oldest, oldest
    ) INTO dropped;
    LOCK TABLE ONLY impressions IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('ALTER TABLE impressions DETACH PARTITION partitions.%I', oldest);
    EXECUTE format('DROP TABLE partitions.%I', oldest);
    RETURN dropped;
END $$;
COMMENT ON FUNCTION drop_old_impressions(integer) IS
    'drop the oldest partition of impressions that ended more than so many months ago; returns its rows, or '
    'null if there is none';
REVOKE ALL ON FUNCTION drop_old_impressions(integer) FROM PUBLIC;

DO $$
BEGIN
    -- Evidence. New tables are the pipeline's by default.
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        REVOKE DELETE ON dropped_impressions FROM recsys_pipeline;
    END IF;
END $$;
"""


def upgrade() -> None:
    for script in (BEFORE, TABLE, MONTHS, TRIGGERS, RETENTION):
        op.execute(script)
