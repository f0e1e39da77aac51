"""Store a pool a user, what placements show, and lists for everybody else."""

from alembic import op

revision = "0023"
down_revision = "0022"

# A reader fetches one row. It stays in its page and uncompressed: to unpack it would cost more than the rest.
POOLS = """
ALTER TABLE recommendation_lists
    ADD COLUMN pool_item_ids text[] NOT NULL DEFAULT '{}',
    ADD COLUMN pool_scores real[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT recommendation_lists_pool_check
        CHECK (cardinality(pool_item_ids) = cardinality(pool_scores)),
    SET (toast_tuple_target = 8160);
COMMENT ON COLUMN recommendation_lists.pool_item_ids IS
    'what serving.recommend chooses from, in ranked order; the list is drawn from its first items';
"""

PLACEMENTS = """
CREATE TABLE placements (
    placement text PRIMARY KEY,
    length integer NOT NULL DEFAULT 10,
    logic text NOT NULL DEFAULT 'personal',
    pool integer NOT NULL DEFAULT 200,
    filter jsonb NOT NULL DEFAULT '{}'::jsonb,
    explores boolean NOT NULL DEFAULT true,
    live boolean NOT NULL DEFAULT true,
    fallback text[] NOT NULL DEFAULT '{segment,trending,popular}',
    CONSTRAINT placements_length_check CHECK (length BETWEEN 1 AND 1000),
    CONSTRAINT placements_logic_check CHECK (logic IN ('personal', 'trending', 'popular', 'new')),
    CONSTRAINT placements_pool_check CHECK (pool >= 1),
    CONSTRAINT placements_filter_check CHECK (jsonb_typeof(filter) = 'object'),
    CONSTRAINT placements_fallback_check CHECK (
        fallback <@ '{personal,segment,trending,popular}'::text[] AND array_position(fallback, NULL) IS NULL
    )
);
COMMENT ON TABLE placements IS 'places where an application shows a list, and what each list is made of';
COMMENT ON COLUMN placements.length IS 'items of a list, unless the application asks for another number';
COMMENT ON COLUMN placements.logic IS
    'personal, trending, popular or new: what the list is made of before the fallback';
COMMENT ON COLUMN placements.pool IS 'first items of a user''s pool that the list is chosen from';
COMMENT ON COLUMN placements.filter IS 'attributes that an item needs, as in serving.recommend';
COMMENT ON COLUMN placements.explores IS 'shows lists as publishing drew them; false: in ranked order';
COMMENT ON COLUMN placements.live IS 'what the user did since the publication changes the order';
COMMENT ON COLUMN placements.fallback IS 'what fills a list that the logic leaves short, in this order';

INSERT INTO placements (placement, length, logic, explores) VALUES
    ('home', 10, 'personal', true),
    ('email', 5, 'personal', false);
"""

LISTS = """
CREATE TABLE shared_lists (
    kind text NOT NULL,
    attribute text NOT NULL DEFAULT '',
    segment text NOT NULL DEFAULT '',
    item_ids text[] NOT NULL,
    scores real[] NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT shared_lists_pkey PRIMARY KEY (kind, attribute, segment),
    CONSTRAINT shared_lists_kind_check CHECK (kind IN ('trending', 'popular')),
    CONSTRAINT shared_lists_scores_check CHECK (cardinality(item_ids) = cardinality(scores))
);
COMMENT ON TABLE shared_lists IS
    'what is popular and what is trending, for all users and by segment: '
    'for users without a list of their own';
COMMENT ON COLUMN shared_lists.kind IS 'trending: lately; popular: of all time';
COMMENT ON COLUMN shared_lists.attribute IS 'attribute of users that makes the segments; empty: all users';
COMMENT ON COLUMN shared_lists.segment IS 'its value';
COMMENT ON COLUMN shared_lists.item_ids IS 'best first';
COMMENT ON COLUMN shared_lists.scores IS 'users who wanted the item; for trending, recent ones count more';
"""

# The last resort of a filter that neither pools nor shared lists can fill.
INDEXES = """
CREATE INDEX items_attributes ON items USING gin (attributes jsonb_path_ops);
CREATE INDEX items_created_at ON items (created_at, item_id);
"""


def upgrade() -> None:
    for script in (POOLS, PLACEMENTS, LISTS, INDEXES):
        op.execute(script)
