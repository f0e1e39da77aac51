"""Find a window's feedback by when it happened without reading a month of it."""

from alembic import op

revision = "0007"
down_revision = "0006"

# Feedback arrives roughly in the order in which it happened, so a block range index serves and costs
# writers next to nothing. A range that is not summarised yet is read; autosummarize keeps these few.
TIMES = """
CREATE INDEX feedback_occurred_at ON feedback
    USING brin (occurred_at) WITH (pages_per_range = 32, autosummarize = on);
"""


def upgrade() -> None:
    op.execute(TIMES)
