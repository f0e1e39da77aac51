import threading
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from recsys.errors import PromotionConflictError, RegistryError
from recsys.promotion import ledger
from recsys.warehouse.tables import promotion_ledger


def _promote(engine, version, expected, run_key=None, actor="tester"):
    return ledger.promote(
        engine,
        version,
        expected,
        reason="better_than_champion",
        explanation="It is better.",
        actor=actor,
        run_key=run_key,
    )


def test_the_first_promotion_makes_a_champion(warehouse):
    assert ledger.champion(warehouse) is None
    _promote(warehouse, "1", None)
    current = ledger.champion(warehouse)
    assert current is not None
    assert (current.model_version, current.sequence, current.previous) == ("1", 1, None)


def test_a_candidate_compared_with_a_former_champion_is_not_promoted(warehouse):
    _promote(warehouse, "1", None)
    _promote(warehouse, "2", "1")
    with pytest.raises(PromotionConflictError, match="version 2 is champion now"):
        _promote(warehouse, "3", "1")
    with pytest.raises(PromotionConflictError):
        _promote(warehouse, "3", None)
    assert ledger.champion(warehouse).model_version == "2"
    assert len(ledger.history(warehouse)) == 2


def test_of_two_promotions_at_once_one_wins_and_the_other_gets_a_conflict(warehouse):
    _promote(warehouse, "1", None)
    for round_number in range(5):
        before = ledger.champion(warehouse).model_version
        barrier = threading.Barrier(2)
        outcomes = {}

        def attempt(version, before=before, barrier=barrier, outcomes=outcomes):
            barrier.wait()
            try:
                _promote(warehouse, version, before, run_key=f"run of {version}")
                outcomes[version] = "won"
            except PromotionConflictError:
                outcomes[version] = "lost"

        names = [f"{round_number}a", f"{round_number}b"]
        threads = [threading.Thread(target=attempt, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes.values()) == ["lost", "won"]
        assert outcomes[ledger.champion(warehouse).model_version] == "won"
    sequences = [entry.champion_sequence for entry in ledger.history(warehouse)]
    assert sequences == [6, 5, 4, 3, 2, 1]


def test_a_number_taken_between_read_and_write_is_a_conflict(warehouse, monkeypatch):
    _promote(warehouse, "1", None)
    stale = ledger.champion(warehouse)
    _promote(warehouse, "2", "1")
    real = ledger._champion
    answers = iter([stale])
    monkeypatch.setattr(ledger, "_champion", lambda *args: next(answers, None) or real(*args))
    with pytest.raises(PromotionConflictError, match="version 2 is champion now"):
        _promote(warehouse, "3", "1")


def test_a_retried_promotion_changes_nothing_even_after_a_rollback(warehouse):
    _promote(warehouse, "1", None)
    first = _promote(warehouse, "2", "1", run_key="nightly")
    assert _promote(warehouse, "2", "1", run_key="nightly") == first
    ledger.change_champion(
        warehouse, action="roll_back", version="1", expected_champion="2",
        reason="person", explanation="Complaints.", actor="ann",
    )  # fmt: skip
    assert _promote(warehouse, "2", "1", run_key="nightly") == first
    assert ledger.champion(warehouse).model_version == "1"


def test_a_run_decides_once(warehouse):
    held = ledger.record_decision(
        warehouse, action="hold", version="2", reason="too_few_users",
        explanation="Three users.", actor="nightly", run_key="run",
    )  # fmt: skip
    again = ledger.record_decision(
        warehouse, action="hold", version="2", reason="too_few_users",
        explanation="Three users.", actor="nightly", run_key="run",
    )  # fmt: skip
    assert again == held
    with pytest.raises(RegistryError, match="already decided to hold version 2"):
        _promote(warehouse, "2", None, run_key="run")


def test_a_held_candidate_leaves_the_champion_and_its_reasons_in_the_ledger(warehouse):
    _promote(warehouse, "1", None)
    checks = [{"name": "enough_users", "verdict": "fail", "observed": 3.0}]
    ledger.record_decision(
        warehouse, action="reject", version="2", reason="worse_than_champion",
        explanation="It is worse.", checks=checks, actor="nightly",
    )  # fmt: skip
    newest = ledger.history(warehouse)[0]
    assert newest.checks == checks
    assert newest.previous_champion == "1"
    assert newest.champion_sequence is None
    assert ledger.champion(warehouse).model_version == "1"


@pytest.mark.parametrize(
    "statement",
    [
        sa.update(promotion_ledger).values(actor="someone else"),
        sa.delete(promotion_ledger),
        sa.text("TRUNCATE promotion_ledger"),
    ],
)
def test_the_ledger_is_append_only(warehouse, statement):
    _promote(warehouse, "1", None)
    with pytest.raises(DatabaseError, match="append-only"), warehouse.begin() as connection:
        connection.execute(statement)
    assert ledger.champion(warehouse).actor == "tester"


def test_the_ledger_names_the_version_that_each_promotion_replaced(warehouse):
    for version, before in (("1", None), ("2", "1"), ("3", "2")):
        _promote(warehouse, version, before)
    assert ledger.replaced_by(warehouse, "3") == "2"
    assert ledger.replaced_by(warehouse, "2") == "1"
    assert ledger.replaced_by(warehouse, "1") is None
    assert ledger.was_champion(warehouse, "2")
    assert not ledger.was_champion(warehouse, "9")


def test_the_champion_of_a_past_moment_is_the_one_whose_change_came_last(warehouse):
    with warehouse.begin() as connection:
        for sequence, (version, day) in enumerate((("1", 2), ("2", 9), ("1", 12)), start=1):
            connection.execute(
                sa.insert(promotion_ledger).values(
                    action="promote" if sequence < 3 else "roll_back", model_version=version, reason="x",
                    champion_sequence=sequence, explanation="x", actor="x",
                    decided_at=datetime(2026, 3, day, tzinfo=UTC),
                )
            )  # fmt: skip
    found = [ledger.champion_at(warehouse, datetime(2026, 3, day, 12, tzinfo=UTC)) for day in (1, 8, 10, 20)]
    assert found == [None, "1", "2", "1"]
