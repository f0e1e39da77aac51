"""Keep slates that cannot be right from learning."""

from alembic import op

revision = "0050"
down_revision = "0049"

TABLES = """
CREATE TABLE quarantined_impressions (
    impression_id text NOT NULL,
    shown_at timestamptz NOT NULL,
    transaction_id bigint NOT NULL,
    reasons text[] NOT NULL,
    status text NOT NULL DEFAULT 'held',
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at timestamptz,
    settled_by text,
    PRIMARY KEY (impression_id, shown_at),
    CONSTRAINT quarantined_impressions_status_check CHECK (status IN ('held', 'released'))
);
CREATE INDEX quarantined_impressions_transaction_id ON quarantined_impressions (transaction_id);
COMMENT ON TABLE quarantined_impressions IS
    'slates that broke a rule, with the reasons: nothing learns from them until they are released';
COMMENT ON COLUMN quarantined_impressions.shown_at IS 'with the id the key of impressions';
COMMENT ON COLUMN quarantined_impressions.transaction_id IS 'of the writer of the slate';
COMMENT ON COLUMN quarantined_impressions.reasons IS 'names of the rules broken';

CREATE TABLE judged_impressions (
    upper_transaction_id bigint PRIMARY KEY,
    lower_transaction_id bigint NOT NULL,
    arrived bigint NOT NULL,
    quarantined bigint NOT NULL,
    judged_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE judged_impressions IS
    'which slates the rules have judged: from bound to bound, each once, and how many there were';
COMMENT ON COLUMN judged_impressions.upper_transaction_id IS 'exclusive; the next ones begin here';
COMMENT ON COLUMN judged_impressions.quarantined IS 'of those that arrived; the others are valid';

-- Bounds are evidence.
DO $$
BEGIN
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        REVOKE UPDATE, DELETE ON judged_impressions FROM recsys_pipeline;
    END IF;
END $$;
"""

REBASE = """
DO $$
DECLARE
    definition constant text := pg_get_functiondef('warehouse_rebase_transaction_ids()'::regprocedure);
    place constant text := '(SELECT max(upper_transaction_id) FROM windows),';
BEGIN
    IF array_length(string_to_array(definition, place), 1) <> 2 THEN
        RAISE 'the function warehouse_rebase_transaction_ids is not that of this release';
    END IF;
    EXECUTE replace(
        definition, place, place || ' (SELECT max(upper_transaction_id) FROM judged_impressions),'
    );
END $$;
"""


def upgrade() -> None:
    for script in (TABLES, REBASE):
        op.execute(script)
