import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic_core import to_jsonable_python

from recsys.errors import SnapshotError
from recsys.snapshot.reference import SnapshotRef, TrainedThrough


def test_references_survive_xcom() -> None:
    ref = SnapshotRef("file:///s/full/1-ab", "ab", "full", 10, 1)
    assert SnapshotRef(**json.loads(json.dumps(to_jsonable_python(ref)))) == ref
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
    through = TrainedThrough(12, moment)
    again = TrainedThrough(**json.loads(json.dumps(to_jsonable_python(through))))
    assert again == through
    assert again.occurred_before.tzinfo == UTC


def test_a_bound_without_zone_is_refused() -> None:
    with pytest.raises(SnapshotError, match="zone"):
        TrainedThrough(1, datetime(2026, 1, 1))  # noqa: DTZ001
