"""Keep what monitoring measures every day, for charts."""

from alembic import op

revision = "0038"
down_revision = "0037"

FIGURES = """
CREATE TABLE monitored_figures (
    day date NOT NULL,
    figure text NOT NULL,
    label text NOT NULL,
    value double precision NOT NULL,
    PRIMARY KEY (day, figure, label)
);
COMMENT ON TABLE monitored_figures IS 'what monitoring measures every day, see analytics.monitored_figures';
COMMENT ON COLUMN monitored_figures.day IS 'UTC';
COMMENT ON COLUMN monitored_figures.label IS 'placement or event type; empty: none';
"""


def upgrade() -> None:
    op.execute(FIGURES)
