"""What was published last: lists, vectors, and what all users share."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL

from recsys.warehouse.tables.base import NOW, metadata, timestamp

from pgvector.sqlalchemy import VECTOR  # isort: skip

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
    timestamp("published_at", nullable=False, server_default=NOW),
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
    Column("language", Text, nullable=False, server_default=text("'en'"), comment="of the reasons"),
    timestamp("published_at", nullable=False, server_default=NOW),
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
    timestamp(
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

published_items = Table(
    "published_items",
    metadata,
    Column("item_id", Text, primary_key=True),
    Column("title", Text, nullable=False, comment="title in the reasons of lists"),
    Column("text_digest", Text, nullable=False, comment="MD5 of what its vector was computed from"),
    Column("available", Boolean, nullable=False),
    comment="items as the last publication read them: what differs from items is published again",
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

item_lists = Table(
    "item_lists",
    metadata,
    Column(
        "kind",
        Text,
        primary_key=True,
        comment="together: had within a day of it; next: had right after it; similar: nearest by the vectors",
    ),
    Column("item_id", Text, primary_key=True),
    Column("item_ids", ARRAY(Text), nullable=False, comment="best first"),
    Column(
        "scores",
        ARRAY(REAL),
        nullable=False,
        comment="cosine of the two items, over people or of their vectors",
    ),
    comment="what goes with an item; a pair that people had needs five of them",
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
    timestamp("computed_at", nullable=False, server_default=NOW),
    comment="what is popular and what is trending, for all users and by segment: "
    "for users without a list of their own",
)

comment_sentiment = Table(
    "comment_sentiment",
    metadata,
    Column("item_id", Text, primary_key=True),
    Column("model_version", Text, nullable=False),
    Column("comments", Integer, nullable=False, comment="that were read, each of another person"),
    Column("average_value", REAL, nullable=False, comment="0 to 1"),
    Column("average_sentiment", REAL, nullable=False, comment="-1 to 1"),
    timestamp("published_at", nullable=False, server_default=NOW),
    comment="what the published model reads in comments, of items with enough of them to hide each",
)

item_phrases = Table(
    "item_phrases",
    metadata,
    Column("item_id", Text, primary_key=True),
    Column(
        "comment_ids",
        ARRAY(BigInteger),
        nullable=False,
        comment="feedback ids of the comments that were read, newest first; "
        "with others the item is read again",
    ),
    Column("people", Integer, nullable=False, comment="whose comments were read"),
    Column(
        "phrases",
        JSONB,
        nullable=False,
        comment="see analytics.item_phrases; empty: no phrase was used by enough people",
    ),
    Column("model_version", Text, nullable=False, comment="the version that read the comments"),
    timestamp("computed_at", nullable=False, server_default=NOW),
    comment="what people praise and criticise about items in comments, "
    "of items with enough of them to hide each",
)

_SUMMARY = "(summary IS NULL) <> (refusal IS NULL)"

list_summaries = Table(
    "list_summaries",
    metadata,
    Column("user_id", Text, ForeignKey("recommendation_lists.user_id", ondelete="CASCADE"), primary_key=True),
    Column("publication_id", BigInteger, nullable=False, comment="of the list when it was last looked at"),
    Column(
        "source_digest",
        Text,
        nullable=False,
        comment="of the first items, titles and reasons; while they are shown, the text is",
    ),
    Column(
        "content_digest",
        Text,
        nullable=False,
        comment="of what the model was told, its name, the prompt and the language; the same is written once",
    ),
    Column("language", Text, nullable=False),
    Column("summary", Text),
    Column("refusal", Text, comment="why the text was refused; null: it was not"),
    Column("model", Text, nullable=False, comment="who wrote it"),
    Column("licence", Text, nullable=False, comment="of the model"),
    Column("prompt_version", Integer, nullable=False, comment="how it was asked"),
    timestamp("written_at", nullable=False, server_default=NOW),
    CheckConstraint(_SUMMARY, name="list_summaries_check"),
    Index("list_summaries_content", "content_digest"),
    comment="what a language model wrote about users' lists; read serving.summary",
)

item_summaries = Table(
    "item_summaries",
    metadata,
    Column("item_id", Text, ForeignKey("item_phrases.item_id", ondelete="CASCADE"), primary_key=True),
    Column("language", Text, primary_key=True),
    Column(
        "source_digest",
        Text,
        nullable=False,
        comment="of title and phrases; while they stay, the text is shown",
    ),
    Column("summary", Text),
    Column("refusal", Text, comment="why the text was refused; null: it was not"),
    Column("model", Text, nullable=False, comment="who wrote it"),
    Column("licence", Text, nullable=False, comment="of the model"),
    Column("prompt_version", Integer, nullable=False, comment="how it was asked"),
    timestamp("written_at", nullable=False, server_default=NOW),
    CheckConstraint(_SUMMARY, name="item_summaries_check"),
    comment="what a language model wrote about the comments on items; read serving.item_summary",
)
