"""Model versions, how they compare, and who decided what about them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Double,
    Identity,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from recsys.warehouse.tables.base import NOW, metadata, timestamp

# Append-only: a trigger rejects UPDATE, DELETE and TRUNCATE.
model_versions = Table(
    "model_versions",
    metadata,
    Column("model_version", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("parent", Text, comment="the version that it updates; null: a full fine-tune"),
    Column("run_key", Text, comment="the run that trained it; null: unknown"),
    Column(
        "base_transaction_id",
        BigInteger,
        nullable=False,
        comment="upper bound, exclusive, of what the full fine-tune that it descends from was trained on",
    ),
    Column(
        "trained_transaction_id",
        BigInteger,
        nullable=False,
        comment="upper bound, exclusive, of what it was trained on itself",
    ),
    timestamp("recorded_at", nullable=False, server_default=NOW),
    timestamp("files_removed_at", comment="when its files were removed because it knew erased users"),
    Column(
        "live_strength",
        Double,
        comment="by how much a standard deviation of what goes with a user's latest reactions outweighs the "
        "published place; null: the model has none, see serving.fitted_weights",
    ),
    Column("live_decay", Double, comment="weight of a reaction as a share of that of the next newer one"),
    Column(
        "live_trending",
        Double,
        comment="odds of the first trending item when a user reacts, as a share of those of the first "
        "published one",
    ),
    Column(
        "live_trending_half_life_days",
        Double,
        comment="days after which an event counts half for what is trending; null: a quarter of "
        "RECSYS_SERVING__TRENDING_DAYS",
    ),
    Column(
        "live_trending_before_reaction",
        Double,
        comment="the same as live_trending for a user who has not reacted since the publication",
    ),
    Column(
        "tuned_settings",
        JSONB(none_as_null=True),
        comment="settings of its full fine-tune that a search found; null: none",
    ),
    CheckConstraint("kind in ('full', 'micro')", name="model_versions_kind_check"),
    CheckConstraint(
        "live_strength between 0 and 100 and live_decay between 0 and 1 and live_trending between 0 and 1000"
        " and live_trending_half_life_days > 0 and live_trending_before_reaction between 0 and 1000",
        name="model_versions_live_check",
    ),
    comment="registered model versions and what each was trained on",
)

model_files = Table(
    "model_files",
    metadata,
    Column("model_files_id", BigInteger, Identity(always=True), primary_key=True),
    Column(
        "model_id",
        Text,
        unique=True,
        comment="MLflow's id of the model; null: not looked at since the upgrade",
    ),
    Column("model_version", Text, unique=True, comment="null until the registration is complete"),
    Column("run_key", Text, comment="training run that made it; null: registered by an earlier release"),
    Column(
        "files",
        JSONB(none_as_null=True),
        comment='{"path": "sha256"}; null: registered by an earlier release, the first use records them',
    ),
    timestamp("recorded_at", nullable=False, server_default=NOW),
    CheckConstraint("model_id is not null or model_version is not null", name="model_files_name_check"),
    comment="sha256 of every file of every model version as registered; a version is loaded only if "
    "they match",
)

model_evaluations = Table(
    "model_evaluations",
    metadata,
    Column("evaluation_id", BigInteger, Identity(always=True), primary_key=True),
    Column("run_key", Text, nullable=False),
    Column("model_version", Text, comment="null for baselines"),
    Column("scorer", Text, nullable=False, comment="candidate, champion, popularity, ..."),
    Column("slice", Text, nullable=False, comment="all, cold_users, guard, ..."),
    Column("metric", Text, nullable=False),
    Column("value", Double),
    Column("low", Double),
    Column("high", Double),
    Column("users", BigInteger, nullable=False),
    timestamp("evaluated_at", nullable=False, server_default=NOW),
    UniqueConstraint("run_key", "scorer", "slice", "metric", name="model_evaluations_key"),
    comment="offline metrics of every scorer of every run, with confidence intervals",
)

promotion_ledger = Table(
    "promotion_ledger",
    metadata,
    Column("ledger_id", BigInteger, Identity(always=True), primary_key=True),
    timestamp("decided_at", nullable=False, server_default=NOW),
    Column("action", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("previous_champion", Text, comment="champion when the decision was taken"),
    Column("champion_sequence", BigInteger, unique=True, comment="1, 2, ... for changes of champion"),
    Column("reason", Text, nullable=False, comment="machine-readable name"),
    Column("explanation", Text, nullable=False, comment="one sentence for people"),
    Column("checks", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("actor", Text, nullable=False, comment="DAG and run, or the person"),
    Column("run_key", Text, unique=True, comment="its retries find the row; null: a person"),
    CheckConstraint(
        "action in ('promote', 'hold', 'reject', 'roll_back', 'experiment')",
        name="promotion_ledger_action_check",
    ),
    CheckConstraint(
        "(champion_sequence is not null) = (action in ('promote', 'roll_back'))",
        name="promotion_ledger_sequence_check",
    ),
    comment="every decision about the champion, append-only: who, when, on which evidence",
)

champion_comparisons = Table(
    "champion_comparisons",
    metadata,
    Column("run_key", Text, primary_key=True),
    Column("days", Integer, primary_key=True, comment="age of the earlier champion's reign in days"),
    Column("champion_version", Text, nullable=False),
    Column("earlier_version", Text, nullable=False),
    Column("ndcg", Double, nullable=False, comment="of the champion"),
    Column("earlier_ndcg", Double, nullable=False),
    Column("difference", Double, nullable=False, comment="champion - earlier champion, with its interval"),
    Column("low", Double, nullable=False),
    Column("high", Double, nullable=False),
    Column("users", BigInteger, nullable=False),
    timestamp("compared_at", nullable=False),
    comment="the champion of each night against earlier champions on the newest feedback, to see a slow "
    "decline",
)

superiority_tests = Table(
    "superiority_tests",
    metadata,
    Column("run_key", Text, primary_key=True),
    Column("champion_version", Text, primary_key=True),
    Column("model_version", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("month", Date, nullable=False, comment="first day, UTC"),
    timestamp("tested_at", nullable=False),
    Column("p_value", Double, nullable=False, comment="one-sided"),
    Column(
        "level",
        Double,
        nullable=False,
        comment="largest p-value that shows a gain; it is spent unless the gain is shown",
    ),
    Column("shown", Boolean, nullable=False, comment="whether the candidate is shown to be better"),
    CheckConstraint("kind in ('full', 'micro')", name="superiority_tests_kind_check"),
    CheckConstraint("shown = (level > 0 and p_value <= level)", name="superiority_tests_shown_check"),
    comment="every test whether a candidate is better than the champion, append-only; the tests of a month "
    "share one probability of error",
)
