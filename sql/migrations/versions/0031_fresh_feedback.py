"""Note feedback that no list has read yet, so that a reader looks at a small table and not at every month."""

from alembic import op

revision = "0031"
down_revision = "0030"

# Rows are only added and deleted, so writers of one user do not wait for each other.
TABLE = """
CREATE TABLE fresh_feedback (
    user_id text NOT NULL,
    transaction_id bigint NOT NULL,
    feedback_id bigint NOT NULL,
    item_id text NOT NULL,
    event_type text NOT NULL,
    value double precision,
    occurred_at timestamptz NOT NULL
);
CREATE INDEX fresh_feedback_user ON fresh_feedback (user_id, transaction_id);
COMMENT ON TABLE fresh_feedback IS
    'feedback of the last days that the lists of its users have not read: what serving.recommend reacts to';
COMMENT ON COLUMN fresh_feedback.feedback_id IS 'of the row in feedback; triggers keep the two alike';
"""

# Triggers of statements cost a batch little. They see the rows of all partitions, and no row that moves from
# one partition to another. Whoever writes feedback needs no right on the table. A list is shown as published
# for 8 days and feedback counts from 7 days before: see serving.recommend.
TRIGGERS = """
CREATE FUNCTION note_fresh_feedback() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO fresh_feedback (
        user_id, transaction_id, feedback_id, item_id, event_type, value, occurred_at
    )
    SELECT user_id, transaction_id, feedback_id, item_id, event_type, value, occurred_at
    FROM written
    WHERE occurred_at > statement_timestamp() - interval '15 days'
    ORDER BY user_id;  -- of a large batch, neighbours in the index come after each other
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION note_fresh_feedback() FROM PUBLIC;

CREATE FUNCTION forget_fresh_feedback() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    DELETE FROM fresh_feedback AS fresh
    USING gone
    WHERE fresh.user_id = gone.user_id AND fresh.feedback_id = gone.feedback_id;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION forget_fresh_feedback() FROM PUBLIC;

CREATE FUNCTION forget_all_fresh_feedback() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    DELETE FROM fresh_feedback;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION forget_all_fresh_feedback() FROM PUBLIC;

CREATE TRIGGER note_fresh_feedback AFTER INSERT ON feedback
    REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION note_fresh_feedback();
-- Triggers of one event run in the order of their names: a row is forgotten, then noted as it is now.
CREATE TRIGGER change_1_forget AFTER UPDATE ON feedback
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION forget_fresh_feedback();
CREATE TRIGGER change_2_note AFTER UPDATE ON feedback
    REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION note_fresh_feedback();
CREATE TRIGGER forget_fresh_feedback AFTER DELETE ON feedback
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION forget_fresh_feedback();
CREATE TRIGGER forget_all_fresh_feedback AFTER TRUNCATE ON feedback
    FOR EACH STATEMENT EXECUTE FUNCTION forget_all_fresh_feedback();
"""

# The triggers have locked out writers, so nothing is missed between them and this.
FILL = """
INSERT INTO fresh_feedback (user_id, transaction_id, feedback_id, item_id, event_type, value, occurred_at)
SELECT
    feedback.user_id, feedback.transaction_id, feedback.feedback_id, feedback.item_id, feedback.event_type,
    feedback.value, feedback.occurred_at
FROM feedback
LEFT JOIN recommendation_lists AS lists ON lists.user_id = feedback.user_id
WHERE feedback.occurred_at > now() - interval '15 days'
    AND feedback.transaction_id >= coalesce(
        lists.through_transaction_id,
        (SELECT max(publications.through_transaction_id) FROM publications),
        0
    )
"""

# New tables are the pipeline's by default. It adds no rows: the triggers do.
RIGHTS = """
DO $$
BEGIN
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        REVOKE INSERT ON fresh_feedback FROM recsys_pipeline;
    END IF;
END $$
"""


def upgrade() -> None:
    for script in (TABLE, TRIGGERS, FILL, RIGHTS):
        op.execute(script)
