"""Say of a slate in which placement it was shown."""

from alembic import op

revision = "0025"
down_revision = "0024"

PLACEMENT = """
ALTER TABLE impressions ADD COLUMN placement text;
COMMENT ON COLUMN impressions.placement IS 'where it was shown, such as home; null: not stated';
"""


def upgrade() -> None:
    op.execute(PLACEMENT)
