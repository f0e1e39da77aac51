"""Remember of each item what the last publication read, to publish again what has changed since."""

from alembic import op

revision = "0020"
down_revision = "0019"

TABLE = """
CREATE TABLE published_items (
    item_id text PRIMARY KEY,
    title text NOT NULL,
    text_digest text NOT NULL,
    available boolean NOT NULL
);
COMMENT ON TABLE published_items IS
    'items as the last publication read them: what differs from items is published again';
COMMENT ON COLUMN published_items.title IS 'title in the reasons of lists';
COMMENT ON COLUMN published_items.text_digest IS 'MD5 of what its vector was computed from';
"""


def upgrade() -> None:
    op.execute(TABLE)
