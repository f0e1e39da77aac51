"""What `serving.recommend` obeys and reacts to."""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Double, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, JSONPATH, REAL, ExcludeConstraint

from recsys.warehouse.tables.base import EMPTY_JSON, NOW, TRANSACTION_ID, metadata, timestamp

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
    timestamp("valid_from", comment="null: a draft"),
    timestamp("valid_until", comment="exclusive; null: for ever"),
    timestamp("created_at", nullable=False, server_default=NOW),
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
    timestamp("occurred_at", nullable=False),
    Index("fresh_feedback_user", "user_id", "transaction_id"),
    comment="feedback of the last days that the lists of its users have not read: "
    "what serving.recommend reacts to",
)

languages = Table(
    "languages",
    metadata,
    Column("language", Text, primary_key=True, comment="tag of BCP 47 in lower case, such as de or pt-br"),
    Column(
        "is_default",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="of users without a language, or with one that has no row",
    ),
    Column(
        "texts",
        JSONB,
        nullable=False,
        comment="by what they say; did: by event type, and other for all further ones; "
        "{title} and the like are filled in",
    ),
    CheckConstraint(
        "language ~ '^[a-z]{2,8}(-[a-z0-9]{1,8})*$' AND length(language) <= 35", name="languages_tag_check"
    ),
    ExcludeConstraint(
        ("is_default", "="),
        name="languages_one_default",
        using="btree",
        where=text("is_default"),
        deferrable=True,
    ),
    comment="texts that users read beside items; users.attributes ->> 'language' chooses",
)
