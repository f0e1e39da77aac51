from collections.abc import Callable

import pytest
import sqlalchemy as sa

from recsys.errors import WarehouseError
from recsys.settings import Settings
from recsys.validation.quarantine import (
    discard,
    list_quarantined,
    quarantine_window,
    release,
    show_quarantined,
)
from recsys.validation.rules import row_rules
from recsys.warehouse.tables import feedback
from recsys.warehouse.windows import Window, reconcile_window
from tests.validation.conftest import NOON, add_feedback, sound_rows

NextWindow = Callable[..., Window]


@pytest.fixture
def held(stocked: sa.Engine, next_window: NextWindow, settings: Settings) -> int:
    """Quarantine id of a row with an unknown item, from a window with two more, valid rows."""
    add_feedback(stocked, {"event_id": "broken", "item_id": "new", "value": float("nan")}, *sound_rows(2))
    judge(stocked, next_window(), settings)
    (row,) = list_quarantined(stocked)
    return row.quarantine_id


def judge(engine: sa.Engine, window: Window, settings: Settings) -> int:
    with engine.begin() as connection:
        return quarantine_window(connection, window, row_rules(), settings.validation)


def test_the_whole_row_moves_and_every_row_is_accounted_for(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    add_feedback(stocked, {"event_id": "e", "item_id": "new", "comment": "hm", "impression_id": "i"})
    add_feedback(stocked, *sound_rows(2))
    window = next_window()
    assert judge(stocked, window, settings) == 1
    assert judge(stocked, window, settings) == 0
    (row,) = list_quarantined(stocked)
    kept = {
        name: row.feedback[name] for name in ("event_id", "user_id", "item_id", "comment", "impression_id")
    }
    assert kept == {
        "event_id": "e",
        "user_id": "ann",
        "item_id": "new",
        "comment": "hm",
        "impression_id": "i",
    }
    reconciled = reconcile_window(stocked, window.window_id)
    assert (reconciled.valid, reconciled.quarantined, reconciled.balanced) == (2, 1, True)


def test_a_released_row_is_in_the_next_window_once_and_is_not_judged_again(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, held: int
) -> None:
    feedback_id = release(stocked, held, settled_by="ann's friend")
    window = next_window()
    assert window.arrived == 1
    assert judge(stocked, window, settings) == 0
    with stocked.connect() as connection:
        row = connection.execute(sa.select(feedback).where(feedback.c.feedback_id == feedback_id)).one()
    assert (row.event_id, row.item_id, row.occurred_at, row.released_from) == ("broken", "new", NOON, held)
    assert row.value != row.value  # NaN, as it arrived
    assert next_window().arrived == 0
    settled = show_quarantined(stocked, held)
    assert (settled.status, settled.settled_by) == ("released", "ann's friend")


def test_a_row_is_settled_once(stocked: sa.Engine, held: int) -> None:
    discard(stocked, held, settled_by="ann")
    with pytest.raises(WarehouseError, match="was already discarded by ann"):
        release(stocked, held)
    with pytest.raises(WarehouseError, match="was already discarded by ann"):
        discard(stocked, held)
    assert list_quarantined(stocked) == []
    assert len(list_quarantined(stocked, status=None)) == 1


def test_a_row_that_arrived_again_cannot_be_released(stocked: sa.Engine, held: int) -> None:
    add_feedback(stocked, {"event_id": "broken"})
    with pytest.raises(WarehouseError, match="already has a row with its event id and time"):
        release(stocked, held)
    assert show_quarantined(stocked, held).status == "held"


def test_an_unknown_id_is_an_error(stocked: sa.Engine) -> None:
    for settle in (release, discard, show_quarantined):
        with pytest.raises(WarehouseError, match="quarantine has no row 77"):
            settle(stocked, 77)


def test_rows_are_listed_by_reason(stocked: sa.Engine, held: int) -> None:
    assert [row.quarantine_id for row in list_quarantined(stocked, reason="unknown_item")] == [held]
    assert list_quarantined(stocked, reason="unknown_user") == []
