"""Let items name the group that they are variants of."""

from alembic import op

revision = "0019"
down_revision = "0018"

ITEMS = """
ALTER TABLE items
    ADD COLUMN variant_of text,
    ADD CONSTRAINT items_variant_of_is_not_empty CHECK (variant_of <> '');
COMMENT ON COLUMN items.variant_of IS
    'group of items that are one thing, of which a list shows one: an item''s id or any other name';
"""


def upgrade() -> None:
    op.execute(ITEMS)
