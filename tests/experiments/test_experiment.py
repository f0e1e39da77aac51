"""Starting and ending experiments: one at a time, never changed, all in the ledger."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from recsys.errors import ExperimentError
from recsys.experiments.experiment import Experiment, running, start, stop
from recsys.promotion import ledger, serving_term
from recsys.registry import versions
from recsys.settings import Settings

NOW = datetime(2026, 5, 20, tzinfo=UTC)


@pytest.fixture
def champion(warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> sa.Engine:
    """A warehouse with version 1 as champion; every version has whole files."""
    monkeypatch.setattr(versions, "download_checkpoint", lambda *_: None)
    monkeypatch.setattr(serving_term, "refuse_if_over", lambda *_: None)
    ledger.promote(warehouse, "1", None, reason="test", explanation="It is a test.", actor="tests")
    return warehouse


def begin(engine: sa.Engine, settings: Settings, name: str = "first", **options: Any) -> Experiment:
    options = {"share": 0.5, "actor": "me", "now": NOW} | options
    return start(engine, settings, name, options.pop("challenger", "2"), **options)


def test_start_and_stop_are_in_the_ledger(champion: sa.Engine, settings: Settings) -> None:
    started = begin(champion, settings, share=0.1, hold_out=0.05)
    assert started.shares == pytest.approx({"control": 0.85, "challenger": 0.1, "hold_out": 0.05})
    with champion.connect() as connection:
        assert running(connection) == started
    stop(champion, name="first", reason="Enough.", actor="me", now=NOW)
    with champion.connect() as connection:
        assert running(connection) is None
    ended, begun, _ = ledger.history(champion)
    assert (begun.action, begun.reason, begun.model_version) == ("experiment", "experiment_started", "2")
    assert (ended.reason, ended.explanation, ended.actor) == ("stopped_by_person", "Enough.", "me")
    current = ledger.champion(champion)
    assert current is not None
    assert current.model_version == "1"


def test_one_experiment_runs_at_a_time(champion: sa.Engine, settings: Settings) -> None:
    begin(champion, settings, placements=["home"])
    with pytest.raises(ExperimentError, match=r"experiment first runs already.*stop first"):
        begin(champion, settings, "second", placements=["email"])
    stop(champion, name="first", reason="Enough.", actor="me", now=NOW)
    with pytest.raises(ExperimentError, match="there was an experiment named 'first'"):
        begin(champion, settings)
    assert begin(champion, settings, "second").name == "second"


def test_of_two_starts_at_once_one_is_refused(champion: sa.Engine, settings: Settings) -> None:
    def try_to_start(name: str) -> str:
        try:
            return begin(champion, settings, name).name
        except ExperimentError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        names = list(pool.map(try_to_start, ["a", "b", "c", "d"]))
    with champion.connect() as connection:
        only = running(connection)
    assert only is not None
    assert names.count(only.name) == 1
    assert sum(f"experiment {only.name} runs already" in name for name in names) == 3
    assert len([entry for entry in ledger.history(champion) if entry.action == "experiment"]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("challenger_share = 0.6", "users would move between its arms"),
        ("salt = 'another'", "users would move between its arms"),
        ("days = 40", "users would move between its arms"),
    ],
)
def test_what_an_experiment_is_cannot_be_changed(
    champion: sa.Engine, settings: Settings, change: str, message: str
) -> None:
    begin(champion, settings)
    with pytest.raises(DBAPIError, match=message), champion.begin() as connection:
        connection.exec_driver_sql(f"update experiments set {change}")


@pytest.mark.parametrize("statement", ["delete from experiments", "truncate experiments cascade"])
def test_experiments_are_kept(champion: sa.Engine, settings: Settings, statement: str) -> None:
    begin(champion, settings)
    with pytest.raises(DBAPIError, match="experiments are kept"), champion.begin() as connection:
        connection.exec_driver_sql(statement)


def test_an_end_is_final(champion: sa.Engine, settings: Settings) -> None:
    begin(champion, settings)
    stop(champion, name="first", reason="Enough.", actor="me", now=NOW)
    with pytest.raises(DBAPIError, match="has ended"), champion.begin() as connection:
        connection.exec_driver_sql("update experiments set outcome = 'challenger_better'")
    with pytest.raises(ExperimentError, match="no experiment named 'first' is running"):
        stop(champion, name="first", reason="Again.", actor="me", now=NOW)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.0}, "leave no control"),
        ({"share": 0.7, "hold_out": 0.3}, "leave no control"),
        ({"days": 0}, "0 days"),
        ({"success": ["clicks"]}, "no metric 'clicks'; the metrics are click_through"),
        ({"success": []}, "needs success metrics"),
        ({"success": ["slates"]}, "not as a guardrail too"),
        ({"guardrails": {"slates": 5.0}}, "margin 5 of slates is no share"),
        ({"challenger": "1"}, "version 1 is the champion"),
    ],
)
def test_what_cannot_be_is_refused(
    champion: sa.Engine, settings: Settings, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExperimentError, match=message):
        begin(champion, settings, **options)


def test_without_a_champion_there_is_nothing_to_compare_with(
    warehouse: sa.Engine, settings: Settings
) -> None:
    with pytest.raises(ExperimentError, match="no champion"):
        begin(warehouse, settings)


def test_arms_have_their_shares_and_depend_on_the_salt(warehouse: sa.Engine) -> None:
    with warehouse.connect() as connection:

        def arms(salt: str) -> list[str]:
            return list(
                connection.scalars(
                    sa.text(
                        "select experiment_arm(md5(n::text), :salt, 0.3, 0.1)"
                        " from generate_series(1, 20000) as n"
                    ),
                    {"salt": salt},
                )
            )

        first, again, other = arms("a"), arms("a"), arms("b")
    assert first == again
    for arm, share in (("challenger", 0.3), ("hold_out", 0.1), ("control", 0.6)):
        assert first.count(arm) / 20_000 == pytest.approx(share, abs=0.015)
    both = sum(one == two == "challenger" for one, two in zip(first, other, strict=True))
    assert both / 20_000 == pytest.approx(0.09, abs=0.015)
