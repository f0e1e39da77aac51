"""Let users decide between models: experiments, their arms and what each look at them found."""

from alembic import op

revision = "0039"
down_revision = "0038"

TABLES = """
CREATE TABLE experiments (
    experiment_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    challenger text NOT NULL,
    champion text NOT NULL,
    challenger_share double precision NOT NULL,
    hold_out_share double precision NOT NULL DEFAULT 0,
    salt text NOT NULL DEFAULT gen_random_uuid()::text,
    placements text[],
    success text[] NOT NULL,
    guardrails jsonb NOT NULL,
    days integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_by text NOT NULL,
    shown_since timestamptz,
    ended_at timestamptz,
    ended_by text,
    outcome text,
    explanation text,
    CONSTRAINT experiments_shares_check CHECK (
        challenger_share > 0 AND hold_out_share >= 0 AND challenger_share + hold_out_share < 1
    ),
    CONSTRAINT experiments_days_check CHECK (days BETWEEN 1 AND 365),
    CONSTRAINT experiments_success_check CHECK (cardinality(success) > 0),
    CONSTRAINT experiments_end_check CHECK (
        (ended_at IS NULL) = (outcome IS NULL) AND (ended_at IS NULL) = (ended_by IS NULL)
    )
);
CREATE UNIQUE INDEX experiments_one_at_a_time ON experiments ((true)) WHERE ended_at IS NULL;
COMMENT ON TABLE experiments IS
    'which users get the lists of which version, and how it ended; one runs at a time';
COMMENT ON COLUMN experiments.challenger IS 'the version that some users get';
COMMENT ON COLUMN experiments.champion IS
    'at the start; the control gets whichever version is champion';
COMMENT ON COLUMN experiments.challenger_share IS 'of users, 0 to 1';
COMMENT ON COLUMN experiments.hold_out_share IS
    'of users who get no list of their own, but what is trending and popular';
COMMENT ON COLUMN experiments.salt IS 'hashed with a user''s key to choose the arm';
COMMENT ON COLUMN experiments.placements IS 'whose slates are read; null: all';
COMMENT ON COLUMN experiments.success IS 'metrics of which the challenger has to be better on one';
COMMENT ON COLUMN experiments.guardrails IS
    'margin by metric: the largest loss to exclude, a share of the control''s value';
COMMENT ON COLUMN experiments.days IS 'planned length';
COMMENT ON COLUMN experiments.shown_since IS 'when all arms were first published; slates from then on count';
COMMENT ON COLUMN experiments.outcome IS 'why it ended, a name for machines; null: it is running';
COMMENT ON COLUMN experiments.explanation IS 'the same as a sentence';

CREATE FUNCTION refuse_change_of_experiment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'UPDATE' THEN
        RAISE EXCEPTION 'experiments are kept: end one with recsys experiment stop'
            USING ERRCODE = 'insufficient_privilege';
    ELSIF OLD.ended_at IS NOT NULL THEN
        RAISE EXCEPTION 'experiment % has ended and cannot be changed', OLD.name
            USING ERRCODE = 'insufficient_privilege';
    ELSIF to_jsonb(NEW) - '{shown_since,ended_at,ended_by,outcome,explanation}'::text[]
        <> to_jsonb(OLD) - '{shown_since,ended_at,ended_by,outcome,explanation}'::text[] THEN
        RAISE EXCEPTION 'experiment % is running, and users would move between its arms: end it and start '
            'another one with other shares', OLD.name USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER experiments_stay BEFORE UPDATE OR DELETE ON experiments
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_experiment();
CREATE TRIGGER experiments_are_kept BEFORE TRUNCATE ON experiments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_experiment();

CREATE TABLE experiment_readouts (
    readout_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id bigint NOT NULL REFERENCES experiments,
    run_key text NOT NULL UNIQUE,
    read_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    until timestamptz NOT NULL,
    share double precision NOT NULL,
    users jsonb NOT NULL,
    mismatch_p_value double precision NOT NULL,
    left_out jsonb NOT NULL,
    readings jsonb NOT NULL,
    outcome text NOT NULL
);
CREATE INDEX experiment_readouts_experiment ON experiment_readouts (experiment_id, readout_id);
COMMENT ON TABLE experiment_readouts IS 'what each look at an experiment found, one row a look';
COMMENT ON COLUMN experiment_readouts.run_key IS 'the run that looked; its retries find the row';
COMMENT ON COLUMN experiment_readouts.until IS 'slates and reactions before it were read';
COMMENT ON COLUMN experiment_readouts.share IS 'of the planned time that had passed';
COMMENT ON COLUMN experiment_readouts.users IS 'who saw a slate, by arm';
COMMENT ON COLUMN experiment_readouts.mismatch_p_value IS
    'always valid, for the hypothesis that users appear in the planned shares';
COMMENT ON COLUMN experiment_readouts.left_out IS 'slates that were not read, by reason';
COMMENT ON COLUMN experiment_readouts.readings IS 'figures, interval and verdict of each metric';
COMMENT ON COLUMN experiment_readouts.outcome IS 'what the look decided; running: nothing yet';

-- Looks are append-only, and experiments are kept.
DO $$
BEGIN
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        REVOKE DELETE ON experiments FROM recsys_pipeline;
        REVOKE UPDATE, DELETE ON experiment_readouts FROM recsys_pipeline;
    END IF;
END $$;

CREATE FUNCTION experiment_arm(
    user_key text, salt text, challenger_share double precision, hold_out_share double precision
) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (
    SELECT CASE
        WHEN number < hold_out_share THEN 'hold_out'
        WHEN number < hold_out_share + challenger_share THEN 'challenger'
        ELSE 'control'
    END
    FROM (
        SELECT ('x' || substr(encode(sha256(convert_to(salt || '/' || user_key, 'UTF8')), 'hex'), 1, 13))
            ::bit(52)::bigint / 4503599627370496.0::double precision AS number
    ) AS hashed
);
COMMENT ON FUNCTION experiment_arm IS
    'the arm of a user: hold_out, challenger or control; null for users without a key';

ALTER TABLE promotion_ledger DROP CONSTRAINT promotion_ledger_action_check;
ALTER TABLE promotion_ledger ADD CONSTRAINT promotion_ledger_action_check
    CHECK (action IN ('promote', 'hold', 'reject', 'roll_back', 'experiment'));

ALTER TABLE publications ADD COLUMN experiment_id bigint REFERENCES experiments;
COMMENT ON COLUMN publications.experiment_id IS
    'the experiment by whose arms users got their lists; null: all got the champion''s';
ALTER TABLE staging.plans ADD COLUMN experiment_id bigint;
ALTER TABLE staging.plans ADD COLUMN challenger text;
ALTER TABLE staging.plans ADD COLUMN challenger_first integer;
COMMENT ON COLUMN staging.plans.challenger_first IS
    'position of the first user who gets the challenger''s list; null: nobody does';
ALTER TABLE staging.staged_users ADD COLUMN model_version text;
COMMENT ON COLUMN staging.staged_users.model_version IS 'whose list the user gets; null: the champion''s';
COMMENT ON TABLE staging.staged_users IS
    'the users of a plan, numbered in the order of their ids, those of the challenger last';
"""


def upgrade() -> None:
    op.execute(TABLES)
