from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
import sqlalchemy as sa

from recsys.errors import NothingToDoError, ValidationFailedError
from recsys.settings import Settings
from recsys.validation.quarantine import list_quarantined, release
from recsys.validation.validate import validate_window
from recsys.warehouse.tables import items, validation_results
from recsys.warehouse.windows import Window
from tests.validation.conftest import add_feedback, sound_rows

NextWindow = Callable[..., Window]


def stored(engine: sa.Engine, window: Window) -> dict[str, tuple[bool, dict[str, float]]]:
    columns = (validation_results.c.expectation, validation_results.c.success, validation_results.c.observed)
    query = sa.select(*columns).where(validation_results.c.window_id == window.window_id)
    with engine.connect() as connection:
        return {row.expectation: (row.success, row.observed) for row in connection.execute(query)}


def feedback_rows(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(sa.text("SELECT count(*) FROM feedback")) or 0)


def test_a_window_is_validated_reported_and_stored(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    add_feedback(stocked, *sound_rows(5), sound_rows(1)[0], {"user_id": "nobody", "item_id": "new"})
    window = next_window()
    report = validate_window(stocked, window, settings, tmp_path / "docs")
    assert (report.arrived, report.valid, report.quarantined, report.duplicates) == (7, 5, 1, 1)
    assert report.reasons == {"duplicate_content": 1, "unknown_item": 1, "unknown_user": 1}
    assert report.failed == ["duplicate_content", "unknown_item", "unknown_user"]
    results = stored(stocked, window)
    assert results["unknown_user"] == (False, {"unexpected_rows": 1})
    assert results["malformed_time"] == (True, {"unexpected_rows": 0})
    assert results["valid_share"] == (True, {"valid_share": pytest.approx(5 / 7)})


def test_a_retry_tells_the_same_and_moves_nothing_more(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    add_feedback(stocked, *sound_rows(3), {"item_id": "new"})
    window = next_window()
    first = validate_window(stocked, window, settings, tmp_path / "docs")
    assert validate_window(stocked, window, settings, tmp_path / "docs") == first
    elsewhere = validate_window(stocked, window, settings, tmp_path / "the disk of another worker")
    assert (elsewhere.reasons, elsewhere.failed, elsewhere.valid) == (
        first.reasons,
        first.failed,
        first.valid,
    )


def test_data_docs_show_every_expectation_and_nobodys_data(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    secret = "a secret opinion"
    add_feedback(stocked, *sound_rows(4), {"user_id": "nobody-in-particular", "comment": secret + "\x01"})
    report = validate_window(stocked, next_window(), settings, tmp_path / "docs")
    index = Path(unquote(urlparse(report.data_docs).path))
    assert "row-rules" in index.read_text()
    assert sum(file.stat().st_size for file in index.parent.rglob("*") if file.is_file()) < 500_000
    pages = "".join(page.read_text() for page in index.parent.rglob("*.html"))
    assert "comment_too_long_or_binary: A comment longer than 10000 characters" in pages
    assert "valid_share" in pages
    assert secret not in pages
    assert "nobody-in-particular" not in pages
    assert "nobody-in-particular" not in str(report)


def test_too_few_valid_rows_stop_the_run_and_move_nothing(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    add_feedback(stocked, *sound_rows(1), *({"item_id": f"new {number}"} for number in range(3)))
    window = next_window()
    with pytest.raises(ValidationFailedError) as failure:
        validate_window(stocked, window, settings, tmp_path / "docs")
    message = str(failure.value)
    assert "valid_share: observed valid_share 0.25, expected min 0.5" in message
    assert "unknown_item 3" in message
    assert feedback_rows(stocked) == 4
    assert stored(stocked, window)["valid_share"][0] is False
    # The items were loaded late; the task is cleared.
    with stocked.begin() as connection:
        connection.execute(items.insert(), [{"item_id": f"new {number}"} for number in range(3)])
    assert validate_window(stocked, window, settings, tmp_path / "docs").valid == 4
    assert stored(stocked, window)["valid_share"][0] is True


def test_bad_rows_of_a_failed_window_are_quarantined_with_the_next_one(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    add_feedback(stocked, *({"item_id": f"new {number}"} for number in range(3)))
    failed = next_window()
    with pytest.raises(ValidationFailedError):
        validate_window(stocked, failed, settings, tmp_path / "one")
    add_feedback(stocked, *sound_rows(2))
    report = validate_window(stocked, next_window(), settings, tmp_path / "two")
    assert (report.arrived, report.valid) == (2, 2)
    assert {row.window_id for row in list_quarantined(stocked)} == {failed.window_id}
    assert feedback_rows(stocked) == 2


def test_an_empty_window_is_nothing_to_do(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(NothingToDoError, match="no feedback arrived in window"):
        validate_window(stocked, next_window(), settings, tmp_path / "docs")


def test_each_consumer_learns_what_another_has_quarantined_before(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    add_feedback(stocked, *sound_rows(3), {"item_id": "new"})
    hourly, nightly = next_window("hourly"), next_window("nightly")
    validate_window(stocked, hourly, settings, tmp_path / "hourly")
    report = validate_window(stocked, nightly, settings, tmp_path / "nightly")
    assert (report.arrived, report.valid, report.reasons) == (4, 3, {"unknown_item": 1})


def test_a_window_of_released_rows_only_is_valid(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    add_feedback(stocked, *sound_rows(3), {"item_id": "new"})
    validate_window(stocked, next_window(), settings, tmp_path / "one")
    (row,) = list_quarantined(stocked)
    release(stocked, row.quarantine_id)
    report = validate_window(stocked, next_window(), settings, tmp_path / "two")
    assert (report.arrived, report.valid, report.failed) == (1, 1, [])
