"""Record each test whether a candidate is better: the tests of a month share one probability of error."""

from alembic import op

revision = "0035"
down_revision = "0034"

TESTS = """
CREATE TABLE superiority_tests (
    run_key text NOT NULL,
    champion_version text NOT NULL,
    model_version text NOT NULL,
    kind text NOT NULL,
    month date NOT NULL,
    tested_at timestamptz NOT NULL,
    p_value double precision NOT NULL,
    level double precision NOT NULL,
    shown boolean NOT NULL,
    PRIMARY KEY (run_key, champion_version),
    CONSTRAINT superiority_tests_kind_check CHECK (kind IN ('full', 'micro')),
    CONSTRAINT superiority_tests_shown_check CHECK (shown = (level > 0 AND p_value <= level))
);
COMMENT ON TABLE superiority_tests IS
    'every test whether a candidate is better than the champion, append-only; the tests of a month share one '
    'probability of error';
COMMENT ON COLUMN superiority_tests.month IS 'first day, UTC';
COMMENT ON COLUMN superiority_tests.p_value IS 'one-sided';
COMMENT ON COLUMN superiority_tests.level IS
    'largest p-value that shows a gain; it is spent unless the gain is shown';
COMMENT ON COLUMN superiority_tests.shown IS 'whether the candidate is shown to be better';

CREATE FUNCTION superiority_tests_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'superiority_tests is append-only: % is refused', TG_OP
        USING HINT = 'What has been tested stays tested.', ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER superiority_tests_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON superiority_tests
    FOR EACH STATEMENT EXECUTE FUNCTION superiority_tests_refuse();

-- What new tables get by default and nobody may do here.
DO $$
BEGIN
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        REVOKE UPDATE, DELETE ON superiority_tests FROM recsys_pipeline;
    END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(TESTS)
