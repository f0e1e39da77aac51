"""Column names of Postgres tables, Parquet snapshots and evaluation files."""


class Columns:
    """Column names that the warehouse and the snapshots share."""

    FEEDBACK_ID = "feedback_id"
    """Log order: assigned on arrival, increases within a transaction."""
    EVENT_ID = "event_id"
    USER_ID = "user_id"
    SESSION_ID = "session_id"
    """Session of somebody who is not registered."""
    USER_KEY = "user_key"
    """Keyed hash of the user id, which never leaves the warehouse itself."""
    ITEM_ID = "item_id"
    EVENT_TYPE = "event_type"
    VALUE = "value"
    COMMENT = "comment"
    IMPRESSION_ID = "impression_id"
    OCCURRED_AT = "occurred_at"
    WEIGHT = "weight"
    PURPOSE = "purpose"
    TITLE = "title"
    DESCRIPTION = "description"
    ATTRIBUTES = "attributes"


class Purpose:
    """Why an event is in a snapshot (column `purpose`)."""

    FULL = "full"
    """Full snapshots: every event."""
    FRESH = "fresh"
    """Micro snapshots: an event that the parent model has not trained on."""
    HISTORY = "history"
    """Micro snapshots: an older event of a user with fresh events."""
    REPLAY = "replay"
    """Micro snapshots: an older event of another, sampled user, replayed against forgetting."""
    GUARD = "guard"
    """Micro snapshots: an older event of a guard user, to measure forgetting; never trained on."""
    FRESH_GUARD = "probe"
    """Micro snapshots: a fresh event of a guard user, to compare candidates; never trained on."""


PURPOSES = (Purpose.FULL, Purpose.FRESH, Purpose.HISTORY, Purpose.REPLAY, Purpose.GUARD, Purpose.FRESH_GUARD)
"""The code of a purpose in arrays is its position here. Append only."""

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
