"""Lists that users were shown, in snapshots."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.errors import SnapshotError
from recsys.settings import Settings
from recsys.snapshot import write
from recsys.snapshot.erasure import erase_from_snapshots
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.sequences import microseconds
from recsys.snapshot.slates import SLATES, Slates
from recsys.snapshot.store import Folder
from recsys.training import run
from recsys.training.job import TrainingJob
from recsys.validation.impressions import judge_impressions, release_impressions
from recsys.warehouse.pseudonyms import user_key
from recsys.warehouse.recipes import apply_recipe
from recsys.warehouse.tables import impressions
from recsys.warehouse.windows import Window, open_window
from tests.snapshot.warehouse_rows import add_feedback, add_items, add_users, at


@pytest.fixture
def shop(warehouse: sa.Engine) -> sa.Engine:
    """Three items and two users with some feedback."""
    add_items(warehouse, "a", "b", "c")
    add_users(warehouse, "ann", "bob")
    add_feedback(warehouse, [("ann", "a", 1), ("bob", "a", 2), ("ann", "b", 3), ("bob", "b", 900)])
    return warehouse


def show(engine: sa.Engine, slate: str, user: str, items: list[str], minutes: float, **columns: Any) -> None:
    row = {"impression_id": slate, "user_id": user, "item_ids": items, "shown_at": at(minutes), **columns}
    with engine.begin() as connection:
        connection.execute(impressions.insert(), [row])


def taken(engine: sa.Engine, settings: Settings) -> Snapshot:
    return read_snapshot(take_full_snapshot(engine, open_window(engine, "nightly", "run"), settings))


def rows(snapshot: Snapshot) -> list[tuple[str, list[str], list[bool]]]:
    """Return user key, items and whether they were answered, of each slate."""
    found = snapshot.slates()
    assert found is not None
    names = [*snapshot.catalogue().item_ids, "unknown"]
    result = []
    for number in range(len(found)):
        place = slice(found.offsets[number], found.offsets[number + 1])
        items = [names[item] for item in found.items[place]]
        result.append((found.user_keys[number], items, found.answered[place].tolist()))
    return result


def test_a_slate_has_its_items_in_order_and_what_was_answered(shop: sa.Engine, settings: Settings) -> None:
    show(shop, "second", "bob", ["a", "c"], 20)
    show(shop, "first", "ann", ["c", "b", "a"], 10)
    add_feedback(shop, [("ann", "b", 11)], impression_id="first")
    key = settings.require_pseudonym_key()
    assert rows(taken(shop, settings)) == [
        (user_key("ann", key), ["c", "b", "a"], [False, True, False]),
        (user_key("bob", key), ["a", "c"], [False, False]),
    ]


def test_a_request_in_words_is_kept_without_addresses_and_numbers(
    shop: sa.Engine, settings: Settings
) -> None:
    asked = ["red shoes", "ask jane@example.com or 0171/1234567", "  ", None]
    for minute, query in enumerate(asked):
        show(shop, f"list {minute}", "ann", ["a", "b"], minute, query=query)
    snapshot = taken(shop, settings)
    found = snapshot.slates()
    assert found is not None
    assert found.requests.tolist() == ["red shoes", "ask [e-mail] or [number]", "", ""]
    assert len(found.unrequested()) == 2
    content = b"".join(path.read_bytes() for path in Path(snapshot.uri).rglob("*") if path.is_file())
    assert b"jane" not in content


def test_lists_of_an_older_snapshot_have_no_requests_and_can_be_erased(
    shop: sa.Engine, settings: Settings
) -> None:
    for user in ("ann", "bob"):
        show(shop, f"of {user}", user, ["a", "b"], 10, query="red shoes")
    ref = take_full_snapshot(shop, open_window(shop, "nightly", "run"), settings)
    folder = Folder(ref.uri)
    manifest = folder.read_manifest()
    with folder.fs.open(f"{folder.path}/{SLATES}.parquet", "rb") as stream:
        table = pq.read_table(stream).drop_columns("query")
    with folder.writing(f"{SLATES}.parquet") as file:
        pq.write_table(table, file.arrow())
    others = [entry for entry in manifest.files if not entry.path.startswith(SLATES)]
    folder.write_manifest(replace(manifest, files=(*others, file.entry)))
    found = read_snapshot(ref.uri).slates()
    assert found is not None
    assert found.requests.tolist() == ["", ""]
    key = settings.require_pseudonym_key()
    erase_from_snapshots(settings.snapshots, {user_key("ann", key)})
    assert [user for user, _, _ in rows(read_snapshot(ref.uri))] == [user_key("bob", key)]


def test_without_lists_the_snapshot_has_no_file_of_them(shop: sa.Engine, settings: Settings) -> None:
    snapshot = taken(shop, settings)
    assert snapshot.slates() is None
    assert not list(Path(snapshot.uri).glob(f"{SLATES}*"))


@pytest.mark.parametrize(
    ("columns", "user", "minutes"),
    [
        ({"event_type": "dislike"}, "ann", 11),
        ({"event_type": "rating", "value": 1.0}, "ann", 11),
        ({"event_type": "purchase", "value": -20.0}, "ann", 11),
        ({"impression_id": "another"}, "ann", 11),
        ({}, "bob", 11),
        ({}, "ann", -60),
    ],
    ids=["dislike", "low rating", "return", "another list", "another user", "hours before the list"],
)
def test_what_is_no_answer(
    shop: sa.Engine, settings: Settings, columns: dict[str, Any], user: str, minutes: float
) -> None:
    apply_recipe(shop, "shop")
    show(shop, "list", "ann", ["a", "b"], 10)
    add_feedback(shop, [(user, "b", minutes)], **{"impression_id": "list", **columns})
    ((_, _, answered),) = rows(taken(shop, settings))
    assert answered == [False, False]


def test_answers_that_come_twice_late_or_from_a_fast_clock_count_once(
    shop: sa.Engine, settings: Settings
) -> None:
    show(shop, "list", "ann", ["a", "b"], 10)
    for minutes in (9, 700, 701):
        add_feedback(shop, [("ann", "b", minutes)], impression_id="list")
    ((_, items, answered),) = rows(taken(shop, settings))
    assert (items, answered) == (["a", "b"], [False, True])


def test_an_item_shown_twice_has_its_first_place_and_an_unknown_one_is_kept_unknown(
    shop: sa.Engine, settings: Settings
) -> None:
    show(shop, "list", "ann", ["b", "gone", "b", "a"], 10, placement="home")
    show(shop, "mail", "ann", ["b"], 11, placement="mail")
    show(shop, "empty", "ann", [], 12)
    snapshot = taken(shop, settings)
    assert [items for _, items, _ in rows(snapshot)] == [["b", "unknown", "a"], ["b"]]
    found = snapshot.slates()
    assert found is not None
    assert (found.place[:3] - found.place[0]).tolist() == [0, 1, 3]
    assert found.place[3] != found.place[0]


def test_only_lists_of_users_who_may_be_trained_on(shop: sa.Engine, settings: Settings) -> None:
    add_users(shop, "eve", consent=False)
    add_users(shop, "joe")
    with shop.begin() as connection:
        connection.execute(sa.text("INSERT INTO erasure_requests (user_id) VALUES ('joe')"))
    for number, user in enumerate(("eve", "joe", "nobody", "ann")):
        show(shop, f"list {number}", user, ["a", "b"], 10)
    ann = user_key("ann", settings.require_pseudonym_key())
    assert [user for user, _, _ in rows(taken(shop, settings))] == [ann]


def test_lists_and_answers_of_the_future_are_not_known(shop: sa.Engine, settings: Settings) -> None:
    show(shop, "list", "ann", ["a", "b"], 10)
    show(shop, "future", "ann", ["a", "b"], 0)
    window = open_window(shop, "nightly", "run")
    with shop.begin() as connection:
        tomorrow = window.opened_at + timedelta(days=1)
        connection.execute(
            impressions.update().where(impressions.c.impression_id == "future").values(shown_at=tomorrow)
        )
    add_feedback(shop, [("ann", "b", 11)], impression_id="list")  # after the window was opened
    snapshot = read_snapshot(take_full_snapshot(shop, window, settings))
    ((_, _, answered),) = rows(snapshot)
    assert answered == [False, False]


def test_a_retry_finds_the_same_slates(shop: sa.Engine, settings: Settings) -> None:
    show(shop, "list", "ann", ["a", "b"], 10)
    window: Window = open_window(shop, "nightly", "run")
    first = take_full_snapshot(shop, window, settings)
    show(shop, "later", "ann", ["a"], 12)
    assert take_full_snapshot(shop, window, settings) == first


def test_of_a_long_log_the_latest_lists_are_read(
    shop: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "MOST_SLATES", 2)
    monkeypatch.setattr(write, "MOST_POSITIONS", 2)
    for number in range(5):
        show(shop, f"list {number}", "ann", ["c", "b", "a"] if number == 4 else ["a"], number)
    assert [items for _, items, _ in rows(taken(shop, settings))] == [["a"], ["c", "b"]]


def test_an_erased_user_is_in_no_file_of_slates(shop: sa.Engine, settings: Settings) -> None:
    add_users(shop, "zoe")  # was shown lists and never did anything
    for number, user in enumerate(("ann", "zoe", "bob")):
        show(shop, f"list {number}", user, ["a", "b"], number)
    ref = take_full_snapshot(shop, open_window(shop, "nightly", "run"), settings)
    key = settings.require_pseudonym_key()
    for name, removed in (("zoe", 0), ("ann", 2)):
        gone = user_key(name, key)
        (rewritten,) = erase_from_snapshots(settings.snapshots, {gone}).rewritten
        assert sum(rewritten.removed.values()) == removed
        files = [path for path in Path(ref.uri).rglob("*") if path.is_file()]
        assert not [path for path in files if gone.encode() in path.read_bytes()]
        assert len([path for path in files if path.name.startswith(SLATES)]) == 1
        assert erase_from_snapshots(settings.snapshots, {gone}).rewritten == []
    assert [user for user, _, _ in rows(read_snapshot(ref))] == [user_key("bob", key)]
    erase_from_snapshots(settings.snapshots, {user_key("bob", key)})
    left = read_snapshot(ref).slates()
    assert left is not None
    assert len(left) == 0


def test_a_damaged_file_of_slates_is_found(shop: sa.Engine, settings: Settings) -> None:
    show(shop, "list", "ann", ["a", "b"], 10)
    ref = take_full_snapshot(shop, open_window(shop, "nightly", "run"), settings)
    file = Path(ref.uri, f"{SLATES}.parquet")
    content = bytearray(file.read_bytes())
    content[50] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(SnapshotError, match=SLATES):
        read_snapshot(ref)


def test_held_out_answers_are_not_known_to_training(shop: sa.Engine, settings: Settings) -> None:
    show(shop, "early", "ann", ["a", "b"], 10)
    show(shop, "answered in the held-out part", "bob", ["a", "b"], 5_000)
    show(shop, "held out", "bob", ["a", "b"], 5_002)
    add_feedback(shop, [("ann", "b", 11)], impression_id="early")
    add_feedback(shop, [("bob", "a", 5_001)], impression_id="answered in the held-out part")
    snapshot = taken(shop, settings)
    found = snapshot.slates()
    assert isinstance(found, Slates)
    known = found.before(snapshot.held_out_from)
    assert (len(found), len(known), known.answered.tolist()) == (3, 2, [False, True, False, False])


def test_training_is_given_the_lists_before_the_held_out_part(
    shop: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    show(shop, "early", "ann", ["a", "b"], 10)
    show(shop, "held out", "bob", ["a", "b"], 5_000)
    given: list[Slates | None] = []
    monkeypatch.setattr(run, "fit_full", lambda *_, slates, **__: given.append(slates))
    ref = take_full_snapshot(shop, open_window(shop, "nightly", "run"), settings)
    job = TrainingJob.of(settings, "full", ref, tmp_path)
    run._fit(job, read_snapshot(ref), lambda _: None, None)
    (known,) = given
    assert known is not None
    assert known.user_keys.tolist() == [user_key("ann", settings.require_pseudonym_key())]


def test_held_slates_and_those_that_came_after_the_window_are_left_out(
    shop: sa.Engine, settings: Settings
) -> None:
    show(shop, "sound", "ann", ["a", "b"], 10)
    show(shop, "broken", "ann", ["a", "b"], 11, propensities=[1.0, 0.0])
    show(shop, "released", "ann", ["a", "b"], 12, query="\x01")
    judge_impressions(shop, settings.validation)
    release_impressions(shop, "query_too_long_or_binary", "tests")
    window = open_window(shop, "nightly", "run")
    show(shop, "after", "ann", ["a", "b"], 13)
    found = read_snapshot(take_full_snapshot(shop, window, settings)).slates()
    assert found is not None
    assert (found.shown_at == [microseconds(at(minute)) for minute in (10, 12)]).all()
