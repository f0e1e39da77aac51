from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from urllib.parse import unquote, urlparse

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.errors import NothingToDoError, ValidationFailedError
from recsys.publishing.histories import read_horizon
from recsys.settings import Settings, ValidShareBounds
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.micro import take_micro_snapshot
from recsys.snapshot.reference import TrainedThrough
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.upkeep.housekeeping import keep_house
from recsys.validation.quarantine import list_quarantined, release
from recsys.validation.validate import ValidationReport, validate_window
from recsys.warehouse.pseudonyms import fill_user_keys
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import items, users, validation_results
from recsys.warehouse.windows import Window, reconcile_window
from tests.validation.conftest import NOON, add_feedback, sound_rows

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
    assert report.failed == ["duplicate_content", "unknown_item", "unknown_user", "valid_share"]
    results = stored(stocked, window)
    assert results["unknown_user"] == (False, {"unexpected_rows": 1})
    assert results["malformed_time"] == (True, {"unexpected_rows": 0})
    assert results["valid_share"] == (False, {"valid_share": pytest.approx(5 / 7)})  # a warning


def test_a_retry_gives_the_same_report_and_moves_nothing_more(
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


def test_two_concurrent_attempts_give_the_same_report_and_move_each_row_once(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    add_feedback(stocked, *sound_rows(20), *({"item_id": f"new {number}"} for number in range(5)))
    window = next_window()
    both_begin = Barrier(2)

    def attempt(name: str) -> ValidationReport:
        both_begin.wait()
        return validate_window(stocked, window, settings, tmp_path / name)

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(attempt, ("one worker", "another worker")))
    assert replace(reports[0], data_docs="") == replace(reports[1], data_docs="")
    assert (reports[0].arrived, reports[0].valid, reports[0].quarantined) == (25, 20, 5)
    assert len(list_quarantined(stocked)) == 5
    assert reconcile_window(stocked, window.window_id).balanced


def test_data_docs_show_every_expectation_and_no_personal_data(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    secret = "a secret opinion"
    add_feedback(stocked, *sound_rows(4), {"user_id": "nobody-in-particular", "comment": secret + "\x01"})
    report = validate_window(stocked, next_window(), settings, tmp_path / "docs")
    index = Path(unquote(urlparse(report.data_docs).path))
    assert "row-rules" in index.read_text()
    assert sum(file.stat().st_size for file in index.parent.rglob("*") if file.is_file()) < 500_000
    pages = "".join(page.read_text() for page in index.parent.rglob("*.html"))
    assert "comment_too_long_or_binary: A comment that is longer than 10000 characters" in pages
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
    assert "valid_share: observed valid_share 0.25, expected warn_min 0.9, fail_min 0.5" in message
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


def test_each_consumer_reports_rows_that_another_has_quarantined(
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
    assert (report.arrived, report.valid, report.reasons) == (1, 1, {})


def test_contradictory_feedback_can_stay_with_a_lower_weight_of_its_user(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    lenient = with_limits(settings, noisy_feedback="down_weight")
    add_feedback(stocked, *sound_rows(6), {}, {"event_type": "dislike"}, {"user_id": "bob"})
    broken = {"event_type": "dislike", "item_id": "new", "occurred_at": NOON}
    add_feedback(stocked, broken | {"event_type": "like"}, broken)
    hourly, nightly = next_window("hourly"), next_window("nightly")
    report = validate_window(stocked, hourly, lenient, tmp_path / "hourly")
    # A row that also breaks another rule is quarantined.
    assert (report.valid, report.quarantined) == (9, 2)
    assert report.down_weighted == 2
    assert "contradictory" in report.failed
    validate_window(stocked, nightly, lenient, tmp_path / "nightly")
    assert weights(stocked, nightly, lenient) == {"ann": pytest.approx(1 - 2 / 8), "bob": 1}


def test_the_weight_of_a_bot_is_at_least_the_minimum(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    lenient = with_limits(settings, noisy_feedback="down_weight", max_events_per_minute=3)
    burst = [{"occurred_at": NOON + timedelta(seconds=number)} for number in range(8)]
    add_feedback(stocked, *burst, {"user_id": "bob"})
    window = next_window()
    validate_window(stocked, window, lenient, tmp_path / "docs")
    assert weights(stocked, window, lenient) == {"ann": pytest.approx(0.1), "bob": 1}
    # With the other setting, the next window over these rows quarantines them.
    strict = with_limits(settings, max_events_per_minute=3, valid_share=ValidShareBounds(fail_min=None))
    again = next_window("another consumer")
    assert validate_window(stocked, again, strict, tmp_path / "docs").quarantined == 8
    assert weights(stocked, again, strict) == {"bob": 1}
    add_feedback(stocked, *({"occurred_at": NOON + timedelta(hours=hour)} for hour in range(2)))
    assert weights(stocked, next_window(), strict) == {"ann": 1, "bob": 1}


def test_a_snapshot_uses_only_noise_from_before_the_end_of_its_window(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    lenient = with_limits(settings, noisy_feedback="down_weight")
    add_feedback(stocked, *sound_rows(2))
    early = next_window()
    add_feedback(stocked, {}, {"event_type": "dislike"})
    validate_window(stocked, next_window(), lenient, tmp_path / "docs")
    assert weights(stocked, early, lenient) == {"ann": 1}


def test_erasing_a_user_deletes_records_of_noise(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    lenient = with_limits(settings, noisy_feedback="down_weight")
    add_feedback(stocked, {}, {"event_type": "dislike"})
    validate_window(stocked, next_window(), lenient, tmp_path / "docs")
    request_erasure(stocked, "ann")
    erase_requested(stocked, settings.snapshots)
    with stocked.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM noisy_feedback")) == 0


def with_limits(settings: Settings, **limits: object) -> Settings:
    return settings.model_copy(update={"validation": settings.validation.model_copy(update=limits)})


def weights(engine: sa.Engine, window: Window, settings: Settings) -> dict[str, float]:
    """Return the weight of each user in a micro snapshot of all feedback below the window's end."""
    fill_user_keys(engine, settings.require_pseudonym_key())
    parameters = {
        "upper_transaction_id": window.upper_transaction_id,
        "min_noisy_weight": settings.validation.min_noisy_weight,
    }
    never = {
        "parent_transaction_id": 0,
        "parent_occurred_before": NOON,
        "guard_bound": 0,
        "history_events": 0,
    }
    statement = sa.text(read_statement("snapshot/select_micro_snapshot"))
    with engine.connect() as connection:
        names = dict(connection.execute(sa.select(users.c.user_key, users.c.user_id)).all())
        events = connection.execute(statement, parameters | never).all()
    found = {(names[event.user_key], event.weight) for event in events}
    assert len(dict(found)) == len(found)
    return dict(found)


def test_full_and_micro_snapshots_have_the_weight_of_noisy_users(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    lenient = with_limits(settings, noisy_feedback="down_weight").model_copy(
        update={"micro_update": settings.micro_update.model_copy(update={"min_fresh_events": 1})}
    )
    add_feedback(stocked, *sound_rows(6), {}, {"event_type": "dislike"}, {"user_id": "bob"})
    window = next_window()
    validate_window(stocked, window, lenient, tmp_path / "docs")
    nothing = TrainedThrough(0, NOON - timedelta(days=1))
    for snapshot in (
        take_full_snapshot(stocked, window, lenient),
        take_micro_snapshot(stocked, window, lenient, nothing),
    ):
        events = pq.read_table(f"{snapshot.uri}/interactions").to_pandas()
        by_user = events.groupby("user_key")["weight"].agg(["min", "max", "size"])
        found = sorted(tuple(row) for row in by_user.itertuples(index=False))
        assert found == [(0.75, 0.75, 8), (1.0, 1.0, 1)]


def test_a_window_with_warnings_is_settled(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    add_feedback(stocked, *sound_rows(2), {"item_id": "new"})
    window = next_window()
    first = validate_window(stocked, window, settings, tmp_path / "docs")
    assert "valid_share" in first.failed
    page = Path(unquote(urlparse(first.data_docs).path))
    written = page.stat().st_mtime_ns
    assert validate_window(stocked, window, settings, tmp_path / "docs") == first
    assert page.stat().st_mtime_ns == written


def readable(engine: sa.Engine) -> int:
    """Return how many rows of feedback publishing lets the model read."""
    with engine.connect() as connection:
        horizon = read_horizon(connection)
        count = sa.text("SELECT count(*) FROM feedback WHERE transaction_id < :horizon")
        return int(connection.scalar(count, {"horizon": horizon}) or 0)


def test_counting_the_rows_of_a_failed_window_does_not_let_models_read_them(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    broken = [{"item_id": f"new {number}"} for number in range(3)]
    add_feedback(stocked, *sound_rows(4))
    first = next_window()
    validate_window(stocked, first, settings, tmp_path / "docs")
    add_feedback(stocked, *broken)
    failed = next_window()
    with pytest.raises(ValidationFailedError):
        validate_window(stocked, failed, settings, tmp_path / "docs")
    keep_house(stocked, settings, datetime.now(UTC))
    assert reconcile_window(stocked, failed.window_id).balanced
    assert readable(stocked) == 4
    # The next window of the consumer settles the rows of the failed one.
    add_feedback(stocked, *sound_rows(9))
    validate_window(stocked, next_window(), settings, tmp_path / "docs")
    assert readable(stocked) == feedback_rows(stocked) == 9 + 4 - 4


def test_models_read_nothing_of_a_first_window_that_failed(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, tmp_path: Path
) -> None:
    add_feedback(stocked, {"item_id": "new"}, {"item_id": "newer"})
    failed = next_window()
    assert readable(stocked) == 0
    with pytest.raises(ValidationFailedError):
        validate_window(stocked, failed, settings, tmp_path / "docs")
    reconcile_window(stocked, failed.window_id)
    assert readable(stocked) == 0
