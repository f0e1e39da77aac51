"""Allow reservoirs of replay events as snapshots, and record what a snapshot's model was trained on."""

from alembic import op

revision = "0010"
down_revision = "0009"

SNAPSHOTS = """
ALTER TABLE snapshots
    DROP CONSTRAINT snapshots_kind_check,
    ADD CONSTRAINT snapshots_kind_check CHECK (kind IN ('full', 'micro', 'reservoir', 'learned')),
    ADD COLUMN trained_transaction_id bigint,
    ADD COLUMN trained_occurred_before timestamptz;
COMMENT ON COLUMN snapshots.trained_transaction_id IS
    'what a model knows after training on it: rows of smaller ids; null: recorded by an older release';
COMMENT ON COLUMN snapshots.trained_occurred_before IS 'the same by time: earlier events';
"""


def upgrade() -> None:
    op.execute(SNAPSHOTS)
