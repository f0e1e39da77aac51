"""Searches of settings and their trials."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from recsys.warehouse.tables.base import NOW, metadata, timestamp

searches = Table(
    "searches",
    metadata,
    Column("search_id", BigInteger, Identity(always=True), primary_key=True),
    Column("run_key", Text, nullable=False, unique=True),
    Column("snapshot", JSONB, nullable=False, comment="reference of what all trials train on"),
    Column("present", JSONB, nullable=False, comment="settings of the first trial, in force at the start"),
    Column("trials", Integer, nullable=False, comment="planned"),
    timestamp("started_at", nullable=False, server_default=NOW),
    timestamp("deadline", nullable=False, comment="when no more is tried"),
    timestamp("ended_at"),
    Column("outcome", Text, comment="a name for machines; null: it is running"),
    Column("explanation", Text, comment="the same as a sentence"),
    Column("winner", Integer, comment="number of the best trial"),
    Column("users", BigInteger, comment="who were not seen by the search and tested its winner"),
    Column("difference", Double, comment="their NDCG with the winner minus that with the present settings"),
    Column("low", Double),
    Column("high", Double),
    CheckConstraint("(ended_at is null) = (outcome is null)", name="searches_end_check"),
    comment="searches of settings: what was tried against what, and what came of it",
)

search_trials = Table(
    "search_trials",
    metadata,
    Column("search_id", BigInteger, ForeignKey("searches.search_id"), nullable=False),
    Column("number", Integer, nullable=False, comment="0: the present settings"),
    Column("settings", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column(
        "curve",
        ARRAY(Double),
        nullable=False,
        server_default=text("'{}'::double precision[]"),
        comment="validation NDCG after each epoch",
    ),
    Column("score", Double, comment="NDCG of the whole model on validated users; null unless complete"),
    Column("explanation", Text, comment="why it was ended early"),
    timestamp("started_at", nullable=False, server_default=NOW),
    timestamp("ended_at"),
    PrimaryKeyConstraint("search_id", "number"),
    CheckConstraint(
        "state in ('running', 'complete', 'pruned', 'failed', 'out_of_time')",
        name="search_trials_state_check",
    ),
    CheckConstraint("(state = 'complete') = (score is not null)", name="search_trials_score_check"),
    comment="trials of searches of settings",
)
