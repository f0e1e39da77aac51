"""Say from when until when an item may be recommended; the view of recommendations follows at reading."""

from alembic import op

revision = "0018"
down_revision = "0017"

# Infinite times would mean the same as null, and COPY to Arrow cannot read them.
ITEMS = """
ALTER TABLE items
    ADD COLUMN available_from timestamptz,
    ADD COLUMN available_until timestamptz,
    ADD CONSTRAINT items_available_from_is_in_years_1_to_9999 CHECK (
        available_from >= '0001-01-01 00:00+00' AND available_from < '10000-01-01 00:00+00'
    ),
    ADD CONSTRAINT items_available_until_is_in_years_1_to_9999 CHECK (
        available_until >= '0001-01-01 00:00+00' AND available_until < '10000-01-01 00:00+00'
    ),
    ADD CONSTRAINT items_available_until_is_after_available_from CHECK (available_until > available_from);
COMMENT ON COLUMN items.available_from IS 'time from which the item may be recommended; null: always';
COMMENT ON COLUMN items.available_until IS
    'time until which the item may be recommended (exclusive); null: without end';
"""

# The time of the statement, not of its transaction, which may have been open for a day.
VIEW = """
CREATE OR REPLACE VIEW recommendations AS
SELECT
    lists.user_id,
    entry.rank,
    entry.item_id,
    entry.score,
    entry.propensity,
    lists.reasons ->> (entry.rank - 1)::integer AS reason,
    lists.model_version,
    lists.published_at
FROM recommendation_lists AS lists
CROSS JOIN LATERAL unnest(lists.item_ids, lists.scores, lists.propensities)
    WITH ORDINALITY AS entry (item_id, score, propensity, rank)
JOIN items ON items.item_id = entry.item_id
WHERE items.available
    AND coalesce(items.available_from <= statement_timestamp(), true)
    AND coalesce(items.available_until > statement_timestamp(), true);
COMMENT ON COLUMN recommendations.rank IS
    '1 is the best; a number is missing where an item is no longer available since the publication';
"""


def upgrade() -> None:
    op.execute(ITEMS)
    op.execute(VIEW)
