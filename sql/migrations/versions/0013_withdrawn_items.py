"""Leave withdrawn items out of the view of recommendations from the moment they are withdrawn."""

from alembic import op

revision = "0013"
down_revision = "0012"

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
WHERE items.available;
COMMENT ON COLUMN recommendations.rank IS
    '1 is the best; a number is missing where an item was withdrawn after the publication';
"""


def upgrade() -> None:
    op.execute(VIEW)
