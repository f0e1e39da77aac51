"""Create model evaluations, promotion ledger, publications, recommendations and vectors."""

from alembic import op

revision = "0002"
down_revision = "0001"

LEDGER = """
CREATE TABLE model_evaluations (
    evaluation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_key text NOT NULL,
    model_version text,
    scorer text NOT NULL,
    slice text NOT NULL,
    metric text NOT NULL,
    value double precision,
    low double precision,
    high double precision,
    users bigint NOT NULL,
    evaluated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT model_evaluations_key UNIQUE (run_key, scorer, slice, metric)
);
COMMENT ON TABLE model_evaluations IS
    'offline metrics of every scorer of every run, with confidence intervals';
COMMENT ON COLUMN model_evaluations.model_version IS 'null for baselines';
COMMENT ON COLUMN model_evaluations.scorer IS 'candidate, champion, popularity, ...';
COMMENT ON COLUMN model_evaluations.slice IS 'all, cold_users, guard, ...';

CREATE TABLE promotion_ledger (
    ledger_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    action text NOT NULL,
    model_version text NOT NULL,
    previous_champion text,
    champion_sequence bigint UNIQUE,
    reason text NOT NULL,
    explanation text NOT NULL,
    checks jsonb NOT NULL DEFAULT '[]'::jsonb,
    actor text NOT NULL,
    run_key text UNIQUE,
    CONSTRAINT promotion_ledger_action_check CHECK (action IN ('promote', 'hold', 'reject', 'roll_back')),
    CONSTRAINT promotion_ledger_sequence_check
        CHECK ((champion_sequence IS NOT NULL) = (action IN ('promote', 'roll_back')))
);
COMMENT ON TABLE promotion_ledger IS
    'every decision about the champion, append-only: who, when, on which evidence';
COMMENT ON COLUMN promotion_ledger.previous_champion IS 'champion when the decision was taken';
COMMENT ON COLUMN promotion_ledger.champion_sequence IS '1, 2, ... for changes of champion';
COMMENT ON COLUMN promotion_ledger.reason IS 'machine-readable name';
COMMENT ON COLUMN promotion_ledger.explanation IS 'one sentence for people';
COMMENT ON COLUMN promotion_ledger.actor IS 'DAG and run, or the person';
COMMENT ON COLUMN promotion_ledger.run_key IS 'its retries find the row; null: a person';

CREATE FUNCTION promotion_ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'promotion_ledger is append-only: % is refused', TG_OP
        USING HINT = 'Record a new decision with INSERT; `recsys` does so for promotions and rollbacks.',
              ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER promotion_ledger_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON promotion_ledger
    FOR EACH STATEMENT EXECUTE FUNCTION promotion_ledger_refuse();
"""

PUBLISHING = """
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE publications (
    publication_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_key text NOT NULL UNIQUE,
    model_version text NOT NULL,
    scope text NOT NULL,
    users bigint NOT NULL,
    items bigint NOT NULL,
    through_transaction_id bigint NOT NULL,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT publications_scope_check CHECK (scope IN ('all', 'affected'))
);
COMMENT ON TABLE publications IS 'one row for each time recommendations and vectors were swapped in';
COMMENT ON COLUMN publications.through_transaction_id IS 'feedback below it was read';

CREATE TABLE recommendation_lists (
    user_id text PRIMARY KEY,
    publication_id bigint NOT NULL REFERENCES publications (publication_id),
    model_version text NOT NULL,
    item_ids text[] NOT NULL,
    scores real[] NOT NULL,
    propensities real[] NOT NULL,
    reasons jsonb NOT NULL DEFAULT '[]'::jsonb,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE recommendation_lists IS
    'current recommendations, one row a user; read the view recommendations';
COMMENT ON COLUMN recommendation_lists.item_ids IS 'best first';

CREATE VIEW recommendations AS
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
    WITH ORDINALITY AS entry (item_id, score, propensity, rank);
COMMENT ON VIEW recommendations IS
    'what to show: SELECT item_id FROM recommendations WHERE user_id = ... ORDER BY rank';
COMMENT ON COLUMN recommendations.rank IS '1 is the best';
COMMENT ON COLUMN recommendations.propensity IS
    'probability with which the policy shows the item here; log it with the impression';

CREATE TABLE user_vectors (
    user_id text PRIMARY KEY,
    model_version text NOT NULL,
    vector vector NOT NULL
);
COMMENT ON TABLE user_vectors IS
    'current user vectors, of the same model version as the recommendations';

CREATE TABLE item_vectors (
    item_id text PRIMARY KEY,
    model_version text NOT NULL,
    vector vector NOT NULL
);
COMMENT ON TABLE item_vectors IS
    'current item vectors, of the same model version as the recommendations';
"""


def upgrade() -> None:
    op.execute(LEDGER)
    op.execute(PUBLISHING)
