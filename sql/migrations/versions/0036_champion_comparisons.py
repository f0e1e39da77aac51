"""Compare each night's champion with those of a week and a month ago."""

from alembic import op

revision = "0036"
down_revision = "0035"

COMPARISONS = """
CREATE TABLE champion_comparisons (
    run_key text NOT NULL,
    days integer NOT NULL,
    champion_version text NOT NULL,
    earlier_version text NOT NULL,
    ndcg double precision NOT NULL,
    earlier_ndcg double precision NOT NULL,
    difference double precision NOT NULL,
    low double precision NOT NULL,
    high double precision NOT NULL,
    users bigint NOT NULL,
    compared_at timestamptz NOT NULL,
    PRIMARY KEY (run_key, days)
);
COMMENT ON TABLE champion_comparisons IS
    'the champion of each night against earlier champions on the newest feedback, to see a slow decline';
COMMENT ON COLUMN champion_comparisons.days IS 'age of the earlier champion''s reign in days';
COMMENT ON COLUMN champion_comparisons.ndcg IS 'of the champion';
COMMENT ON COLUMN champion_comparisons.difference IS 'champion - earlier champion, with its interval';
"""


def upgrade() -> None:
    op.execute(COMPARISONS)
