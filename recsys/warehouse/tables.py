"""SQLAlchemy Core definitions of the warehouse's tables. A test compares them with the migrations.

The order of arrival, not the clock, decides which window a row belongs to. Every feedback row carries the id
of the transaction that wrote it (`transaction_id`), and a window takes the ids below the oldest open
transaction. `feedback_id` keeps the log order within a transaction.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, JSONPATH, REAL

from pgvector.sqlalchemy import VECTOR  # isort: skip

metadata = MetaData()

NOW = text("clock_timestamp()")
EMPTY_JSON = text("'{}'::jsonb")
# The function adds an offset: ids keep increasing after a dump is restored into a cluster that counts from 1.
TRANSACTION_ID = text("warehouse_transaction_id()")


def _timestamp(name: str, **options: object) -> Column[object]:
    return Column(name, DateTime(timezone=True), **options)  # type: ignore[arg-type]


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
    _timestamp("available_from", comment="time from which the item may be recommended; null: always"),
    _timestamp(
        "available_until",
        comment="time until which the item may be recommended (exclusive); null: without end",
    ),
    Column(
        "variant_of",
        Text,
        comment="group of items that are one thing, of which a list shows one: "
        "an item's id or any other name",
    ),
    _timestamp("created_at", nullable=False, server_default=NOW),
    _timestamp("updated_at", nullable=False, server_default=NOW),
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
    _timestamp("created_at", nullable=False, server_default=NOW),
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
    _timestamp("occurred_at", server_default=NOW, comment="clock of the application; null is quarantined"),
    _timestamp("received_at", nullable=False, server_default=NOW, comment="clock of the warehouse"),
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
    postgresql_partition_by="RANGE (occurred_at)",
    comment="one reaction of a user to an item; applications INSERT here and never update",
)

impressions = Table(
    "impressions",
    metadata,
    Column("impression_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("query", Text, comment="request in natural language, if there was one"),
    Column("item_ids", ARRAY(Text), nullable=False, comment="the slate, first position first"),
    Column("propensities", ARRAY(REAL), comment="probability of each item at its position"),
    Column("model_version", Text),
    _timestamp("shown_at", nullable=False),
    _timestamp("received_at", nullable=False, server_default=NOW),
    Column("session_id", Text, comment="of somebody who is not registered; instead of user_id"),
    Column("placement", Text, comment="where it was shown, such as home; null: not stated"),
    Column(
        "rules",
        ARRAY(Text),
        comment="the rule that placed each item, as serving.recommend names it; null: no rule did",
    ),
    CheckConstraint("cardinality(rules) = cardinality(item_ids)", name="impressions_rules_check"),
    CheckConstraint(
        "cardinality(propensities) = cardinality(item_ids)"
        " AND 0 <= ALL (propensities) AND 1 >= ALL (propensities)",
        name="impressions_propensities_check",
    ),
    Index("impressions_user", "user_id", "shown_at"),
    Index("impressions_shown_at", "shown_at"),
    comment="one slate shown to a user, with the propensities of the policy that chose it",
)

windows = Table(
    "windows",
    metadata,
    Column("window_id", BigInteger, Identity(always=True), primary_key=True),
    Column("consumer", Text, nullable=False, comment="the DAG that handles the window"),
    Column("run_key", Text, nullable=False, comment="the run that opened it; its retries reuse it"),
    Column("lower_transaction_id", BigInteger, nullable=False, comment="inclusive"),
    Column("upper_transaction_id", BigInteger, nullable=False, comment="exclusive"),
    _timestamp("interval_start"),
    _timestamp("interval_end"),
    _timestamp("opened_at", nullable=False, server_default=NOW),
    Column("arrived", BigInteger, nullable=False, comment="rows in the window when it was opened"),
    Column("valid", BigInteger),
    Column("quarantined", BigInteger),
    Column("duplicates", BigInteger),
    Column("erased", BigInteger),
    _timestamp("reconciled_at"),
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
    _timestamp("quarantined_at", nullable=False, server_default=NOW),
    _timestamp("settled_at"),
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

validation_results = Table(
    "validation_results",
    metadata,
    Column("window_id", BigInteger, ForeignKey("windows.window_id"), nullable=False),
    Column("expectation", Text, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("severity", Text, nullable=False),
    Column("observed", JSONB, nullable=False),
    Column("expected", JSONB, nullable=False),
    _timestamp("validated_at", nullable=False, server_default=NOW),
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
    _timestamp("created_at", nullable=False, server_default=NOW),
    Column(
        "trained_transaction_id",
        BigInteger,
        comment="what a model knows after training on it: rows of smaller ids; "
        "null: recorded by an older release",
    ),
    _timestamp("trained_occurred_before", comment="the same by time: earlier events"),
    CheckConstraint("kind in ('full', 'micro', 'reservoir', 'learned')", name="snapshots_kind_check"),
    comment="immutable, pseudonymised Parquet files that models were trained on",
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
    _timestamp("evaluated_at", nullable=False, server_default=NOW),
    UniqueConstraint("run_key", "scorer", "slice", "metric", name="model_evaluations_key"),
    comment="offline metrics of every scorer of every run, with confidence intervals",
)

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
    _timestamp("recorded_at", nullable=False, server_default=NOW),
    _timestamp("files_removed_at", comment="when its files were removed because it knew erased users"),
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
    CheckConstraint("kind in ('full', 'micro')", name="model_versions_kind_check"),
    CheckConstraint(
        "live_strength between 0 and 100 and live_decay between 0 and 1 and live_trending between 0 and 1000",
        name="model_versions_live_check",
    ),
    comment="registered model versions and what each was trained on",
)

promotion_ledger = Table(
    "promotion_ledger",
    metadata,
    Column("ledger_id", BigInteger, Identity(always=True), primary_key=True),
    _timestamp("decided_at", nullable=False, server_default=NOW),
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
    _timestamp("compared_at", nullable=False),
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
    _timestamp("tested_at", nullable=False),
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

# A trigger rejects DELETE, changes of an experiment that has ended, and others than its end.
experiments = Table(
    "experiments",
    metadata,
    Column("experiment_id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("challenger", Text, nullable=False, comment="the version that some users get"),
    Column(
        "champion",
        Text,
        nullable=False,
        comment="at the start; the control gets whichever version is champion",
    ),
    Column("challenger_share", Double, nullable=False, comment="of users, 0 to 1"),
    Column(
        "hold_out_share",
        Double,
        nullable=False,
        server_default=text("0"),
        comment="of users who get no list of their own, but what is trending and popular",
    ),
    Column(
        "salt",
        Text,
        nullable=False,
        server_default=text("(gen_random_uuid())::text"),
        comment="hashed with a user's key to choose the arm",
    ),
    Column("placements", ARRAY(Text), comment="whose slates are read; null: all"),
    Column(
        "success",
        ARRAY(Text),
        nullable=False,
        comment="metrics of which the challenger has to be better on one",
    ),
    Column(
        "guardrails",
        JSONB,
        nullable=False,
        comment="margin by metric: the largest loss to exclude, a share of the control's value",
    ),
    Column("days", Integer, nullable=False, comment="planned length"),
    _timestamp("started_at", nullable=False, server_default=NOW),
    Column("started_by", Text, nullable=False),
    _timestamp("shown_since", comment="when all arms were first published; slates from then on count"),
    _timestamp("ended_at"),
    Column("ended_by", Text),
    Column("outcome", Text, comment="why it ended, a name for machines; null: it is running"),
    Column("explanation", Text, comment="the same as a sentence"),
    CheckConstraint(
        "challenger_share > 0 and hold_out_share >= 0 and challenger_share + hold_out_share < 1",
        name="experiments_shares_check",
    ),
    CheckConstraint("days between 1 and 365", name="experiments_days_check"),
    CheckConstraint("cardinality(success) > 0", name="experiments_success_check"),
    CheckConstraint(
        "(ended_at is null) = (outcome is null) and (ended_at is null) = (ended_by is null)",
        name="experiments_end_check",
    ),
    Index(
        "experiments_one_at_a_time", text("(true)"), unique=True, postgresql_where=text("ended_at IS NULL")
    ),
    comment="which users get the lists of which version, and how it ended; one runs at a time",
)

experiment_readouts = Table(
    "experiment_readouts",
    metadata,
    Column("readout_id", BigInteger, Identity(always=True), primary_key=True),
    Column("experiment_id", BigInteger, ForeignKey("experiments.experiment_id"), nullable=False),
    Column(
        "run_key", Text, nullable=False, unique=True, comment="the run that looked; its retries find the row"
    ),
    _timestamp("read_at", nullable=False, server_default=NOW),
    _timestamp("until", nullable=False, comment="slates and reactions before it were read"),
    Column("share", Double, nullable=False, comment="of the planned time that had passed"),
    Column("users", JSONB, nullable=False, comment="who saw a slate, by arm"),
    Column(
        "mismatch_p_value",
        Double,
        nullable=False,
        comment="always valid, for the hypothesis that users appear in the planned shares",
    ),
    Column("left_out", JSONB, nullable=False, comment="slates that were not read, by reason"),
    Column("readings", JSONB, nullable=False, comment="figures, interval and verdict of each metric"),
    Column("outcome", Text, nullable=False, comment="what the look decided; running: nothing yet"),
    Index("experiment_readouts_experiment", "experiment_id", "readout_id"),
    comment="what each look at an experiment found, one row a look",
)

publications = Table(
    "publications",
    metadata,
    Column("publication_id", BigInteger, Identity(always=True), primary_key=True),
    Column("run_key", Text, nullable=False, unique=True),
    Column("model_version", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("users", BigInteger, nullable=False),
    Column("items", BigInteger, nullable=False),
    Column("through_transaction_id", BigInteger, nullable=False, comment="feedback below it was read"),
    _timestamp("published_at", nullable=False, server_default=NOW),
    Column(
        "experiment_id",
        BigInteger,
        ForeignKey("experiments.experiment_id"),
        comment="the experiment by whose arms users got their lists; null: all got the champion's",
    ),
    CheckConstraint("scope in ('all', 'affected')", name="publications_scope_check"),
    comment="one row for each time recommendations and vectors were swapped in",
)

# One row for each user; the view `recommendations` has one row for each user and rank.
recommendation_lists = Table(
    "recommendation_lists",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("publication_id", BigInteger, ForeignKey("publications.publication_id"), nullable=False),
    Column("model_version", Text, nullable=False),
    Column("item_ids", ARRAY(Text), nullable=False, comment="best first"),
    Column("scores", ARRAY(REAL), nullable=False),
    Column("propensities", ARRAY(REAL), nullable=False),
    Column("reasons", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    _timestamp("published_at", nullable=False, server_default=NOW),
    Column(
        "pool_item_ids",
        ARRAY(Text),
        nullable=False,
        server_default=text("'{}'::text[]"),
        comment="what serving.recommend chooses from, in ranked order; "
        "the list is drawn from its first items",
    ),
    Column("pool_scores", ARRAY(REAL), nullable=False, server_default=text("'{}'::real[]")),
    Column(
        "titles",
        ARRAY(Text),
        nullable=False,
        server_default=text("'{}'::text[]"),
        comment="of the items of the list; empty: a release that stored none has published it",
    ),
    _timestamp(
        "available_until",
        comment="when the first of the items from which the list is drawn ceases to be available; "
        "null: none does",
    ),
    Column(
        "through_transaction_id",
        BigInteger,
        comment="as in publications; null: a release that stored none has published it",
    ),
    CheckConstraint(
        "cardinality(pool_item_ids) = cardinality(pool_scores)", name="recommendation_lists_pool_check"
    ),
    CheckConstraint(
        "cardinality(titles) IN (0, cardinality(item_ids))", name="recommendation_lists_titles_check"
    ),
    comment="current recommendations, one row a user; read the view recommendations",
)

placements = Table(
    "placements",
    metadata,
    Column("placement", Text, primary_key=True),
    Column(
        "length",
        Integer,
        nullable=False,
        server_default=text("10"),
        comment="items of a list, unless the application asks for another number",
    ),
    Column(
        "logic",
        Text,
        nullable=False,
        server_default=text("'personal'"),
        comment="what the list is made of before the fallback: personal, trending, popular, new, similar "
        "(to the item in the context), because_you_watched (similar to what the user wanted last) "
        "or buy_again",
    ),
    Column(
        "pool",
        Integer,
        nullable=False,
        server_default=text("200"),
        comment="first items of a user's pool that the list is chosen from",
    ),
    Column(
        "filter",
        JSONB,
        nullable=False,
        server_default=EMPTY_JSON,
        comment="attributes that an item needs, as in serving.recommend",
    ),
    Column(
        "explores",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="shows lists as publishing drew them; false: in ranked order",
    ),
    Column(
        "live",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="what the user did since the publication changes the order",
    ),
    Column(
        "fallback",
        ARRAY(Text),
        nullable=False,
        server_default=text("'{segment,trending,popular}'::text[]"),
        comment="what fills a list that the logic leaves short, in this order",
    ),
    Column(
        "diversity",
        JSONB,
        nullable=False,
        server_default=EMPTY_JSON,
        comment='at most so many items of each value of an attribute: {"artist": 1}; empty: as published',
    ),
    comment="places where an application shows a list, and what each list is made of",
)

placement_rules = Table(
    "placement_rules",
    metadata,
    Column("rule", Text, primary_key=True),
    Column(
        "kind",
        Text,
        nullable=False,
        comment="exclude, only, pin, at_most, at_least, boost or bury: see docs/serving.md",
    ),
    Column("placements", ARRAY(Text), comment="where it holds; null: everywhere"),
    Column(
        "filter",
        JSONB,
        comment="attributes of the items that it is about, as in serving.recommend; "
        "null: item_ids names them",
    ),
    Column(
        "item_ids",
        ARRAY(Text),
        comment="the items that it is about; a pin shows them in this order; null: filter says which",
    ),
    Column(
        "audience",
        JSONB,
        nullable=False,
        server_default=EMPTY_JSON,
        comment="attributes of users, or of the context, for whom it holds; empty: for all",
    ),
    Column("position", Integer, comment="pin: rank of its first item"),
    Column("factor", REAL, comment="boost, bury: a place in the list is divided, or multiplied, by it"),
    Column("number", Integer, comment="at_most, at_least: items of a list"),
    Column("attribute", Text, comment="at_most: of each of its values so many; null: of all the items"),
    Column(
        "reason",
        Text,
        comment="what users read beside an item that the rule placed; null: the reason that it has anyway",
    ),
    Column(
        "priority",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="of rules that contradict, that of the highest priority holds; then the oldest",
    ),
    _timestamp("valid_from", comment="null: a draft"),
    _timestamp("valid_until", comment="exclusive; null: for ever"),
    _timestamp("created_at", nullable=False, server_default=NOW),
    Column("item_path", JSONPATH, comment="filter as a predicate; a trigger sets it"),
    Column("audience_path", JSONPATH, comment="audience as a predicate; a trigger sets it"),
    Index("placement_rules_valid_until", text("COALESCE(valid_until, 'infinity'::timestamptz)")),
    comment="what the business wants of lists: serving.check_rule says what is wrong with a row",
)

item_changes = Table(
    "item_changes",
    metadata,
    Column("item_id", Text, nullable=False),
    Column(
        "transaction_id",
        BigInteger,
        nullable=False,
        server_default=TRANSACTION_ID,
        comment="of the change",
    ),
    Index("item_changes_item", "item_id", "transaction_id"),
    comment="items whose title, availability or group has changed, or which were deleted, since the lists of "
    "all users were published: a list without them is shown as it is stored",
)

fresh_feedback = Table(
    "fresh_feedback",
    metadata,
    Column("user_id", Text, nullable=False),
    Column("transaction_id", BigInteger, nullable=False),
    Column(
        "feedback_id",
        BigInteger,
        nullable=False,
        comment="of the row in feedback; triggers keep the two alike",
    ),
    Column("item_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("value", Double),
    _timestamp("occurred_at", nullable=False),
    Index("fresh_feedback_user", "user_id", "transaction_id"),
    comment="feedback of the last days that the lists of its users have not read: "
    "what serving.recommend reacts to",
)

item_lists = Table(
    "item_lists",
    metadata,
    Column("kind", Text, primary_key=True, comment="together: within a day of it; next: right after it"),
    Column("item_id", Text, primary_key=True),
    Column("item_ids", ARRAY(Text), nullable=False, comment="best first"),
    Column("scores", ARRAY(REAL), nullable=False, comment="cosine of the two items over people"),
    comment="items that people had with an item, at least five of them for each pair",
)

shared_lists = Table(
    "shared_lists",
    metadata,
    Column("kind", Text, primary_key=True, comment="trending: lately; popular: of all time"),
    Column(
        "attribute",
        Text,
        primary_key=True,
        server_default=text("''"),
        comment="attribute of users that makes the segments; empty: all users",
    ),
    Column("segment", Text, primary_key=True, server_default=text("''"), comment="its value"),
    Column("item_ids", ARRAY(Text), nullable=False, comment="best first"),
    Column(
        "scores",
        ARRAY(REAL),
        nullable=False,
        comment="users who wanted the item; for trending, recent ones count more",
    ),
    _timestamp("computed_at", nullable=False, server_default=NOW),
    comment="what is popular and what is trending, for all users and by segment: "
    "for users without a list of their own",
)

user_vectors = Table(
    "user_vectors",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("model_version", Text, nullable=False),
    Column("vector", VECTOR(), nullable=False),
    comment="current user vectors, of the same model version as the recommendations",
)

item_vectors = Table(
    "item_vectors",
    metadata,
    Column("item_id", Text, primary_key=True),
    Column("model_version", Text, nullable=False),
    Column("vector", VECTOR(), nullable=False),
    comment="current item vectors, of the same model version as the recommendations",
)

comment_sentiment = Table(
    "comment_sentiment",
    metadata,
    Column("item_id", Text, primary_key=True),
    Column("model_version", Text, nullable=False),
    Column("comments", Integer, nullable=False, comment="that were read, each of another person"),
    Column("average_value", REAL, nullable=False, comment="0 to 1"),
    Column("average_sentiment", REAL, nullable=False, comment="-1 to 1"),
    _timestamp("published_at", nullable=False, server_default=NOW),
    comment="what the published model reads in comments, of items with enough of them to hide each",
)

alerts = Table(
    "alerts",
    metadata,
    Column("cause", Text, primary_key=True, comment="what is watched, such as drift of one expectation"),
    Column("message", Text, nullable=False, comment="as last found"),
    _timestamp("opened_at", nullable=False, comment="first found, since it was last closed"),
    _timestamp("seen_at", nullable=False, comment="last found"),
    _timestamp("sent_at", comment="since it was opened; null: still to be sent"),
    _timestamp("closed_at", comment="no longer found; null: open"),
    comment="what monitoring has found, one row a cause",
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

published_items = Table(
    "published_items",
    metadata,
    Column("item_id", Text, primary_key=True),
    Column("title", Text, nullable=False, comment="title in the reasons of lists"),
    Column("text_digest", Text, nullable=False, comment="MD5 of what its vector was computed from"),
    Column("available", Boolean, nullable=False),
    comment="items as the last publication read them: what differs from items is published again",
)

erasure_requests = Table(
    "erasure_requests",
    metadata,
    Column("request_id", BigInteger, Identity(always=True), primary_key=True),
    Column("user_id", Text, comment="null once done: the receipt does not name the person"),
    Column("user_key", Text),
    Column("status", Text, nullable=False, server_default=text("'requested'")),
    _timestamp("requested_at", nullable=False, server_default=NOW),
    _timestamp("done_at"),
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
    _timestamp("recorded_at", nullable=False, server_default=NOW),
    CheckConstraint("model_id is not null or model_version is not null", name="model_files_name_check"),
    comment="sha256 of every file of every model version as registered; a version is loaded only if "
    "they match",
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
    _timestamp("erased_at", nullable=False, server_default=NOW),
    comment="who was erased, by a keyed hash that occurs nowhere else: their rows are not loaded again",
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
