"""Say once which slates are valid, and count no others in click-through."""

from alembic import op

revision = "0051"
down_revision = "0050"

VIEW = """
CREATE VIEW valid_impressions AS
SELECT
    impression_id, user_id, session_id, model_version, shown_at, query, item_ids, propensities, placement,
    rules, transaction_id
FROM impressions
WHERE NOT EXISTS (
    SELECT FROM quarantined_impressions AS held
    WHERE (held.impression_id, held.shown_at) = (impressions.impression_id, impressions.shown_at)
        AND held.status = 'held'
);
COMMENT ON VIEW valid_impressions IS
    'slates that broke no rule or were released: those that models, experiments and click-through read';
"""

# A judgement may come long after the slate was counted.
TRIGGERS = """
CREATE TRIGGER note_held_slates AFTER INSERT ON quarantined_impressions
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_slates();
CREATE TRIGGER note_settled_slates AFTER UPDATE ON quarantined_impressions
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_slates();
CREATE TRIGGER note_forgotten_slates AFTER DELETE ON quarantined_impressions
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_slates();
CREATE TRIGGER note_quarantine_truncated AFTER TRUNCATE ON quarantined_impressions
    FOR EACH STATEMENT EXECUTE FUNCTION note_any_slates();
INSERT INTO changed_slate_days (day)
SELECT DISTINCT (shown_at AT TIME ZONE 'UTC')::date FROM quarantined_impressions WHERE status = 'held';

-- New views are the pipeline's by default.
DO $$
BEGIN
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        REVOKE INSERT, UPDATE, DELETE ON valid_impressions FROM recsys_pipeline;
    END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(VIEW)
    op.execute(TRIGGERS)
