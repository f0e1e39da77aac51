"""Windows of feedback, what validation found in them, and the snapshots made from them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from recsys.warehouse.tables.base import NOW, metadata, timestamp

windows = Table(
    "windows",
    metadata,
    Column("window_id", BigInteger, Identity(always=True), primary_key=True),
    Column("consumer", Text, nullable=False, comment="the DAG that handles the window"),
    Column("run_key", Text, nullable=False, comment="the run that opened it; its retries reuse it"),
    Column("lower_transaction_id", BigInteger, nullable=False, comment="inclusive"),
    Column("upper_transaction_id", BigInteger, nullable=False, comment="exclusive"),
    timestamp("interval_start"),
    timestamp("interval_end"),
    timestamp("opened_at", nullable=False, server_default=NOW),
    Column("arrived", BigInteger, nullable=False, comment="rows in the window when it was opened"),
    Column("valid", BigInteger),
    Column("quarantined", BigInteger),
    Column("duplicates", BigInteger),
    Column("erased", BigInteger),
    timestamp("reconciled_at"),
    Column(
        "late", BigInteger, comment="rows that happened before an earlier window of the consumer was closed"
    ),
    Column(
        "out_of_order",
        BigInteger,
        comment="rows that happened before another one that had arrived earlier in the window",
    ),
    UniqueConstraint("consumer", "run_key", name="windows_run_key"),
    UniqueConstraint(
        "consumer", "lower_transaction_id", "upper_transaction_id", "run_key", name="windows_bounds_key"
    ),
    CheckConstraint("lower_transaction_id <= upper_transaction_id", name="windows_bounds_check"),
    comment="half-open sets of feedback, by order of commit, that one run of a consumer handles",
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("quarantine_id", BigInteger, Identity(always=True), primary_key=True),
    Column("feedback_id", BigInteger, nullable=False, unique=True),
    Column("window_id", BigInteger, ForeignKey("windows.window_id"), nullable=False),
    Column("reasons", ARRAY(Text), nullable=False, comment="names of the rules broken"),
    Column("user_id", Text, nullable=False),
    Column("transaction_id", BigInteger, nullable=False),
    Column("feedback", JSONB, nullable=False, comment="the whole row as it arrived"),
    Column("status", Text, nullable=False, server_default=text("'held'")),
    timestamp("quarantined_at", nullable=False, server_default=NOW),
    timestamp("settled_at"),
    Column("settled_by", Text),
    CheckConstraint("status in ('held', 'released', 'discarded')", name="quarantine_status_check"),
    Index("quarantine_transaction_id", "transaction_id"),
    Index("quarantine_user", "user_id"),
    Index("quarantine_event_id", text("(feedback ->> 'event_id')")),
    Index(
        "quarantine_pushed",
        "transaction_id",
        postgresql_where=text("'pushed_by_newcomers' = ANY (reasons)"),
    ),
    comment="feedback that broke a row rule, moved here whole, with the reasons",
)

quarantined_impressions = Table(
    "quarantined_impressions",
    metadata,
    Column("impression_id", Text, primary_key=True),
    timestamp("shown_at", primary_key=True, comment="with the id the key of impressions"),
    Column("transaction_id", BigInteger, nullable=False, comment="of the writer of the slate"),
    Column("reasons", ARRAY(Text), nullable=False, comment="names of the rules broken"),
    Column("status", Text, nullable=False, server_default=text("'held'")),
    timestamp("quarantined_at", nullable=False, server_default=NOW),
    timestamp("settled_at"),
    Column("settled_by", Text),
    CheckConstraint("status in ('held', 'released')", name="quarantined_impressions_status_check"),
    Index("quarantined_impressions_transaction_id", "transaction_id"),
    comment="slates that broke a rule, with the reasons: nothing learns from them until they are released",
)

judged_impressions = Table(
    "judged_impressions",
    metadata,
    Column(
        "upper_transaction_id",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="exclusive; the next ones begin here",
    ),
    Column("lower_transaction_id", BigInteger, nullable=False),
    Column("arrived", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False, comment="of those that arrived; the others are valid"),
    timestamp("judged_at", nullable=False, server_default=NOW),
    comment="which slates the rules have judged: from bound to bound, each once, and how many there were",
)

validation_results = Table(
    "validation_results",
    metadata,
    Column("window_id", BigInteger, ForeignKey("windows.window_id"), nullable=False),
    Column("expectation", Text, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("severity", Text, nullable=False),
    Column("observed", JSONB, nullable=False),
    Column("expected", JSONB, nullable=False),
    timestamp("validated_at", nullable=False, server_default=NOW),
    PrimaryKeyConstraint("window_id", "expectation"),
    comment="outcome of every table expectation of every window",
)

# Working data of one validation: unlogged, because the next attempt fills it again.
row_violations = Table(
    "row_violations",
    metadata,
    Column("window_id", BigInteger, ForeignKey("windows.window_id"), nullable=False),
    Column("feedback_id", BigInteger, nullable=False),
    Column("reasons", ARRAY(Text), nullable=False, comment="names of the rules broken"),
    Column("quarantined", Boolean, nullable=False, comment="moves to quarantine; false: only weighted down"),
    Column(
        "earlier_transaction_id", BigInteger, comment="of a row of an earlier window; null: of this window"
    ),
    PrimaryKeyConstraint("window_id", "feedback_id"),
    prefixes=["UNLOGGED"],
    comment="rows that break row rules, of windows in validation or whose validation failed",
)

noisy_feedback = Table(
    "noisy_feedback",
    metadata,
    Column("feedback_id", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", Text, ForeignKey("users.user_id", ondelete="CASCADE"), nullable=False),
    Column("transaction_id", BigInteger, nullable=False),
    Column("reasons", ARRAY(Text), nullable=False, comment="names of the rules broken"),
    Index("noisy_feedback_user", "user_id"),
    comment="feedback that is noise but stays: all feedback of its user weighs less in snapshots",
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("snapshot_id", BigInteger, Identity(always=True), primary_key=True),
    Column("window_id", BigInteger, ForeignKey("windows.window_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("uri", Text, nullable=False, unique=True),
    Column("digest", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    timestamp("created_at", nullable=False, server_default=NOW),
    Column(
        "trained_transaction_id",
        BigInteger,
        comment="what a model knows after training on it: rows of smaller ids; "
        "null: recorded by an older release",
    ),
    timestamp("trained_occurred_before", comment="the same by time: earlier events"),
    CheckConstraint("kind in ('full', 'micro', 'reservoir', 'learned')", name="snapshots_kind_check"),
    comment="immutable, pseudonymised Parquet files that models were trained on",
)

# Written only by drop_feedback_month.
dropped_feedback = Table(
    "dropped_feedback",
    metadata,
    Column("window_id", BigInteger, ForeignKey("windows.window_id"), nullable=False),
    Column("month", Date, nullable=False),
    Column("rows", BigInteger, nullable=False),
    PrimaryKeyConstraint("window_id", "month"),
    comment="how many rows of a window were in a retired month that was dropped, so that windows reconcile",
)
