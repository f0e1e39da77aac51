"""Catalogue, users, and what applications log about them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Identity,
    Index,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL

from recsys.warehouse.tables.base import EMPTY_JSON, NOW, TRANSACTION_ID, metadata, timestamp

event_types = Table(
    "event_types",
    metadata,
    Column("event_type", Text, primary_key=True),
    Column("explicit", Boolean, nullable=False, comment="given as an opinion, not observed"),
    Column("weight", Double, nullable=False, comment="weight as a next-item target; 0: never a target"),
    Column("polarity", SmallInteger, nullable=False, comment="1 or -1; 0: the value decides"),
    Column("min_value", Double, comment="null: the type carries no value"),
    Column("max_value", Double),
    Column("negative_to", Double, comment="values up to this are negative feedback"),
    Column("positive_from", Double, comment="values from this on are positive feedback"),
    Column(
        "role",
        Text,
        nullable=False,
        server_default=text("'outcome'"),
        comment="outcome: what one wants; "
        "step: on the way to an outcome, a target only the first time; dislike",
    ),
    Column(
        "hide_days",
        Double,
        comment="days for which an event keeps its item off its user's lists; 0: never; null: for ever",
    ),
    Column(
        "value_is_amount",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="the value is a price or a quantity; "
        "below 0 it is a return, which takes back an earlier event",
    ),
    Column(
        "typical_amount",
        Double,
        comment="amount at which an event has the weight of its type; null: amounts do not weigh targets",
    ),
    CheckConstraint("polarity in (-1, 0, 1)", name="event_types_polarity_check"),
    comment="kinds of feedback and what each means; data, not code",
)

items = Table(
    "items",
    metadata,
    Column("item_id", Text, primary_key=True),
    Column("title", Text, nullable=False, server_default=text("''")),
    Column("description", Text, nullable=False, server_default=text("''")),
    Column("attributes", JSONB, nullable=False, server_default=EMPTY_JSON),
    Column("available", Boolean, nullable=False, server_default=text("true"), comment="may be recommended"),
    Column(
        "rest_days",
        Double,
        comment="days after an outcome until the item may be recommended again; "
        "null: rest_periods or the type decides",
    ),
    timestamp("available_from", comment="time from which the item may be recommended; null: always"),
    timestamp(
        "available_until",
        comment="time until which the item may be recommended (exclusive); null: without end",
    ),
    Column(
        "variant_of",
        Text,
        comment="group of items that are one thing, of which a list shows one: "
        "an item's id or any other name",
    ),
    timestamp("created_at", nullable=False, server_default=NOW),
    timestamp("updated_at", nullable=False, server_default=NOW),
    Index(
        "items_attributes",
        "attributes",
        postgresql_using="gin",
        postgresql_ops={"attributes": "jsonb_path_ops"},
    ),
    Index("items_created_at", "created_at", "item_id"),
    Index("items_variants", "variant_of", postgresql_where=text("variant_of IS NOT NULL")),
    comment="what can be recommended; titles and descriptions are what the model reads",
)

rest_periods = Table(
    "rest_periods",
    metadata,
    Column("attribute", Text, primary_key=True),
    Column(
        "value",
        Text,
        primary_key=True,
        comment="equal to the attribute, or one of its values if it is a list",
    ),
    Column("rest_days", Double, nullable=False),
    comment="rest periods of items by the value of an attribute; "
    "items.rest_days has priority, then the shortest",
)

users = Table(
    "users",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("user_key", Text, unique=True, comment="keyed hash, filled by the pipeline; the name outside"),
    Column("consent", Boolean, nullable=False, server_default=text("true"), comment="false: no training"),
    Column("attributes", JSONB, nullable=False, server_default=EMPTY_JSON),
    timestamp("created_at", nullable=False, server_default=NOW),
    Column(
        "kind",
        Text,
        nullable=False,
        server_default=text("'user'"),
        comment="user; visitor: a session of somebody who is not registered",
    ),
    Column("joined_to", Text, comment="the user to whom the visitor's session belongs since a login"),
    Column("joined_transaction_id", BigInteger, comment="of the transaction that joined them"),
    CheckConstraint("kind in ('user', 'visitor')", name="users_kind_check"),
    CheckConstraint("joined_to is null or kind = 'visitor'", name="users_only_visitors_join"),
    Index("users_without_key", "user_id", postgresql_where=text("user_key IS NULL")),
    Index("users_joined", "joined_to", postgresql_where=text("joined_to IS NOT NULL")),
    Index("users_joined_since", "joined_transaction_id", postgresql_where=text("joined_to IS NOT NULL")),
    comment="people who give feedback; applications add them, with their consent",
)

# Partitioned by month of occurred_at; the default partition takes rows that fit no month.
feedback = Table(
    "feedback",
    metadata,
    Column("feedback_id", BigInteger, Identity(always=True), nullable=False, comment="log order"),
    Column(
        "event_id",
        Text,
        nullable=False,
        server_default=text("(gen_random_uuid())::text"),
        comment="idempotency key of the application",
    ),
    Column("user_id", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("value", Double, comment="rating, seconds, ...; null where the type carries none"),
    Column("comment", Text),
    Column("impression_id", Text, comment="the slate that the event answers, if known"),
    timestamp("occurred_at", server_default=NOW, comment="clock of the application; null is quarantined"),
    timestamp("received_at", nullable=False, server_default=NOW, comment="clock of the warehouse"),
    Column(
        "transaction_id", BigInteger, nullable=False, server_default=TRANSACTION_ID, comment="of the writer"
    ),
    Column("released_from", BigInteger, comment="quarantine_id: row rules do not apply again"),
    Column("session_id", Text, comment="of somebody who is not registered; instead of user_id"),
    Index("feedback_event_key", "event_id", "occurred_at", unique=True, postgresql_nulls_not_distinct=True),
    Index("feedback_transaction_id", "transaction_id"),
    Index(
        "feedback_history",
        "user_id",
        "occurred_at",
        "feedback_id",
        postgresql_include=["transaction_id", "item_id", "event_type", "value"],
    ),
    Index(
        "feedback_comments",
        "user_id",
        "occurred_at",
        "feedback_id",
        postgresql_where=text("comment IS NOT NULL"),
    ),
    Index("feedback_occurred_at", "occurred_at"),
    Index("feedback_item", "item_id", "occurred_at"),
    Index(
        "feedback_impression",
        "impression_id",
        postgresql_using="hash",
        postgresql_where=text("impression_id IS NOT NULL"),
    ),
    postgresql_partition_by="RANGE (occurred_at)",
    comment="one reaction of a user to an item; applications INSERT here and never update",
)

# Partitioned by month of shown_at. An id is unique within a partition; a trigger skips one of another month.
impressions = Table(
    "impressions",
    metadata,
    Column("impression_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("query", Text, comment="request in natural language, if there was one"),
    Column("item_ids", ARRAY(Text), nullable=False, comment="the slate, first position first"),
    Column("propensities", ARRAY(REAL), comment="probability of each item at its position"),
    Column("model_version", Text),
    timestamp("shown_at", nullable=False),
    timestamp("received_at", nullable=False, server_default=NOW),
    Column("session_id", Text, comment="of somebody who is not registered; instead of user_id"),
    Column("placement", Text, comment="where it was shown, such as home; null: not stated"),
    Column(
        "rules",
        ARRAY(Text),
        comment="the rule that placed each item, as serving.recommend names it; null: no rule did",
    ),
    Column(
        "transaction_id",
        BigInteger,
        nullable=False,
        server_default=TRANSACTION_ID,
        comment="of the writer; 0: written before impressions had it",
    ),
    CheckConstraint("cardinality(rules) = cardinality(item_ids)", name="impressions_rules_check"),
    CheckConstraint(
        "cardinality(propensities) = cardinality(item_ids)"
        " AND 0 <= ALL (propensities) AND 1 >= ALL (propensities)",
        name="impressions_propensities_check",
    ),
    Index("impressions_user", "user_id", "shown_at"),
    Index("impressions_shown_at", "shown_at"),
    Index("impressions_transaction_id", "transaction_id"),
    postgresql_partition_by="RANGE (shown_at)",
    comment="one slate shown to a user, with the propensities of the policy that chose it",
)
