"""Store rules of placements, how varied each list is, and which rule placed an item that was shown."""

from alembic import op

revision = "0027"
down_revision = "0026"

RULES = """
CREATE TABLE placement_rules (
    rule text PRIMARY KEY,
    kind text NOT NULL,
    placements text[],
    filter jsonb,
    item_ids text[],
    audience jsonb NOT NULL DEFAULT '{}'::jsonb,
    position integer,
    factor real,
    number integer,
    attribute text,
    reason text,
    priority integer NOT NULL DEFAULT 0,
    valid_from timestamptz,
    valid_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    item_path jsonpath,
    audience_path jsonpath
);
CREATE INDEX placement_rules_valid_until ON placement_rules (coalesce(valid_until, 'infinity'::timestamptz));
COMMENT ON TABLE placement_rules IS
    'what the business wants of lists: serving.check_rule says what is wrong with a row';
COMMENT ON COLUMN placement_rules.kind IS
    'exclude, only, pin, at_most, at_least, boost or bury: see docs/serving.md';
COMMENT ON COLUMN placement_rules.placements IS 'where it holds; null: everywhere';
COMMENT ON COLUMN placement_rules.filter IS
    'attributes of the items that it is about, as in serving.recommend; null: item_ids names them';
COMMENT ON COLUMN placement_rules.item_ids IS
    'the items that it is about; a pin shows them in this order; null: filter says which';
COMMENT ON COLUMN placement_rules.audience IS
    'attributes of users, or of the context, for whom it holds; empty: for all';
COMMENT ON COLUMN placement_rules.position IS 'pin: rank of its first item';
COMMENT ON COLUMN placement_rules.factor IS
    'boost, bury: a place in the list is divided, or multiplied, by it';
COMMENT ON COLUMN placement_rules.number IS 'at_most, at_least: items of a list';
COMMENT ON COLUMN placement_rules.attribute IS
    'at_most: of each of its values so many; null: of all the items';
COMMENT ON COLUMN placement_rules.reason IS
    'what users read beside an item that the rule placed; null: the reason that it has anyway';
COMMENT ON COLUMN placement_rules.priority IS
    'of rules that contradict, that of the highest priority holds; then the oldest';
COMMENT ON COLUMN placement_rules.valid_from IS 'null: a draft';
COMMENT ON COLUMN placement_rules.valid_until IS 'exclusive; null: for ever';
COMMENT ON COLUMN placement_rules.item_path IS 'filter as a predicate; a trigger sets it';
COMMENT ON COLUMN placement_rules.audience_path IS 'audience as a predicate; a trigger sets it';
"""

# New tables are the pipeline's by default. It neither reads nor writes rules: only their owner does.
OWNER = """
DO $$
BEGIN
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        REVOKE ALL ON placement_rules FROM recsys_pipeline;
    END IF;
END $$
"""

DIVERSITY = """
ALTER TABLE placements
    ADD COLUMN diversity jsonb NOT NULL DEFAULT '{}'::jsonb,
    ADD CONSTRAINT placements_diversity_check CHECK (
        jsonb_typeof(diversity) = 'object'
        AND NOT jsonb_path_exists(
            diversity, '$.* ? (@.type() != "number" || @ < 1 || @ > 1000 || @ != @.floor())'
        )
    );
COMMENT ON COLUMN placements.diversity IS
    'at most so many items of each value of an attribute: {"artist": 1}; empty: as published';
"""

IMPRESSIONS = """
ALTER TABLE impressions
    ADD COLUMN rules text[],
    ADD CONSTRAINT impressions_rules_check CHECK (cardinality(rules) = cardinality(item_ids));
COMMENT ON COLUMN impressions.rules IS
    'the rule that placed each item, as serving.recommend names it; null: no rule did';
"""


def upgrade() -> None:
    for script in (RULES, OWNER, DIVERSITY, IMPRESSIONS):
        op.execute(script)
