"""Keep counts of slates by day, so that a refresh of analytics reads the days that changed and no others."""

from alembic import op

revision = "0049"
down_revision = "0048"

TABLES = """
CREATE TABLE slates_by_day (
    day date NOT NULL,
    model_version text,
    position integer,
    rule text,
    slates bigint NOT NULL,
    shown bigint NOT NULL,
    reactions bigint NOT NULL,
    clicks bigint NOT NULL,
    conversions bigint NOT NULL,
    clicked_slates bigint,
    converted_slates bigint,
    propensities bigint,
    sum_of_propensities double precision,
    people bigint[] NOT NULL,
    reacting_people bigint[] NOT NULL,
    clicking_people bigint[] NOT NULL,
    converting_people bigint[] NOT NULL,
    logged_people bigint[]
);
CREATE UNIQUE INDEX slates_by_day_key ON slates_by_day (day, model_version, position, rule)
    NULLS NOT DISTINCT;
COMMENT ON TABLE slates_by_day IS
    'slates and reactions to them by the day on which they were shown: what views of slates add up';
COMMENT ON COLUMN slates_by_day.day IS 'UTC';
COMMENT ON COLUMN slates_by_day.model_version IS 'null: the row is about a rule';
COMMENT ON COLUMN slates_by_day.position IS 'null: all of them';
COMMENT ON COLUMN slates_by_day.rule IS 'null: the row is about a version';
COMMENT ON COLUMN slates_by_day.shown IS 'items';
COMMENT ON COLUMN slates_by_day.propensities IS 'how many were logged at this position';
COMMENT ON COLUMN slates_by_day.people IS
    'hashes of five of the people, or of all if they are fewer: enough to tell whether they are five';
COMMENT ON COLUMN slates_by_day.logged_people IS 'of people whose propensities were logged';

CREATE TABLE changed_slate_days (
    day date
);
COMMENT ON TABLE changed_slate_days IS
    'days of slates whose rows or reactions were changed or deleted since slates_by_day was computed';
COMMENT ON COLUMN changed_slate_days.day IS 'UTC; null: any day';

CREATE TABLE slates_by_day_progress (
    through_transaction_id bigint NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX slates_by_day_progress_one_row ON slates_by_day_progress ((true));
COMMENT ON TABLE slates_by_day_progress IS 'which rows slates_by_day has read; no row: none';
COMMENT ON COLUMN slates_by_day_progress.through_transaction_id IS 'exclusive';

-- Finds the reactions to the slates of one day. A hash takes ids of any length. A B-tree would refuse long
-- ones, and with them the whole row.
CREATE INDEX feedback_impression ON feedback USING hash (impression_id) WHERE impression_id IS NOT NULL;
"""

DEFINITIONS = """
CREATE VIEW reactions_to_slates AS
SELECT
    impression_id,
    user_id,
    item_id,
    occurred_at,
    event_type = 'click' OR role = 'step' AS clicked,
    role = 'outcome' AND feedback_sentiment(event_types, value) = 1 AS converted
FROM feedback
LEFT JOIN event_types USING (event_type)
WHERE impression_id IS NOT NULL;
COMMENT ON VIEW reactions_to_slates IS
    'feedback that names a slate: whether it is a click, and whether somebody got what they wanted';

CREATE FUNCTION add_people(known bigint[], others bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF cardinality(known) >= 5 THEN
        RETURN known;
    END IF;
    RETURN ARRAY(SELECT DISTINCT unnest(known || others) LIMIT 5);
END $$;
COMMENT ON FUNCTION add_people(bigint[], bigint[]) IS 'hashes of five of the people in both arrays';
CREATE AGGREGATE five_people(bigint[]) (SFUNC = add_people, STYPE = bigint[], INITCOND = '{}');
COMMENT ON AGGREGATE five_people(bigint[]) IS
    'hashes of five of the people in the arrays, or of all if they are fewer';
"""

# New rows need no trigger: they are found by their transaction ids. A row that changes keeps its id.
# Statements that change rows change few of them, but Postgres may plan for many and read all impressions.
TRIGGERS = """
CREATE FUNCTION note_changed_slates() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO changed_slate_days (day)
    SELECT DISTINCT (shown_at AT TIME ZONE 'UTC')::date FROM changed;
    RETURN NULL;
END $$;
CREATE FUNCTION note_changed_reactions() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    INSERT INTO changed_slate_days (day)
    SELECT DISTINCT (impressions.shown_at AT TIME ZONE 'UTC')::date
    FROM changed
    JOIN impressions USING (impression_id)
    WHERE changed.impression_id IS NOT NULL;
    RETURN NULL;
END $$;
CREATE FUNCTION note_any_slates() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO changed_slate_days (day) VALUES (NULL);
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION note_changed_slates(), note_changed_reactions(), note_any_slates() FROM PUBLIC;

CREATE TRIGGER note_slates_before AFTER UPDATE ON impressions
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_slates();
CREATE TRIGGER note_slates_after AFTER UPDATE ON impressions
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_slates();
CREATE TRIGGER note_slates_deleted AFTER DELETE ON impressions
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_slates();
CREATE TRIGGER note_reactions_before AFTER UPDATE ON feedback
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_reactions();
CREATE TRIGGER note_reactions_after AFTER UPDATE ON feedback
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_reactions();
CREATE TRIGGER note_reactions_deleted AFTER DELETE ON feedback
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_reactions();
CREATE TRIGGER note_slates_truncated AFTER TRUNCATE ON impressions
    FOR EACH STATEMENT EXECUTE FUNCTION note_any_slates();
CREATE TRIGGER note_reactions_truncated AFTER TRUNCATE ON feedback
    FOR EACH STATEMENT EXECUTE FUNCTION note_any_slates();
-- What a click is and what an outcome is may have changed.
CREATE TRIGGER note_meaning AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON event_types
    FOR EACH STATEMENT EXECUTE FUNCTION note_any_slates();
"""

# When months come and go, everything is computed anew, and so it is after a restore: rows that were written
# before the counter was raised may have any id.
MONTHS = """
DO $$
DECLARE
    known record;
    definition text;
BEGIN
    FOR known IN
        SELECT * FROM (VALUES
            ('retire_feedback_month(date)', 'RETURN NULL;'),
            ('restore_feedback_month(date)', 'END $function$'),
            ('drop_old_impressions(integer)', 'RETURN dropped;'),
            ('warehouse_rebase_transaction_ids()', 'END IF;')
        ) AS functions (name, place)
    LOOP
        definition := pg_get_functiondef(known.name::regprocedure);
        IF array_length(string_to_array(definition, known.place), 1) <> 2 THEN
            RAISE 'the function % is not that of this release', known.name;
        END IF;
        EXECUTE replace(
            definition, known.place, 'INSERT INTO changed_slate_days (day) VALUES (NULL); ' || known.place
        );
    END LOOP;
END $$;

DO $$
BEGIN
    -- New tables are the pipeline's by default.
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        REVOKE UPDATE ON slates_by_day FROM recsys_pipeline;
        REVOKE INSERT, UPDATE ON changed_slate_days FROM recsys_pipeline;
        REVOKE DELETE ON slates_by_day_progress FROM recsys_pipeline;
        REVOKE INSERT, UPDATE, DELETE ON reactions_to_slates FROM recsys_pipeline;
    END IF;
END $$;
"""


def upgrade() -> None:
    for script in (TABLES, DEFINITIONS, TRIGGERS, MONTHS):
        op.execute(script)
