"""Keep counts of feedback by person, item and day of arrival, so that analytics read new rows."""

from alembic import op

revision = "0052"
down_revision = "0051"

TABLES = """
CREATE TABLE feedback_by_user (
    user_id text PRIMARY KEY,
    events bigint NOT NULL,
    explicit_events bigint NOT NULL,
    items bigint NOT NULL,
    active_days bigint NOT NULL,
    weeks date[] NOT NULL,
    item_ids text[] NOT NULL,
    months date[] NOT NULL,
    item_events bigint[] NOT NULL,
    ratings bigint[] NOT NULL,
    sums_of_ratings numeric[] NOT NULL,
    last_events_at timestamptz[] NOT NULL
);
COMMENT ON TABLE feedback_by_user IS
    'feedback of each person: what views of people add up, and what feedback_by_item is kept from';
COMMENT ON COLUMN feedback_by_user.active_days IS 'UTC';
COMMENT ON COLUMN feedback_by_user.weeks IS 'Mondays (UTC) of the weeks with feedback, in order';
COMMENT ON COLUMN feedback_by_user.item_ids IS
    'an entry for each item and month; the arrays from here on have one element for each entry';
COMMENT ON COLUMN feedback_by_user.months IS
    'first days of months (UTC); null: no month, as of an infinite time';
COMMENT ON COLUMN feedback_by_user.ratings IS 'events of type rating with a finite value';

CREATE TABLE feedback_by_item (
    item_id text NOT NULL,
    month date,
    events bigint NOT NULL,
    people bigint,
    ratings bigint,
    sum_of_ratings numeric,
    rating_people bigint,
    last_event_at timestamptz
);
CREATE UNIQUE INDEX feedback_by_item_key ON feedback_by_item (item_id, month) NULLS NOT DISTINCT;
CREATE INDEX feedback_by_item_unfinished ON feedback_by_item (item_id)
    WHERE events = 0 OR (month IS NULL AND last_event_at IS NULL);
COMMENT ON TABLE feedback_by_item IS 'feedback on each item: what views of items add up';
COMMENT ON COLUMN feedback_by_item.month IS
    'its first day (UTC); null: all times, which alone has the columns after events';
COMMENT ON COLUMN feedback_by_item.last_event_at IS 'null: the next refresh looks it up';

CREATE TABLE feedback_lag_by_day (
    arrival_day date PRIMARY KEY,
    first_transaction_id bigint NOT NULL,
    last_transaction_id bigint NOT NULL,
    runs bigint NOT NULL,
    events bigint NOT NULL,
    late_events bigint NOT NULL,
    waiting_events bigint NOT NULL,
    event_to_arrival_median double precision,
    event_to_arrival_p95 double precision,
    arrival_to_window_median double precision,
    arrival_to_champion_median double precision,
    arrival_to_champion_p95 double precision,
    arrival_to_published_median double precision,
    people bigint NOT NULL,
    late_people bigint NOT NULL,
    waiting_people bigint NOT NULL,
    dated_people bigint NOT NULL,
    read_people bigint NOT NULL,
    served_people bigint NOT NULL
);
COMMENT ON TABLE feedback_lag_by_day IS 'what analytics.feedback_lag shows, also of days with few people';
COMMENT ON COLUMN feedback_lag_by_day.arrival_day IS 'UTC';
COMMENT ON COLUMN feedback_lag_by_day.first_transaction_id IS
    'of those that wrote the day''s rows, or an earlier one';
COMMENT ON COLUMN feedback_lag_by_day.last_transaction_id IS
    'of those that wrote the day''s rows, or a later one';
COMMENT ON COLUMN feedback_lag_by_day.runs IS
    'digest of the runs that read the day''s feedback, with times: when it changes, the day is counted anew';

CREATE TABLE changed_feedback (
    user_id text,
    arrival_day date
);
COMMENT ON TABLE changed_feedback IS
    'whose feedback was changed or deleted since it was counted, or which days''; both null: any';

CREATE TABLE feedback_counts_progress (
    through_transaction_id bigint NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX feedback_counts_progress_one_row ON feedback_counts_progress ((true));
COMMENT ON TABLE feedback_counts_progress IS 'which rows the counts of feedback have read; no row: none';
COMMENT ON COLUMN feedback_counts_progress.through_transaction_id IS 'exclusive';
"""

