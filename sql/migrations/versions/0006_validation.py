"""Create tables for the violations of a window and for noise with a lower weight."""

from alembic import op

revision = "0006"
down_revision = "0005"

# The first table is working data that Great Expectations and the quarantine read: a crash of Postgres may
# empty it, and the next attempt fills it again. Rows of the second table are deleted with their user.
TABLES = """
CREATE UNLOGGED TABLE row_violations (
    window_id bigint NOT NULL REFERENCES windows (window_id),
    feedback_id bigint NOT NULL,
    reasons text[] NOT NULL,
    quarantined boolean NOT NULL,
    PRIMARY KEY (window_id, feedback_id)
);
COMMENT ON TABLE row_violations IS
    'rows that break row rules, of windows in validation or whose validation failed';
COMMENT ON COLUMN row_violations.reasons IS 'names of the rules broken';
COMMENT ON COLUMN row_violations.quarantined IS 'moves to quarantine; false: only weighted down';

CREATE TABLE noisy_feedback (
    feedback_id bigint PRIMARY KEY,
    user_id text NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    transaction_id bigint NOT NULL,
    reasons text[] NOT NULL
);
CREATE INDEX noisy_feedback_user ON noisy_feedback (user_id);
COMMENT ON TABLE noisy_feedback IS
    'feedback that is noise but stays: all feedback of its user weighs less in snapshots';
COMMENT ON COLUMN noisy_feedback.reasons IS 'names of the rules broken';
"""


def upgrade() -> None:
    op.execute(TABLES)
