"""Find slates by their time: retention, and estimates over the last weeks."""

from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    op.execute("CREATE INDEX impressions_shown_at ON impressions (shown_at)")
