"""Index feedback by event time, so that a time range does not read a whole month."""

from alembic import op

revision = "0007"
down_revision = "0006"

# A micro-update reads the events since its parent's held-out part began. A block range index would be
# smaller, but Postgres reads all ranges that are not summarised yet, and immediate summarising fills the
# server's log during a large load.
TIMES = "CREATE INDEX feedback_occurred_at ON feedback (occurred_at)"


def upgrade() -> None:
    op.execute(TIMES)
