"""Keep searches of settings, their trials, and which versions were trained with what they found."""

from alembic import op

revision = "0044"
down_revision = "0043"

TABLES = """
CREATE TABLE searches (
    search_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_key text NOT NULL UNIQUE,
    snapshot jsonb NOT NULL,
    present jsonb NOT NULL,
    trials integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deadline timestamptz NOT NULL,
    ended_at timestamptz,
    outcome text,
    explanation text,
    winner integer,
    users bigint,
    difference double precision,
    low double precision,
    high double precision,
    CONSTRAINT searches_end_check CHECK ((ended_at IS NULL) = (outcome IS NULL))
);
COMMENT ON TABLE searches IS 'searches of settings: what was tried against what, and what came of it';
COMMENT ON COLUMN searches.snapshot IS 'reference of what all trials train on';
COMMENT ON COLUMN searches.present IS 'settings of the first trial, in force at the start';
COMMENT ON COLUMN searches.trials IS 'planned';
COMMENT ON COLUMN searches.deadline IS 'when no more is tried';
COMMENT ON COLUMN searches.outcome IS 'a name for machines; null: it is running';
COMMENT ON COLUMN searches.explanation IS 'the same as a sentence';
COMMENT ON COLUMN searches.winner IS 'number of the best trial';
COMMENT ON COLUMN searches.users IS 'who were not seen by the search and tested its winner';
COMMENT ON COLUMN searches.difference IS
    'their NDCG with the winner minus that with the present settings';

CREATE TABLE search_trials (
    search_id bigint NOT NULL REFERENCES searches,
    number integer NOT NULL,
    settings jsonb NOT NULL,
    state text NOT NULL,
    curve double precision[] NOT NULL DEFAULT '{}'::double precision[],
    score double precision,
    explanation text,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    PRIMARY KEY (search_id, number),
    CONSTRAINT search_trials_state_check CHECK (
        state IN ('running', 'complete', 'pruned', 'failed', 'out_of_time')
    ),
    CONSTRAINT search_trials_score_check CHECK ((state = 'complete') = (score IS NOT NULL))
);
COMMENT ON TABLE search_trials IS 'trials of searches of settings';
COMMENT ON COLUMN search_trials.number IS '0: the present settings';
COMMENT ON COLUMN search_trials.curve IS 'validation NDCG after each epoch';
COMMENT ON COLUMN search_trials.score IS 'NDCG of the whole model on validated users; null unless complete';
COMMENT ON COLUMN search_trials.explanation IS 'why it was ended early';

-- Searches are kept.
DO $$
BEGIN
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        REVOKE DELETE ON searches, search_trials FROM recsys_pipeline;
    END IF;
END $$;

ALTER TABLE model_versions ADD COLUMN tuned_settings jsonb;
COMMENT ON COLUMN model_versions.tuned_settings IS
    'settings of its full fine-tune that a search found; null: none';
"""


def upgrade() -> None:
    op.execute(TABLES)
