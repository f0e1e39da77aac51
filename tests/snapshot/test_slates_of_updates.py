"""Lists that an hourly update knows: the latest until its window's end, whatever its parent has counted."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from recsys.settings import Settings
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.guard import are_guard_users
from recsys.snapshot.micro import take_micro_snapshot
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.reference import SnapshotRef, TrainedThrough
from recsys.snapshot.slates import Slates
from recsys.training import run
from recsys.training.job import TrainingJob
from recsys.validation.impressions import judge_impressions
from recsys.warehouse.pseudonyms import user_key
from recsys.warehouse.windows import open_window
from tests.snapshot.test_slates import show
from tests.snapshot.warehouse_rows import add_feedback, add_items, add_users, at

LATEST = 9_000
"""Minute of the latest feedback, which is held out."""


@pytest.fixture
def hourly(settings: Settings) -> Settings:
    micro = settings.micro_update.model_copy(update={"min_fresh_events": 1, "guard_share": 0.0})
    return settings.model_copy(update={"micro_update": micro})


@pytest.fixture
def night(warehouse: sa.Engine, hourly: Settings) -> TrainedThrough:
    """Two users, two lists, and a full snapshot that knows them."""
    add_items(warehouse, "a", "b", "c")
    add_users(warehouse, "ann", "bob")
    add_feedback(warehouse, [("ann", "a", 1), ("bob", "a", 2), ("ann", "b", 3), ("bob", "b", 100)])
    show(warehouse, "early", "ann", ["c", "b"], 10)
    show(warehouse, "broken", "ann", ["c", "a"], 11, propensities=[1.0, 0.0])
    window = open_window(warehouse, "nightly", "night")
    return read_snapshot(take_full_snapshot(warehouse, window, hourly)).trained_through


def update(engine: sa.Engine, settings: Settings, parent: TrainedThrough, name: str) -> Snapshot:
    """Take the snapshot of an hour in which something happened that can be held out."""
    minutes = LATEST + int(name.removeprefix("hour "))
    add_feedback(engine, [("ann", "a", minutes - 0.5), ("bob", "c", minutes)])
    window = open_window(engine, "hourly", name)
    return read_snapshot(take_micro_snapshot(engine, window, settings, parent))


def known(snapshot: Snapshot) -> dict[float, list[bool]]:
    """Return what was answered in each list that the update may know, by the minute when it was shown."""
    slates = snapshot.slates()
    assert isinstance(slates, Slates)
    slates = slates.before(snapshot.held_out_from)
    minutes = (slates.shown_at / 60e6 - at(0).timestamp() / 60).tolist()
    assert len(set(minutes)) == len(minutes), "a list that is known twice"
    answered = [slates.answered[slates.offsets[n] : slates.offsets[n + 1]] for n in range(len(slates))]
    return {round(minute): found.tolist() for minute, found in zip(minutes, answered, strict=True)}


def test_each_list_and_each_answer_counts_once_along_a_chain_with_a_held_update(
    warehouse: sa.Engine, hourly: Settings, night: TrainedThrough
) -> None:
    show(warehouse, "late", "bob", ["a", "c"], 5)
    show(warehouse, "first hour", "bob", ["b", "a"], 200)
    add_feedback(warehouse, [("bob", "b", 201)], impression_id="first hour")
    first = update(warehouse, hourly, night, "hour 1")
    expected = {5: [False, False], 10: [False, False], 11: [False, False], 200: [True, False]}
    assert known(first) == expected

    show(warehouse, "second hour", "ann", ["a"], 300)
    add_feedback(warehouse, [("ann", "b", 301)], impression_id="early")
    expected |= {10: [False, True], 300: [False]}
    after_held = update(warehouse, hourly, night, "hour 2")
    after_promoted = update(warehouse, hourly, first.trained_through, "hour 3")
    assert known(after_held) == known(after_promoted) == expected


def test_held_out_answers_are_not_known_to_an_update(
    warehouse: sa.Engine, hourly: Settings, night: TrainedThrough
) -> None:
    show(warehouse, "answered in the held-out part", "ann", ["c", "b"], 200)
    add_feedback(warehouse, [("ann", "c", LATEST + 1)], impression_id="answered in the held-out part")
    assert known(update(warehouse, hourly, night, "hour 1"))[200] == [False, False]


def test_lists_in_quarantine_and_of_erased_users_are_forgotten_by_the_hour(
    warehouse: sa.Engine, hourly: Settings, night: TrainedThrough
) -> None:
    show(warehouse, "of bob", "bob", ["c", "b"], 12)
    judge_impressions(warehouse, hourly.validation)
    assert set(known(update(warehouse, hourly, night, "hour 1"))) == {10, 12}
    with warehouse.begin() as connection:
        connection.execute(sa.text("INSERT INTO erasure_requests (user_id) VALUES ('ann')"))
    assert set(known(update(warehouse, hourly, night, "hour 2"))) == {12}


def test_an_update_knows_no_list_of_guard_users(
    warehouse: sa.Engine, hourly: Settings, night: TrainedThrough
) -> None:
    micro = hourly.micro_update.model_copy(update={"guard_share": 0.5})
    guarded = hourly.model_copy(update={"micro_update": micro})
    users = [f"user {number}" for number in range(12)]
    add_users(warehouse, *users)
    keys = [user_key(user, hourly.require_pseudonym_key()) for user in users]
    guards = are_guard_users(keys, 0.5)
    assert set(guards) == {True, False}
    for number, user in enumerate(users):
        show(warehouse, user, user, ["a", "b"], 400 + number)
        add_feedback(warehouse, [(user, "c", 500 + number)])
    found = update(warehouse, guarded, night, "hour 1").slates()
    assert found is not None
    assert set(found.user_keys) & set(keys) == {
        key for key, guard in zip(keys, guards, strict=True) if not guard
    }


def test_training_is_given_the_lists_if_the_parent_has_appeal(
    warehouse: sa.Engine,
    hourly: Settings,
    night: TrainedThrough,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    show(warehouse, "held out", "bob", ["a", "b"], LATEST + 5)
    snapshot = update(warehouse, hourly, night, "hour 1")
    ref = SnapshotRef(snapshot.uri, snapshot.manifest.digest, "micro", snapshot.manifest.rows, 1)
    job = TrainingJob.of(hourly, "micro", ref, tmp_path, tmp_path)
    given: list[Slates | None] = []
    monkeypatch.setattr(run, "fit_micro", lambda *_, slates, **__: given.append(slates))
    parent = SimpleNamespace(appeal=None)
    parent.with_event_types = parent.with_catalogue = lambda _: parent
    monkeypatch.setattr(run, "load_recommender", lambda *_, **__: parent)
    for appeal in (None, "some"):
        parent.appeal = appeal
        run._fit(job, snapshot, lambda _: None, None)
    without, with_appeal = given
    assert without is None
    assert with_appeal is not None
    assert len(with_appeal) == 2
