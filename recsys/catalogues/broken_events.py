"""Invalid events with one error each, for the demo and tests to mix into real feedback."""

from collections.abc import Sequence
from typing import Any

from recsys.catalogues.movielens_files import Rating

_FAR_FUTURE = 4_102_444_800  # 2100-01-01


def broken_events(ratings: Sequence[Rating]) -> list[dict[str, Any]]:
    """Return events that ingest accepts and validation must quarantine.

    Parameters
    ----------
    ratings
        Valid ratings; the first and the last are the templates.
    """
    if not ratings:
        return []
    first, last = ratings[0].event(), ratings[-1].event()
    changes: dict[str, dict[str, Any]] = {
        "unknown-item": {"item_id": "no-such-item"},
        "unknown-event-type": {"event_type": "teleported"},
        "rating-of-9": {"value": 9},
        "rating-below-range": {"value": -1},
        "rating-without-value": {"value": None},
        "in-the-future": {"occurred_at": _FAR_FUTURE},
        "before-computers": {"occurred_at": -2_208_988_800},
        "comment-of-100-kB": {"event_type": "comment", "value": None, "comment": "很好看! 🎬 " * 6_500},
        "comment-of-control-characters": {"event_type": "comment", "value": None, "comment": "\x01\x02\x03"},
    }
    broken = [last | change | {"event_id": f"broken-{name}"} for name, change in changes.items()]
    return [*broken, first | {"event_id": "broken-duplicate-of-another-event"}]
