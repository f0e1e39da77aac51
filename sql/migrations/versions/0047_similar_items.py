"""Store what is similar to an item beside what people had with it."""

from alembic import op

revision = "0047"
down_revision = "0046"

LISTS = """
ALTER TABLE item_lists
    DROP CONSTRAINT item_lists_kind_check,
    ADD CONSTRAINT item_lists_kind_check CHECK (kind IN ('together', 'next', 'similar'));
COMMENT ON TABLE item_lists IS 'what goes with an item; a pair that people had needs five of them';
COMMENT ON COLUMN item_lists.kind IS
    'together: had within a day of it; next: had right after it; similar: nearest by the vectors';
COMMENT ON COLUMN item_lists.scores IS 'cosine of the two items, over people or of their vectors';
"""

STAGING = """
CREATE UNLOGGED TABLE staging.staged_similar_items (
    plan_id bigint NOT NULL DEFAULT staging.current_plan(),
    item_id text NOT NULL,
    item_ids text[] NOT NULL,
    scores real[] NOT NULL
);
COMMENT ON TABLE staging.staged_similar_items IS 'what is similar to each item';
"""


def upgrade() -> None:
    for script in (LISTS, STAGING):
        op.execute(script)