# What a person's row says less or more than before is taken from the items' rows, or added to them, in the
# same statement: also when an erasure deletes it.
ITEMS = """
CREATE FUNCTION count_feedback_by_item() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    EXECUTE format($statement$
        WITH entries AS (
            SELECT
                counted.sign,
                counted.user_id,
                entry.item_id,
                entry.month,
                counted.sign * entry.events AS events,
                counted.sign * entry.ratings AS ratings,
                counted.sign * entry.sum_of_ratings AS sum_of_ratings,
                counted.sign * extract(epoch FROM entry.last_event_at) AS last
            FROM (%s) AS counted
            CROSS JOIN LATERAL unnest(
                counted.item_ids, counted.months, counted.item_events, counted.ratings,
                counted.sums_of_ratings, counted.last_events_at
            ) AS entry (item_id, month, events, ratings, sum_of_ratings, last_event_at)
        ),

        people AS (
            SELECT
                item_id, sign, sum(events) AS events, sum(ratings) AS ratings,
                sum(sum_of_ratings) AS sum_of_ratings, sum(last) AS last
            FROM entries
            GROUP BY item_id, user_id, sign
        )

        INSERT INTO feedback_by_item AS known (
            item_id, month, events, people, ratings, sum_of_ratings, rating_people
        )
        SELECT item_id, month, sum(events), NULL, NULL, NULL, NULL
        FROM entries
        WHERE month IS NOT NULL
        GROUP BY item_id, month
        HAVING sum(events) <> 0
        UNION ALL
        SELECT
            item_id, NULL, sum(events), sum(sign), sum(ratings), sum(sum_of_ratings),
            coalesce(sum(sign) FILTER (WHERE ratings <> 0), 0)
        FROM people
        GROUP BY item_id
        HAVING sum(events) <> 0 OR sum(sign) <> 0 OR sum(ratings) <> 0
            OR sum(sum_of_ratings) <> 0 OR coalesce(sum(sign) FILTER (WHERE ratings <> 0), 0) <> 0
            OR sum(last) IS DISTINCT FROM 0
        ON CONFLICT (item_id, month) DO UPDATE SET
            events = known.events + excluded.events,
            people = known.people + excluded.people,
            ratings = known.ratings + excluded.ratings,
            sum_of_ratings = known.sum_of_ratings + excluded.sum_of_ratings,
            rating_people = known.rating_people + excluded.rating_people,
            last_event_at = NULL
    $statement$,
        CASE TG_OP
            WHEN 'INSERT' THEN 'SELECT 1 AS sign, added.* FROM added'
            WHEN 'DELETE' THEN 'SELECT -1 AS sign, removed.* FROM removed'
            ELSE 'SELECT 1 AS sign, added.* FROM added UNION ALL SELECT -1, removed.* FROM removed'
        END
    );
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION count_feedback_by_item() FROM PUBLIC;
CREATE TRIGGER count_added AFTER INSERT ON feedback_by_user
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_feedback_by_item();
CREATE TRIGGER count_changed AFTER UPDATE ON feedback_by_user
    REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION count_feedback_by_item();
CREATE TRIGGER count_removed AFTER DELETE ON feedback_by_user
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_feedback_by_item();
"""

# New rows need no trigger: they are found by their transaction ids. A row that changes keeps its id. Whatever
# makes all slates be counted anew may have changed any feedback.
TRIGGERS = """
CREATE FUNCTION note_changed_feedback() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO changed_feedback (user_id, arrival_day)
    SELECT DISTINCT user_id, NULL::date FROM changed
    UNION ALL
    SELECT DISTINCT NULL, (received_at AT TIME ZONE 'UTC')::date FROM changed;
    RETURN NULL;
END $$;
CREATE FUNCTION note_any_feedback() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO changed_feedback (user_id, arrival_day) VALUES (NULL, NULL);
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION note_changed_feedback(), note_any_feedback() FROM PUBLIC;

CREATE TRIGGER note_feedback_before AFTER UPDATE ON feedback
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_feedback();
CREATE TRIGGER note_feedback_after AFTER UPDATE ON feedback
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_feedback();
CREATE TRIGGER note_feedback_deleted AFTER DELETE ON feedback
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_feedback();
CREATE TRIGGER note_any_feedback AFTER INSERT ON changed_slate_days
    FOR EACH ROW WHEN (NEW.day IS NULL) EXECUTE FUNCTION note_any_feedback();

DO $$
BEGIN
    -- New tables are the pipeline's by default.
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        REVOKE INSERT ON feedback_by_item FROM recsys_pipeline;
        REVOKE UPDATE ON feedback_lag_by_day FROM recsys_pipeline;
        REVOKE INSERT, UPDATE ON changed_feedback FROM recsys_pipeline;
        REVOKE DELETE ON feedback_counts_progress FROM recsys_pipeline;
    END IF;
END $$;
"""


def upgrade() -> None:
    for script in (TABLES, ITEMS, TRIGGERS):
        op.execute(script)
