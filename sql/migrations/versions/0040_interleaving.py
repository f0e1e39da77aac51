"""Compare two versions within one list: interleaved experiments, and who picked which item."""

from alembic import op

revision = "0040"
down_revision = "0039"

TABLES = """
ALTER TABLE experiments ADD COLUMN kind text NOT NULL DEFAULT 'split';
ALTER TABLE experiments ADD CONSTRAINT experiments_kind_check CHECK (kind IN ('split', 'interleave'));
COMMENT ON COLUMN experiments.kind IS
    'split: some users get the challenger''s lists; '
    'interleave: they get lists that both versions pick in turn';

CREATE TABLE interleaved_lists (
    experiment_id bigint NOT NULL REFERENCES experiments,
    user_id text NOT NULL,
    published_at timestamptz NOT NULL,
    item_ids text[] NOT NULL,
    of_challenger boolean[] NOT NULL,
    PRIMARY KEY (experiment_id, user_id, published_at),
    CONSTRAINT interleaved_lists_picks_check CHECK (cardinality(item_ids) = cardinality(of_challenger))
);
CREATE INDEX interleaved_lists_user ON interleaved_lists (user_id);
COMMENT ON TABLE interleaved_lists IS
    'lists of an interleaved experiment as they were published, until it has ended: who picked which item';
COMMENT ON COLUMN interleaved_lists.item_ids IS 'the first candidates, best first';
COMMENT ON COLUMN interleaved_lists.of_challenger IS
    'the challenger picked the item; false: the champion did; null: both wanted it';

ALTER TABLE staging.staged_pools ADD COLUMN of_challenger boolean[];
COMMENT ON COLUMN staging.staged_pools.of_challenger IS
    'who picked each of the first items, while an experiment interleaves lists';
"""


def upgrade() -> None:
    op.execute(TABLES)
