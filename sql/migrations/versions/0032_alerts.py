"""Remember which causes have been alerted, so that each is sent once."""

from alembic import op

revision = "0032"
down_revision = "0031"

ALERTS = """
CREATE TABLE alerts (
    cause text PRIMARY KEY,
    message text NOT NULL,
    opened_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    sent_at timestamptz,
    closed_at timestamptz
);
COMMENT ON TABLE alerts IS 'what monitoring has found, one row a cause';
COMMENT ON COLUMN alerts.cause IS 'what is watched, such as drift of one expectation';
COMMENT ON COLUMN alerts.message IS 'as last found';
COMMENT ON COLUMN alerts.opened_at IS 'first found, since it was last closed';
COMMENT ON COLUMN alerts.seen_at IS 'last found';
COMMENT ON COLUMN alerts.sent_at IS 'since it was opened; null: still to be sent';
COMMENT ON COLUMN alerts.closed_at IS 'no longer found; null: open';
"""


def upgrade() -> None:
    op.execute(ALERTS)
