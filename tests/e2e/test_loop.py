"""The DAGs under the real scheduler: what a night, an hour, a publication, a rollback and housekeeping do."""

from recsys.warehouse.tables import windows
from tests.e2e.conftest import Demo, Idle, Reaction
from tests.e2e.stack import Stack, Warehouse, name_of


def test_a_night_without_feedback_is_skipped(idle: Idle) -> None:
    night = idle.runs["nightly_training"]
    assert night.state == "success"
    assert night.tasks["open_window"] == "success"
    assert set(night.tasks.values()) == {"success", "skipped"}
    assert night.tasks["fine_tune"] == "skipped"


def test_an_hour_without_champion_is_skipped_with_the_reason_and_leaves_the_feedback(
    idle: Idle, stack: Stack
) -> None:
    hour = idle.runs["hourly_micro_update"]
    assert hour.tasks["open_window"] == "skipped"
    assert "run nightly_training first" in stack.log_file(hour.dag_id, hour.run_id, "open_window").read_text()


def test_a_night_validates_trains_evaluates_registers_and_promotes_a_first_champion(demo: Demo) -> None:
    tables = demo.warehouse.tables
    night, _ = (window for window in tables["windows"] if window["arrived"] > 0)
    assert night["consumer"] == "nightly_training"
    assert night["arrived"] == night["valid"] + night["quarantined"] + night["duplicates"]
    held = {tuple(row["reasons"]) for row in tables["quarantine"]}
    assert ("unknown_item",) in held
    first = min(tables["promotion_ledger"], key=lambda row: row["ledger_id"])
    assert (first["action"], first["model_version"], first["previous_champion"]) == ("promote", "1", None)
    scorers = {row["scorer"] for row in tables["model_evaluations"] if row["run_key"] == first["run_key"]}
    assert {"candidate", "popularity", "collaborative_filtering"} <= scorers


def test_an_hour_updates_the_champion_with_the_fresh_feedback(demo: Demo) -> None:
    tables = demo.warehouse.tables
    _, hour = (window for window in tables["windows"] if window["arrived"] > 0)
    assert hour["consumer"] == "hourly_micro_update"
    assert hour["valid"] == hour["arrived"]
    last = max(tables["promotion_ledger"], key=lambda row: row["ledger_id"])
    assert (last["action"], last["model_version"], last["previous_champion"]) == ("promote", "2", "1")


def test_publishing_gives_every_user_available_items_that_are_new_to_them(demo: Demo, stack: Stack) -> None:
    tables = demo.warehouse.tables
    lists = tables["recommendation_lists"]
    consumed = {(row["user_id"], row["item_id"]) for row in tables["feedback"]}
    assert {row["user_id"] for row in lists} == {name_of(user) for user in stack.world.taste}
    assert all((row["user_id"], item) not in consumed for row in lists for item in row["item_ids"])
    assert {row["model_version"] for row in tables["publications"]} == {"1", "2"}


def test_the_publication_after_an_hour_gives_new_lists_to_users_with_fresh_feedback(demo: Demo) -> None:
    tables = demo.warehouse.tables
    _, hour = (window for window in tables["windows"] if window["arrived"] > 0)
    start = hour["lower_transaction_id"]
    fresh = {row["user_id"] for row in tables["feedback"] if row["transaction_id"] >= start}
    assert fresh
    for table in ("recommendation_lists", "user_vectors"):
        versions = {row["user_id"]: row["model_version"] for row in tables[table]}
        assert {versions[user] for user in fresh} == {"2"}, table


def test_the_same_hour_again_learns_nothing_twice(hour_again: tuple[int, int]) -> None:
    before, after = hour_again
    assert after == before == 2


def test_an_hour_with_too_little_to_learn_from_still_refreshes_who_reacted(reaction: Reaction) -> None:
    assert reaction.decisions_after == reaction.decisions_before
    assert reaction.item_id not in reaction.item_ids_after
    assert reaction.version_after == reaction.champion
    assert reaction.events_after == reaction.events_before + 1


def test_rolling_back_restores_version_and_recommendations(rolled_back: Warehouse) -> None:
    last = max(rolled_back.tables["promotion_ledger"], key=lambda row: row["ledger_id"])
    assert (last["action"], last["model_version"]) == ("roll_back", "1")
    assert last["explanation"] == "a test of the way back"
    for table in ("recommendation_lists", "user_vectors", "item_vectors"):
        assert {row["model_version"] for row in rolled_back.tables[table]} == {"1"}, table


def test_housekeeping_finds_that_all_windows_add_up(stack: Stack, housekept: None) -> None:
    found = stack.rows(windows, windows.c.arrived > 0)
    assert len(found) >= 3
    for window in found:
        assert window.valid + window.quarantined + window.duplicates + window.erased == window.arrived
