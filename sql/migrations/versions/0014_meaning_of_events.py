"""Say what an event type is for, whether it takes its item off lists, and when an item may be had again."""

from alembic import op

revision = "0014"
down_revision = "0013"

# Until now every event took its item off the user's lists for ever, so null means that.
EVENT_TYPES = """
ALTER TABLE event_types
    ADD COLUMN role text NOT NULL DEFAULT 'outcome',
    ADD COLUMN hide_days double precision,
    ADD COLUMN value_is_amount boolean NOT NULL DEFAULT false,
    ADD COLUMN typical_amount double precision,
    ADD CONSTRAINT event_types_role_check CHECK (role IN ('outcome', 'step', 'dislike')),
    ADD CONSTRAINT event_types_hide_days_check CHECK (hide_days >= 0 AND hide_days < 'Infinity'),
    ADD CONSTRAINT event_types_typical_amount_check CHECK (
        typical_amount IS NULL
        OR (value_is_amount AND typical_amount > 0 AND typical_amount < 'Infinity')
    ),
    ADD CONSTRAINT event_types_amount_check CHECK (
        NOT value_is_amount OR (min_value IS NULL AND max_value IS NULL AND polarity = 1)
    );
UPDATE event_types SET role = CASE
    WHEN polarity = -1 THEN 'dislike'
    WHEN event_type IN ('view', 'click', 'dwell') THEN 'step'
    ELSE 'outcome'
END;
COMMENT ON COLUMN event_types.role IS
    'outcome: what one wants; step: on the way to an outcome, a target only the first time; dislike';
COMMENT ON COLUMN event_types.hide_days IS
    'days for which an event keeps its item off its user''s lists; 0: never; null: for ever';
COMMENT ON COLUMN event_types.value_is_amount IS
    'the value is a price or a quantity; below 0 it is a return, which takes back an earlier event';
COMMENT ON COLUMN event_types.typical_amount IS
    'amount at which an event has the weight of its type; null: amounts do not weigh targets';
"""

ITEMS = """
ALTER TABLE items
    ADD COLUMN rest_days double precision,
    ADD CONSTRAINT items_rest_days_check CHECK (rest_days >= 0 AND rest_days < 'Infinity');
COMMENT ON COLUMN items.rest_days IS
    'days after an outcome until the item may be recommended again; null: rest_periods or the type decides';

CREATE TABLE rest_periods (
    attribute text NOT NULL,
    value text NOT NULL,
    rest_days double precision NOT NULL,
    CONSTRAINT rest_periods_pkey PRIMARY KEY (attribute, value),
    CONSTRAINT rest_periods_rest_days_check CHECK (rest_days >= 0 AND rest_days < 'Infinity')
);
COMMENT ON TABLE rest_periods IS
    'rest periods of items by the value of an attribute; items.rest_days has priority, then the shortest';
COMMENT ON COLUMN rest_periods.value IS 'equal to the attribute, or one of its values if it is a list';
"""


def upgrade() -> None:
    op.execute(EVENT_TYPES)
    op.execute(ITEMS)
