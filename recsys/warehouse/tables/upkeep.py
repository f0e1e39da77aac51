"""Erasure, and what monitoring keeps."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from recsys.warehouse.tables.base import NOW, TRANSACTION_ID, metadata, timestamp

erasure_requests = Table(
    "erasure_requests",
    metadata,
    Column("request_id", BigInteger, Identity(always=True), primary_key=True),
    Column("user_id", Text, comment="null once done: the receipt does not name the person"),
    Column("user_key", Text),
    Column("status", Text, nullable=False, server_default=text("'requested'")),
    timestamp("requested_at", nullable=False, server_default=NOW),
    timestamp("done_at"),
    Column("receipt", JSONB, comment="rows removed per table, files rewritten"),
    Column(
        "transaction_id",
        BigInteger,
        nullable=False,
        server_default=TRANSACTION_ID,
        comment="of the transaction that made the request; windows that end above it leave the user out",
    ),
    Column(
        "first_transaction_id", BigInteger, comment="of the first feedback that was erased; null: none was"
    ),
    Index(
        "erasure_requests_order",
        "transaction_id",
        "requested_at",
        postgresql_include=["first_transaction_id"],
    ),
    Index("erasure_requests_open", "user_id", postgresql_where=text("status = 'requested'")),
    CheckConstraint("status in ('requested', 'done')", name="erasure_requests_status_check"),
    comment="requests to forget a user and the receipts, which do not name the person",
)

erased_feedback = Table(
    "erased_feedback",
    metadata,
    Column("request_id", BigInteger, ForeignKey("erasure_requests.request_id"), nullable=False),
    Column("transaction_id", BigInteger, nullable=False),
    Column("rows", Integer, nullable=False),
    PrimaryKeyConstraint("request_id", "transaction_id"),
    comment="how many rows an erasure took from which transaction, so that windows reconcile",
)

erased_users = Table(
    "erased_users",
    metadata,
    Column(
        "tombstone",
        Text,
        primary_key=True,
        comment="keyed hash of the user id; the key is kept elsewhere",
    ),
    Column("key_id", Text, nullable=False, comment="which pseudonym key it was made with"),
    timestamp("erased_at", nullable=False, server_default=NOW),
    comment="who was erased, by a keyed hash that occurs nowhere else: their rows are not loaded again",
)

alerts = Table(
    "alerts",
    metadata,
    Column("cause", Text, primary_key=True, comment="what is watched, such as drift of one expectation"),
    Column("message", Text, nullable=False, comment="as last found"),
    timestamp("opened_at", nullable=False, comment="first found, since it was last closed"),
    timestamp("seen_at", nullable=False, comment="last found"),
    timestamp("sent_at", comment="since it was opened; null: still to be sent"),
    timestamp("closed_at", comment="no longer found; null: open"),
    comment="what monitoring has found, one row a cause",
)

dropped_impressions = Table(
    "dropped_impressions",
    metadata,
    Column("month", Date, primary_key=True, comment="its first day, UTC"),
    Column("rows", BigInteger, nullable=False),
    timestamp(
        "dropped_at", nullable=False, server_default=NOW, comment="when the latest of them were deleted"
    ),
    comment="how many impressions of each month retention has deleted",
)

_PEOPLE = "hashes of five of the people, or of all if they are fewer: enough to tell whether they are five"

slates_by_day = Table(
    "slates_by_day",
    metadata,
    Column("day", Date, nullable=False, comment="UTC"),
    Column("model_version", Text, comment="null: the row is about a rule"),
    Column("position", Integer, comment="null: all of them"),
    Column("rule", Text, comment="null: the row is about a version"),
    Column("slates", BigInteger, nullable=False),
    Column("shown", BigInteger, nullable=False, comment="items"),
    Column("reactions", BigInteger, nullable=False),
    Column("clicks", BigInteger, nullable=False),
    Column("conversions", BigInteger, nullable=False),
    Column("clicked_slates", BigInteger),
    Column("converted_slates", BigInteger),
    Column("propensities", BigInteger, comment="how many were logged at this position"),
    Column("sum_of_propensities", Double),
    Column("people", ARRAY(BigInteger), nullable=False, comment=_PEOPLE),
    Column("reacting_people", ARRAY(BigInteger), nullable=False),
    Column("clicking_people", ARRAY(BigInteger), nullable=False),
    Column("converting_people", ARRAY(BigInteger), nullable=False),
    Column("logged_people", ARRAY(BigInteger), comment="of people whose propensities were logged"),
    Index(
        "slates_by_day_key",
        "day",
        "model_version",
        "position",
        "rule",
        unique=True,
        postgresql_nulls_not_distinct=True,
    ),
    comment="slates and reactions to them by the day on which they were shown: what views of slates add up",
)

changed_slate_days = Table(
    "changed_slate_days",
    metadata,
    Column("day", Date, comment="UTC; null: any day"),
    comment="days of slates whose rows or reactions were changed or deleted since slates_by_day was computed",
)

slates_by_day_progress = Table(
    "slates_by_day_progress",
    metadata,
    Column("through_transaction_id", BigInteger, nullable=False, comment="exclusive"),
    timestamp("computed_at", nullable=False, server_default=NOW),
    Index("slates_by_day_progress_one_row", text("(true)"), unique=True),
    comment="which rows slates_by_day has read; no row: none",
)

feedback_by_user = Table(
    "feedback_by_user",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("events", BigInteger, nullable=False),
    Column("explicit_events", BigInteger, nullable=False),
    Column("items", BigInteger, nullable=False),
    Column("active_days", BigInteger, nullable=False, comment="UTC"),
    Column(
        "weeks",
        ARRAY(Date),
        nullable=False,
        comment="Mondays (UTC) of the weeks with feedback, in order",
    ),
    Column(
        "item_ids",
        ARRAY(Text),
        nullable=False,
        comment="an entry for each item and month; the arrays from here on have one element for each entry",
    ),
    Column(
        "months",
        ARRAY(Date),
        nullable=False,
        comment="first days of months (UTC); null: no month, as of an infinite time",
    ),
    Column("item_events", ARRAY(BigInteger), nullable=False),
    Column("ratings", ARRAY(BigInteger), nullable=False, comment="events of type rating with a finite value"),
    Column("sums_of_ratings", ARRAY(Numeric), nullable=False),
    Column("last_events_at", ARRAY(DateTime(timezone=True)), nullable=False),
    comment="feedback of each person: what views of people add up, and what feedback_by_item is kept from",
)

feedback_by_item = Table(
    "feedback_by_item",
    metadata,
    Column("item_id", Text, nullable=False),
    Column(
        "month",
        Date,
        comment="its first day (UTC); null: all times, which alone has the columns after events",
    ),
    Column("events", BigInteger, nullable=False),
    Column("people", BigInteger),
    Column("ratings", BigInteger),
    Column("sum_of_ratings", Numeric),
    Column("rating_people", BigInteger),
    timestamp("last_event_at", comment="null: the next refresh looks it up"),
    Index("feedback_by_item_key", "item_id", "month", unique=True, postgresql_nulls_not_distinct=True),
    Index(
        "feedback_by_item_unfinished",
        "item_id",
        postgresql_where=text("events = 0 OR (month IS NULL AND last_event_at IS NULL)"),
    ),
    comment="feedback on each item: what views of items add up",
)

feedback_lag_by_day = Table(
    "feedback_lag_by_day",
    metadata,
    Column("arrival_day", Date, primary_key=True, comment="UTC"),
    Column(
        "first_transaction_id",
        BigInteger,
        nullable=False,
        comment="of those that wrote the day's rows, or an earlier one",
    ),
    Column(
        "last_transaction_id",
        BigInteger,
        nullable=False,
        comment="of those that wrote the day's rows, or a later one",
    ),
    Column(
        "runs",
        BigInteger,
        nullable=False,
        comment="digest of the runs that read the day's feedback, with times: "
        "when it changes, the day is counted anew",
    ),
    Column("events", BigInteger, nullable=False),
    Column("late_events", BigInteger, nullable=False),
    Column("waiting_events", BigInteger, nullable=False),
    Column("event_to_arrival_median", Double),
    Column("event_to_arrival_p95", Double),
    Column("arrival_to_window_median", Double),
    Column("arrival_to_champion_median", Double),
    Column("arrival_to_champion_p95", Double),
    Column("arrival_to_published_median", Double),
    Column("people", BigInteger, nullable=False),
    Column("late_people", BigInteger, nullable=False),
    Column("waiting_people", BigInteger, nullable=False),
    Column("dated_people", BigInteger, nullable=False),
    Column("read_people", BigInteger, nullable=False),
    Column("served_people", BigInteger, nullable=False),
    comment="what analytics.feedback_lag shows, also of days with few people",
)

changed_feedback = Table(
    "changed_feedback",
    metadata,
    Column("user_id", Text),
    Column("arrival_day", Date),
    comment="whose feedback was changed or deleted since it was counted, or which days'; both null: any",
)

feedback_counts_progress = Table(
    "feedback_counts_progress",
    metadata,
    Column("through_transaction_id", BigInteger, nullable=False, comment="exclusive"),
    timestamp("computed_at", nullable=False, server_default=NOW),
    Index("feedback_counts_progress_one_row", text("(true)"), unique=True),
    comment="which rows the counts of feedback have read; no row: none",
)

monitored_figures = Table(
    "monitored_figures",
    metadata,
    Column("day", Date, primary_key=True, comment="UTC"),
    Column("figure", Text, primary_key=True),
    Column("label", Text, primary_key=True, comment="placement or event type; empty: none"),
    Column("value", Double, nullable=False),
    comment="what monitoring measures every day, see analytics.monitored_figures",
)
