"""The one home of column names, for Postgres tables, Parquet snapshots and evaluation files."""


class Columns:
    """Names shared by the warehouse and the snapshots."""

    FEEDBACK_ID = "feedback_id"
    """Log order: assigned on arrival, strictly increasing within a transaction."""
    EVENT_ID = "event_id"
    USER_ID = "user_id"
    USER_KEY = "user_key"
    """Keyed hash of the user id: the only name a user has outside the warehouse."""
    ITEM_ID = "item_id"
    EVENT_TYPE = "event_type"
    VALUE = "value"
    COMMENT = "comment"
    IMPRESSION_ID = "impression_id"
    OCCURRED_AT = "occurred_at"
    RECEIVED_AT = "received_at"
    TRANSACTION_ID = "transaction_id"
    WEIGHT = "weight"
    PURPOSE = "purpose"
    TITLE = "title"
    DESCRIPTION = "description"
    ATTRIBUTES = "attributes"


class Purpose:
    """Why an event is in a snapshot (column `purpose`)."""

    FULL = "full"
    """Full snapshots: every event, trained on or held out by time."""
    FRESH = "fresh"
    """Micro snapshots: the parent model has not trained on it."""
    HISTORY = "history"
    """Micro snapshots: an older event of a user who has fresh events."""
    REPLAY = "replay"
    """Micro snapshots: an event of a sampled other user, mixed in against forgetting."""
    GUARD = "guard"
    """Micro snapshots: an event of a guard user, on whom forgetting is measured; never trained on."""
    PROBE = "probe"
    """Micro snapshots: a fresh event of a guard user, on which candidates are compared; never trained on."""


PURPOSES = (Purpose.FULL, Purpose.FRESH, Purpose.HISTORY, Purpose.REPLAY, Purpose.GUARD, Purpose.PROBE)
"""Code of a purpose in arrays: its position here. Append only."""

SNAPSHOT_INTERACTION_COLUMNS = (
    Columns.FEEDBACK_ID,
    Columns.USER_KEY,
    Columns.ITEM_ID,
    Columns.EVENT_TYPE,
    Columns.VALUE,
    Columns.COMMENT,
    Columns.OCCURRED_AT,
    Columns.WEIGHT,
    Columns.PURPOSE,
)
SNAPSHOT_ITEM_COLUMNS = (Columns.ITEM_ID, Columns.TITLE, Columns.DESCRIPTION, Columns.ATTRIBUTES)
