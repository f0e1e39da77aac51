"""Which version users prefer when both pick the items of their lists, and when nothing may be said."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.experiments import validity, winner
from recsys.experiments.preference import MIN_ANSWERING, Interleaved
from recsys.experiments.readout import Readout, read_out
from recsys.experiments.winner import promote_winner
from recsys.promotion import ledger
from recsys.settings import Settings
from recsys.upkeep import monitoring

START = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
USERS = 2_000


def seen(answered: list[tuple[int, int]], shown: tuple[int, int] = (5, 5)) -> Interleaved:
    users = len(answered)
    return Interleaved(users, np.tile(shown, (users, 1)), np.array(answered, dtype=int).reshape(users, 2))


def test_answers_speak_for_the_version_that_picked_the_item() -> None:
    effect = seen([(1, 2), (0, 1), (0, 0)] * 100).effect()
    assert (effect.control, effect.challenger) == (0.25, 0.75)
    assert effect.difference == pytest.approx(0.5)
    assert effect.standard_error == pytest.approx(np.sqrt(200) / 400)
    assert effect.information == 300


def test_a_robot_with_half_of_all_answers_counts_like_a_busy_person() -> None:
    people = [(1, 1), (1, 0), (0, 1)] * 100
    effect = seen([*people, (0, 600)]).effect()
    assert abs(effect.z) < 1
    assert effect.challenger < 0.51
    assert abs(replace(seen([(0, 0)]), disliked=np.array([*people, (0, 600)])).dislikes().z) < 1


@pytest.mark.parametrize(
    "found",
    [
        seen([(1, 2)] * (MIN_ANSWERING - 1) + [(0, 0)] * 500),
        seen([]),
        seen([(1, 2)] * 500, shown=(6, 4)),
    ],
)
def test_of_few_answers_or_uneven_slots_nothing_is_said(found: Interleaved) -> None:
    assert found.effect().information == 0


def test_coins_make_slots_uneven_in_one_experiment_of_a_thousand() -> None:
    generator = np.random.default_rng(0)
    # One contested place a list, so that a hundred users differ by more than a tenth every third time.
    picked = generator.integers(0, 2, (2_000, 100))
    found = [Interleaved(100, np.stack([1 - own, own], axis=1), np.zeros((100, 2), int)) for own in picked]
    large = [abs(own.mean() - 0.5) > 0.05 for own in picked]
    assert np.mean(large) > 0.2
    assert sum(one.is_uneven for one in found) <= 7  # more than 7 of 2,000: p = .001 if the rate is .001


def test_users_who_differ_a_lot_do_not_widen_the_interval() -> None:
    generator = np.random.default_rng(0)
    answers = generator.poisson(generator.gamma(0.3, 10, 5_000))
    of_challenger = generator.binomial(answers, 0.5)
    effect = seen(list(zip(answers - of_challenger, of_challenger, strict=True))).effect()
    assert effect.standard_error < 1.3 / np.sqrt(answers.sum())


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts of the alerts that were sent."""
    texts: list[str] = []
    monkeypatch.setattr(monitoring, "send_alert", lambda _settings, text: texts.append(text))
    return texts


