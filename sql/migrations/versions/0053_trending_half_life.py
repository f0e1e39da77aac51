"""Store with each model version how soon what is trending fades, and what it counts without a reaction."""

from alembic import op

revision = "0053"
down_revision = "0052"

VERSIONS = """
ALTER TABLE model_versions
    ADD COLUMN live_trending_half_life_days double precision,
    ADD COLUMN live_trending_before_reaction double precision,
    DROP CONSTRAINT model_versions_live_check,
    ADD CONSTRAINT model_versions_live_check CHECK (
        live_strength BETWEEN 0 AND 100
        AND live_decay BETWEEN 0 AND 1
        AND live_trending BETWEEN 0 AND 1000
        AND live_trending_half_life_days > 0
        AND live_trending_before_reaction BETWEEN 0 AND 1000
    );
COMMENT ON COLUMN model_versions.live_trending_half_life_days IS
    'days after which an event counts half for what is trending; null: a quarter of '
    'RECSYS_SERVING__TRENDING_DAYS';
COMMENT ON COLUMN model_versions.live_trending_before_reaction IS
    'the same as live_trending for a user who has not reacted since the publication';
"""


def upgrade() -> None:
    op.execute(VERSIONS)
