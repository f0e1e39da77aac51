"""Create the table of the sentiment that the published model reads in comments on items."""

from alembic import op

revision = "0009"
down_revision = "0008"

TABLE = """
CREATE TABLE comment_sentiment (
    item_id text PRIMARY KEY,
    model_version text NOT NULL,
    comments integer NOT NULL,
    average_value real NOT NULL,
    average_sentiment real NOT NULL,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE comment_sentiment IS
    'what the published model reads in comments, of items with enough of them to hide each';
COMMENT ON COLUMN comment_sentiment.comments IS 'that were read, each of another person';
COMMENT ON COLUMN comment_sentiment.average_value IS '0 to 1';
COMMENT ON COLUMN comment_sentiment.average_sentiment IS '-1 to 1';
"""


def upgrade() -> None:
    op.execute(TABLE)
