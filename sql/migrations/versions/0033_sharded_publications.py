"""Keep what the shards of a publication stage, until all of it is swapped in one transaction."""

from alembic import op

revision = "0033"
down_revision = "0032"

SCHEMA = """
CREATE SCHEMA staging;
COMMENT ON SCHEMA staging IS
    'publications that are computed in shards, until their swap; empty when no publication is running';

CREATE TABLE staging.plans (
    plan_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_key text NOT NULL,
    model_version text NOT NULL,
    champion_sequence integer NOT NULL,
    everyone boolean NOT NULL,
    through_transaction_id bigint NOT NULL,
    moment timestamptz NOT NULL,
    settings jsonb NOT NULL,
    users integer NOT NULL,
    items integer NOT NULL,
    users_per_shard integer NOT NULL,
    serving_bytes bigint NOT NULL,
    state text NOT NULL DEFAULT 'planning' CHECK (state IN ('planning', 'staging', 'published', 'closed')),
    planned_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX plans_one_at_a_time ON staging.plans ((true)) WHERE state = 'staging';
COMMENT ON TABLE staging.plans IS
    'what all shards of a publication go by, as it was when it was planned';
COMMENT ON COLUMN staging.plans.serving_bytes IS 'memory of a process that scores, for model and catalogue';
COMMENT ON COLUMN staging.plans.state IS
    'planning: not complete yet; staging: shards are being computed; published: swapped; closed: given up';

CREATE TABLE staging.shards (
    plan_id bigint NOT NULL REFERENCES staging.plans,
    shard integer NOT NULL,
    first_position integer NOT NULL,
    last_position integer NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'staging', 'staged', 'closed')),
    attempt integer NOT NULL DEFAULT 0,
    device text,
    touched_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (plan_id, shard)
);
COMMENT ON TABLE staging.shards IS 'consecutive users of a plan that are scored together';
COMMENT ON COLUMN staging.shards.first_position IS 'of its users in the plan';
COMMENT ON COLUMN staging.shards.last_position IS 'exclusive';
COMMENT ON COLUMN staging.shards.attempt IS
    'of the attempt that may write; an earlier one finds another number and stops';

CREATE FUNCTION staging.current_plan() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE RETURN current_setting('staging.plan_id')::bigint;
COMMENT ON FUNCTION staging.current_plan() IS 'the plan whose rows this session writes and reads';

-- What can be computed again is not worth a log. After a crash of the server these tables are empty, and the
-- swap finds that the plan's users are missing.
CREATE UNLOGGED TABLE staging.staged_catalogue (
    plan_id bigint NOT NULL DEFAULT staging.current_plan(),
    item_id text NOT NULL,
    title text NOT NULL,
    text_digest text NOT NULL,
    available boolean NOT NULL
);
COMMENT ON TABLE staging.staged_catalogue IS 'items as published_items notes them';
CREATE UNLOGGED TABLE staging.catalogue (
    plan_id bigint NOT NULL DEFAULT staging.current_plan(),
    item_id text NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    attributes text NOT NULL,
    available boolean NOT NULL,
    rest_days double precision,
    available_from timestamptz,
    available_until timestamptz,
    variant_of text
);
COMMENT ON TABLE staging.catalogue IS 'items as every shard reads them, however the catalogue changes';
CREATE UNLOGGED TABLE staging.staged_items (
    plan_id bigint NOT NULL DEFAULT staging.current_plan(),
    position integer NOT NULL,
    item_id text NOT NULL
);
COMMENT ON TABLE staging.staged_items IS 'items that are available, in the order of their vectors';
CREATE UNLOGGED TABLE staging.staged_item_vectors (
    plan_id bigint NOT NULL DEFAULT staging.current_plan(),
    position integer NOT NULL,
    vector vector NOT NULL
);
COMMENT ON TABLE staging.staged_item_vectors IS 'their vectors';
CREATE UNLOGGED TABLE staging.staged_comment_sentiment (
    plan_id bigint NOT NULL DEFAULT staging.current_plan(),
    item_id text NOT NULL,
    comments integer NOT NULL,
    average_value real NOT NULL,
    average_sentiment real NOT NULL
);
COMMENT ON TABLE staging.staged_comment_sentiment IS 'what comment_sentiment will hold';
CREATE UNLOGGED TABLE staging.staged_users (
    plan_id bigint NOT NULL DEFAULT staging.current_plan(),
    position integer NOT NULL,
    user_id text,
    PRIMARY KEY (plan_id, position)
);
CREATE INDEX staged_users_user ON staging.staged_users (user_id);
COMMENT ON TABLE staging.staged_users IS 'the users of a plan, numbered in the order of their ids';
COMMENT ON COLUMN staging.staged_users.user_id IS 'null: erased since the plan; nobody takes the place';
CREATE UNLOGGED TABLE staging.staged_lists (
    plan_id bigint NOT NULL DEFAULT staging.current_plan(),
    position integer NOT NULL,
    item_ids text[] NOT NULL,
    scores real[] NOT NULL,
    propensities real[] NOT NULL,
    reasons jsonb NOT NULL,
    titles text[] NOT NULL,
    available_until timestamptz
);
COMMENT ON TABLE staging.staged_lists IS 'lists of the shards that have been staged so far';
CREATE UNLOGGED TABLE staging.staged_pools (
    plan_id bigint NOT NULL DEFAULT staging.current_plan(),
    position integer NOT NULL,
    item_ids text[] NOT NULL,
    scores real[] NOT NULL
);
COMMENT ON TABLE staging.staged_pools IS 'their pools';
CREATE UNLOGGED TABLE staging.staged_user_vectors (
    plan_id bigint NOT NULL DEFAULT staging.current_plan(),
    position integer NOT NULL,
    vector vector NOT NULL
);
COMMENT ON TABLE staging.staged_user_vectors IS 'vectors of their users';
"""


def upgrade() -> None:
    op.execute(SCHEMA)
