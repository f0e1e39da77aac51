"""Add the numbers of late and out-of-order rows to windows."""

from alembic import op

revision = "0005"
down_revision = "0004"

LATE = """
ALTER TABLE windows ADD COLUMN late bigint, ADD COLUMN out_of_order bigint;
COMMENT ON COLUMN windows.late IS 'rows that happened before an earlier window of the consumer was closed';
COMMENT ON COLUMN windows.out_of_order IS
    'rows that happened before another one that had arrived earlier in the window';
"""


def upgrade() -> None:
    op.execute(LATE)
