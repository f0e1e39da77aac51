"""Store with each list up to where its publication has read, so that a reader needs no second table."""

from alembic import op

revision = "0028"
down_revision = "0027"

LISTS = """
ALTER TABLE recommendation_lists ADD COLUMN through_transaction_id bigint;
COMMENT ON COLUMN recommendation_lists.through_transaction_id IS
    'as in publications; null: a release that stored none has published it';
"""


def upgrade() -> None:
    op.execute(LISTS)
