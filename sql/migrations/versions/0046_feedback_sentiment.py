"""Say in one place which feedback is negative."""

from alembic import op

revision = "0046"
down_revision = "0045"

# The rule of EventTypes.sentiment in recsys.snapshot.event_types. In Postgres NaN is greater than any number.
SENTIMENT = """
CREATE FUNCTION feedback_sentiment(kind event_types, value double precision)
RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN kind.polarity = -1 OR value <= kind.negative_to OR (kind.value_is_amount AND value < 0) THEN -1
        WHEN kind.polarity = 1 OR (value >= kind.positive_from AND value <> 'NaN') THEN 1
        ELSE 0
    END
$$;
COMMENT ON FUNCTION feedback_sentiment IS
    'what an event with this value says: -1 negative (a dislike, a low value, a returned purchase), '
    '1 positive, 0 neither';
"""


def upgrade() -> None:
    op.execute(SENTIMENT)
