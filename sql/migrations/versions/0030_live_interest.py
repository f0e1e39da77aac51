"""Store with each model version how much live interest counts."""

from alembic import op

revision = "0030"
down_revision = "0029"

VERSIONS = """
ALTER TABLE model_versions
    ADD COLUMN live_strength double precision,
    ADD COLUMN live_decay double precision,
    ADD COLUMN live_trending double precision,
    ADD CONSTRAINT model_versions_live_check CHECK (
        live_strength BETWEEN 0 AND 100
        AND live_decay BETWEEN 0 AND 1
        AND live_trending BETWEEN 0 AND 1000
    );
COMMENT ON COLUMN model_versions.live_strength IS
    'by how much a standard deviation of what goes with a user''s latest reactions outweighs the published '
    'place; null: the model has none, see serving.fitted_weights';
COMMENT ON COLUMN model_versions.live_decay IS
    'weight of a reaction as a share of that of the next newer one';
COMMENT ON COLUMN model_versions.live_trending IS
    'odds of the first trending item when a user reacts, as a share of those of the first published '
    'one';
"""


def upgrade() -> None:
    op.execute(VERSIONS)
