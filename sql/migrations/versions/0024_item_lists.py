"""Store which items go together, and let placements be about an item."""

from alembic import op

revision = "0024"
down_revision = "0023"

LISTS = """
CREATE TABLE item_lists (
    kind text NOT NULL,
    item_id text NOT NULL,
    item_ids text[] NOT NULL,
    scores real[] NOT NULL,
    CONSTRAINT item_lists_pkey PRIMARY KEY (kind, item_id),
    CONSTRAINT item_lists_kind_check CHECK (kind IN ('together', 'next')),
    CONSTRAINT item_lists_scores_check CHECK (cardinality(item_ids) = cardinality(scores))
);
COMMENT ON TABLE item_lists IS 'items that people had with an item, at least five of them for each pair';
COMMENT ON COLUMN item_lists.kind IS 'together: within a day of it; next: right after it';
COMMENT ON COLUMN item_lists.item_ids IS 'best first';
COMMENT ON COLUMN item_lists.scores IS 'cosine of the two items over people';
"""

PLACEMENTS = """
ALTER TABLE placements
    DROP CONSTRAINT placements_logic_check,
    ADD CONSTRAINT placements_logic_check CHECK (
        logic IN ('personal', 'similar', 'because_you_watched', 'buy_again', 'trending', 'popular', 'new')
    );
COMMENT ON COLUMN placements.logic IS
    'what the list is made of before the fallback: personal, trending, popular, new, similar (to the item in '
    'the context), because_you_watched (similar to what the user wanted last) or buy_again';
INSERT INTO placements (placement, length, logic, explores, fallback) VALUES
    ('similar', 10, 'similar', false, '{personal,segment,trending,popular}'),
    ('because_you_watched', 10, 'because_you_watched', false, '{personal,segment,trending,popular}')
ON CONFLICT (placement) DO NOTHING;
"""


def upgrade() -> None:
    for script in (LISTS, PLACEMENTS):
        op.execute(script)
