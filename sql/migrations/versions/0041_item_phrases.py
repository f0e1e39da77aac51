"""Create the table of what people praise and criticise about items, in their own words."""

from alembic import op

revision = "0041"
down_revision = "0040"

TABLE = """
CREATE TABLE item_phrases (
    item_id text PRIMARY KEY,
    comment_ids bigint[] NOT NULL,
    people integer NOT NULL,
    phrases jsonb NOT NULL,
    model_version text NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE item_phrases IS
    'what people praise and criticise about items in comments, of items with enough of them to hide each';
COMMENT ON COLUMN item_phrases.comment_ids IS
    'feedback ids of the comments that were read, newest first; with others the item is read again';
COMMENT ON COLUMN item_phrases.people IS 'whose comments were read';
COMMENT ON COLUMN item_phrases.phrases IS
    'see analytics.item_phrases; empty: no phrase was used by enough people';
COMMENT ON COLUMN item_phrases.model_version IS 'the version that read the comments';
"""


def upgrade() -> None:
    op.execute(TABLE)