@pytest.fixture
def shop(warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> sa.Engine:
    """Version 1 as champion, and lists that it and version 2 interleave for half of the users since START."""
    monkeypatch.setattr(validity, "load_version", lambda *_: None)
    monkeypatch.setattr(validity, "serving_term", lambda *_: None)
    run(
        warehouse,
        "insert into users (user_id, user_key)"
        f" select 'user' || n, md5(n::text) from generate_series(1, {USERS}) as n",
    )
    ledger.promote(warehouse, "1", None, reason="test", explanation="It is a test.", actor="tests")
    run(
        warehouse,
        """
        insert into experiments (
            name, challenger, champion, challenger_share, salt, success, guardrails, days, started_by,
            started_at, shown_since, kind
        )
        values ('first', '2', '1', 0.5, 'salt', '{preference}', '{}', 28, 'me', :now, :now, 'interleave')
        """,
        now=START,
    )
    with warehouse.begin() as connection:
        ledger.record_experiment(
            connection, version="2", reason="experiment_started", explanation="", checks=[], actor="me"
        )
    publish(warehouse, 0, "{t,f,t,f}")
    return warehouse


def run(engine: sa.Engine, statement: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)


def publish(engine: sa.Engine, day: float, picks: str) -> None:
    """Publish items 1 to 4 to users of the experiment; `picks` says which ones the challenger has picked."""
    run(
        engine,
        "insert into interleaved_lists select 1, user_id, :at, '{1,2,3,4}', cast(:picks as boolean[])"
        " from users where experiment_arm(user_key, 'salt', 0.5, 0) = 'challenger'",
        at=START + day * DAY, picks=picks,
    )  # fmt: skip


def show(engine: sa.Engine, day: float, answers: dict[str, float], **columns: Any) -> None:
    """Show each user items 1 to 4; shares of the users answer each item, others each day."""
    values = {"version": "1+2", "type": "view", "later": timedelta(minutes=1)} | columns
    run(
        engine,
        """
        with shown as (
            insert into impressions (impression_id, user_id, item_ids, placement, model_version, shown_at)
            select
                gen_random_uuid(), user_id, cast(:items as text[]), 'home',
                case experiment_arm(user_key, 'salt', 0.5, 0) when 'challenger' then :version else '1' end,
                :at
            from users
            returning impression_id, user_id
        )
        insert into feedback (user_id, item_id, event_type, impression_id, occurred_at)
        select user_id, item, :type, impression_id, :at + :later
        from shown
        cross join unnest(cast(:answered as text[]), cast(:shares as float[])) as answer (item, share)
        where ('x' || substr(md5(user_id || :at || item), 1, 8))::bit(32)::bigint / 4294967296.0 < share
        """,
        at=START + day * DAY, answered=[*answers], shares=[*answers.values()],
        **{"items": ["1", "2", "3", "4"]} | values,
    )  # fmt: skip


def look(engine: sa.Engine, settings: Settings, day: float) -> Readout:
    until = START + day * DAY
    return read_out(engine, settings, run_key=f"day {day}", until=until, now=until)


EQUAL = {"1": 0.1, "2": 0.1, "3": 0.05, "4": 0.05}
BETTER = {"1": 0.2, "2": 0.1, "3": 0.1, "4": 0.05}


def test_a_preference_ends_it_with_evidence_and_promotes_nobody(
    shop: sa.Engine, settings: Settings, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(4):
        show(shop, day + 0.5, BETTER)
    found = look(shop, settings, 10)
    [row] = found.readings
    assert (found.outcome, row["metric"], row["verdict"]) == ("challenger_preferred", "preference", "better")
    assert row["challenger"] == pytest.approx(2 / 3, abs=0.02)
    assert 0 < row["low"] < row["difference"]
    [entry, *_] = ledger.history(shop)
    assert (entry.reason, entry.checks) == ("challenger_preferred", found.readings)
    assert "users prefer what version 2 picks" in entry.explanation
    tags: list[dict[str, str]] = []
    monkeypatch.setattr(winner, "tag_version", lambda _settings, _version, tag: tags.append(tag))
    required = settings.model_copy(
        update={"gate": settings.gate.model_copy(update={"require_experiment": True})}
    )
    assert promote_winner(shop, required, 1, run_key="run", now=START) is None
    assert tags == [{"recsys.experiment": "first: challenger_preferred"}]
    assert sent == []


def test_a_slate_is_read_by_the_list_that_was_published_when_it_was_shown(
    shop: sa.Engine, settings: Settings
) -> None:
    for day in range(3):
        show(shop, day + 0.5, BETTER)
    publish(shop, 3, "{f,t,f,t}")
    for day in range(3, 6):
        show(shop, day + 0.5, BETTER)
    [row] = look(shop, settings, 10).readings
    assert row["challenger"] == pytest.approx(0.5, abs=0.03)


def test_the_champions_items_may_be_preferred(shop: sa.Engine, settings: Settings) -> None:
    for day in range(4):
        show(shop, day + 0.5, {"2": 0.2, "1": 0.1, "4": 0.1, "3": 0.05})
    assert look(shop, settings, 10).outcome == "champion_preferred"


def test_without_a_preference_it_runs_until_its_time_is_over(shop: sa.Engine, settings: Settings) -> None:
    for day in (0.5, 5.5, 20.5):
        show(shop, day, EQUAL)
        assert look(shop, settings, day + 1).outcome == "running"
    assert look(shop, settings, 28).outcome == "no_preference_shown"


@pytest.mark.parametrize(
    ("answers", "columns", "outcome"),
    [
        ({}, {}, "hardly_answered"),
        (BETTER, {"type": "dislike"}, "hardly_answered"),
        (BETTER, {"later": timedelta(hours=-3)}, "hardly_answered"),
        (BETTER, {"items": ["1", "3", "4"]}, "slots_uneven"),
        (BETTER, {"version": "1"}, "arms_mixed"),
        (BETTER, {"version": "2"}, "arms_mixed"),
        (BETTER, {"version": "no such version"}, "sample_ratio_mismatch"),
    ],
)
def test_a_broken_log_ends_it_with_its_reason_and_no_preference(
    shop: sa.Engine, settings: Settings, answers: dict[str, float], columns: dict[str, Any], outcome: str
) -> None:
    show(shop, 0.5, answers, **columns)
    found = look(shop, settings, 28)
    assert found.outcome == outcome
    assert found.readings[0]["verdict"] == "open"


def test_items_that_are_disliked_break_a_guardrail_whatever_is_preferred(
    shop: sa.Engine, settings: Settings, sent: list[str]
) -> None:
    run(shop, "alter table experiments disable trigger user")
    run(shop, """update experiments set guardrails = '{"dislikes": 0.2}'""")
    for day in range(2):
        show(shop, day + 0.5, BETTER)
        show(shop, day + 0.7, {"1": 0.2, "2": 0.1}, type="dislike")
    found = look(shop, settings, 10)
    preferred, disliked = found.readings
    assert (found.outcome, preferred["verdict"]) == ("guardrail_broken", "better")
    assert (disliked["metric"], disliked["verdict"]) == ("dislikes", "worse")
    # Half of the slates are answered and the others are disliked.
    assert disliked["challenger"] == pytest.approx(0.1, abs=0.01)
    assert disliked["control"] == pytest.approx(0.05, abs=0.01)
    assert "version 2 breaks a guardrail" in sent[0]


def test_slates_in_quarantine_speak_for_nobody(shop: sa.Engine, settings: Settings) -> None:
    show(shop, 0.5, EQUAL)
    show(shop, 1.5, {"1": 0.9})
    run(
        shop,
        "insert into quarantined_impressions (impression_id, shown_at, transaction_id, reasons)"
        " select impression_id, shown_at, transaction_id, '{shown_twice}' from impressions"
        " where shown_at > :at",
        at=START + DAY,
    )
    [row] = look(shop, settings, 10).readings
    assert row["challenger"] == pytest.approx(0.5, abs=0.1)


def test_what_both_versions_wanted_speaks_for_nobody(shop: sa.Engine, settings: Settings) -> None:
    publish(shop, 0.1, "{null,f,t,null}")
    show(shop, 0.5, {"1": 0.9, "2": 0.2, "3": 0.2, "4": 0.9})
    [row] = look(shop, settings, 2).readings
    assert row["challenger"] == pytest.approx(0.5, abs=0.06)


def test_what_neither_version_picked_speaks_for_nobody(shop: sa.Engine, settings: Settings) -> None:
    show(shop, 0.5, EQUAL | {"pinned": 0.9}, items=["pinned", "1", "2", "3", "4"])
    [row] = look(shop, settings, 2).readings
    assert row["challenger"] == pytest.approx(0.5, abs=0.1)
