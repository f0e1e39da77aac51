"""Find a window's feedback by when it happened without reading a month of it."""

from alembic import op

revision = "0007"
down_revision = "0006"

# A micro-update asks for what happened after its parent's held-out part began. A block range index would be
# smaller, but its ranges that are not summarised yet are read, and summarising them at once puts rows into
# the server's log when a load outruns it.
TIMES = "CREATE INDEX feedback_occurred_at ON feedback (occurred_at)"


def upgrade() -> None:
    op.execute(TIMES)
