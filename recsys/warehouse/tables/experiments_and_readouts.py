"""Experiments between model versions, and their readouts."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from recsys.warehouse.tables.base import NOW, metadata, timestamp

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
    timestamp("started_at", nullable=False, server_default=NOW),
    Column("started_by", Text, nullable=False),
    timestamp("shown_since", comment="when all arms were first published; slates from then on count"),
    timestamp("ended_at"),
    Column("ended_by", Text),
    Column("outcome", Text, comment="why it ended, a name for machines; null: it is running"),
    Column("explanation", Text, comment="the same as a sentence"),
    Column(
        "kind",
        Text,
        nullable=False,
        server_default=text("'split'"),
        comment="split: some users get the challenger's lists; "
        "interleave: they get lists that both versions pick in turn",
    ),
    CheckConstraint("kind in ('split', 'interleave')", name="experiments_kind_check"),
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
    timestamp("read_at", nullable=False, server_default=NOW),
    timestamp("until", nullable=False, comment="slates and reactions before it were read"),
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

interleaved_lists = Table(
    "interleaved_lists",
    metadata,
    Column("experiment_id", BigInteger, ForeignKey("experiments.experiment_id"), primary_key=True),
    Column("user_id", Text, primary_key=True),
    timestamp("published_at", primary_key=True),
    Column("item_ids", ARRAY(Text), nullable=False, comment="the first candidates, best first"),
    Column(
        "of_challenger",
        ARRAY(Boolean),
        nullable=False,
        comment="the challenger picked the item; false: the champion did; null: both wanted it",
    ),
    CheckConstraint(
        "cardinality(item_ids) = cardinality(of_challenger)", name="interleaved_lists_picks_check"
    ),
    Index("interleaved_lists_user", "user_id"),
    comment="lists of an interleaved experiment as they were published, until it has ended: "
    "who picked which item",
)
