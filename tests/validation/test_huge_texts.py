"""A row with a text so long that JSON or a regular expression cannot hold it stops nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.settings import Settings
from recsys.validation.quarantine import list_quarantined
from recsys.validation.validate import validate_window
from recsys.warehouse.tables import feedback
from recsys.warehouse.windows import Window, reconcile_window
from tests.validation.conftest import add_feedback, sound_rows

NextWindow = Callable[..., Window]
QUARTER_GIBIBYTE = 268_435_456


@pytest.mark.parametrize("column", ["comment", "impression_id"])
def test_a_text_of_a_quarter_gibibyte_is_quarantined_and_the_window_passes(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path, column: str
) -> None:
    add_feedback(stocked, *sound_rows(9))
    with stocked.begin() as connection:
        connection.execute(
            sa.text(
                f"INSERT INTO feedback (user_id, item_id, event_type, {column})"
                " VALUES ('ann', 'unknown', 'like', repeat('x', :length))"
            ),
            {"length": QUARTER_GIBIBYTE},
        )
    window = next_window()
    report = validate_window(stocked, window, settings, tmp_path / "docs")
    assert (report.valid, report.quarantined) == (9, 1)
    assert reconcile_window(stocked, window.window_id).balanced
    [row] = list_quarantined(stocked)
    assert ("comment_too_long_or_binary" in row.reasons) == (column == "comment")
    assert row.feedback.keys() == set(feedback.c.keys())
    assert row.feedback[column] == "x" * 1_000_000
