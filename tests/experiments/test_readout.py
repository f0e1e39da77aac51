"""What a look at an experiment reads, decides and leaves behind."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import NothingToDoError, RegistryError
from recsys.experiments import arms, readout, validity, winner
from recsys.experiments.effects import Moments
from recsys.experiments.experiment import stop
from recsys.experiments.readout import Readout, latest_readout, read_out
from recsys.experiments.winner import promote_winner
from recsys.pipeline.context import Context, Run
from recsys.pipeline.experimenting import read_experiment
from recsys.promotion import ledger
from recsys.settings import Settings
from recsys.upkeep import monitoring
from recsys.warehouse.recipes import apply_recipe

START = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts of the alerts that were sent."""
    texts: list[str] = []
    monkeypatch.setattr(monitoring, "send_alert", lambda _settings, text: texts.append(text))
    return texts


@pytest.fixture
def shop(warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> sa.Engine:
    """4,000 users, version 1 as champion, and an experiment with version 2 since START."""
    monkeypatch.setattr(validity, "load_version", lambda *_: None)
    monkeypatch.setattr(validity, "serving_term", lambda *_: None)
    run(
        warehouse,
        "insert into users (user_id, user_key)"
        " select 'user' || n, md5(n::text) from generate_series(1, 4000) as n",
    )
    ledger.promote(warehouse, "1", None, reason="test", explanation="It is a test.", actor="tests")
    run(
        warehouse,
        """
        insert into experiments (
            name, challenger, champion, challenger_share, salt, success, guardrails, days, started_by,
            started_at, shown_since
        )
        values (
            'first', '2', '1', 0.5, 'salt', '{click_through}', '{"slates": 0.2}', 28, 'me', :now, :now
        )
        """,
        now=START,
    )
    with warehouse.begin() as connection:
        [experiment] = [validity.running(connection)]
        assert experiment is not None
        ledger.record_experiment(
            connection, version="2", reason="experiment_started", explanation="", checks=[], actor="me"
        )
    return warehouse


def run(engine: sa.Engine, statement: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)


def show(
    engine: sa.Engine,
    day: float,
    *,
    control: float = 0.3,
    challenger: float = 0.3,
    where: str = "true",
    **columns: Any,
) -> None:
    """Show each user a slate; shares of the users of each arm answer it, others each day."""
    values = {
        "version_of": None,
        "item": "1",
        "type": "view",
        "value": None,
        "later": timedelta(minutes=1),
    } | columns
    run(
        engine,
        f"""
        with shown as (
            insert into impressions (impression_id, user_id, item_ids, placement, model_version, shown_at)
            select
                gen_random_uuid(), user_id, '{{1,2}}', 'home',
                coalesce(:version_of, case arm when 'challenger' then '2' else '1' end), :at
            from (
                select *, experiment_arm(user_key, 'salt', 0.5, 0) as arm from users
            ) as users
            where {where}
            returning impression_id, user_id, model_version
        )
        insert into feedback (user_id, item_id, event_type, value, impression_id, occurred_at)
        select shown.user_id, :item, :type, :value, impression_id, :at + :later
        from shown join users using (user_id)
        where ('x' || substr(md5(shown.user_id || :at), 1, 8))::bit(32)::bigint / 4294967296.0
            < case experiment_arm(user_key, 'salt', 0.5, 0)
                when 'challenger' then :challenger else :control
            end
        """,
        at=START + day * DAY, control=control, challenger=challenger, **values,
    )  # fmt: skip


def look(engine: sa.Engine, settings: Settings, day: float, key: str | None = None) -> Readout:
    until = START + day * DAY
    return read_out(engine, settings, run_key=key or f"day {day}", until=until, now=until)


def reading(found: Readout, metric: str = "click_through") -> dict[str, Any]:
    return next(row for row in found.readings if row["metric"] == metric)


def ended(engine: sa.Engine) -> Any:
    with engine.connect() as connection:
        return connection.execute(sa.text("select * from experiments")).one()


def test_a_better_challenger_wins_with_its_evidence_in_the_ledger(
    shop: sa.Engine, settings: Settings, sent: list[str]
) -> None:
    for day in (-3.5, -2.5):
        show(shop, day)
    for day in (0.5, 1.5, 2.5, 3.5, 4.5):
        show(shop, day, challenger=0.4)
    found = look(shop, settings, 14)
    assert found.outcome == "challenger_better"
    assert found.users["control"] + found.users["challenger"] == 4_000
    row = reading(found)
    assert row["control"] == pytest.approx(0.3, abs=0.02)
    assert row["challenger"] == pytest.approx(0.4, abs=0.02)
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert ended(shop).outcome == "challenger_better"
    [entry, *_] = ledger.history(shop)
    assert (entry.action, entry.reason, entry.model_version) == ("experiment", "challenger_better", "2")
    assert entry.checks == found.readings
    assert sent == []
    with pytest.raises(NothingToDoError, match="no experiment is running"):
        look(shop, settings, 15)


def test_without_a_difference_it_runs_until_its_time_is_over(shop: sa.Engine, settings: Settings) -> None:
    for day in (0.5, 5.5, 10.5, 20.5):
        show(shop, day)
        assert look(shop, settings, day + 1).outcome == "running"
    assert look(shop, settings, 28).outcome == "no_difference_shown"


def test_a_retry_finds_the_look_and_another_run_of_the_same_time_has_nothing_to_do(
    shop: sa.Engine, settings: Settings
) -> None:
    show(shop, 0.5)
    first = look(shop, settings, 1, "run")
    show(shop, 0.6)
    assert look(shop, settings, 1, "run") == first
    with pytest.raises(NothingToDoError, match="was read until"):
        look(shop, settings, 1, "another run")


def test_a_broken_guardrail_ends_a_canary_with_an_alert(
    shop: sa.Engine, settings: Settings, sent: list[str]
) -> None:
    for day in range(6):
        show(shop, day + 0.5, where="arm = 'control' or user_id < 'user2' or :at < '2026-05-02'")
    found = look(shop, settings, 10)
    assert found.outcome == "guardrail_broken"
    assert reading(found, "slates")["verdict"] == "worse"
    assert len(sent) == 1
    assert sent[0].startswith("experiment first ended: version 2 breaks a guardrail. Users: control ")
    monitoring.monitor(shop, settings, START + 11 * DAY)
    with shop.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from analytics.open_alerts")) == 1


@pytest.fixture(autouse=True)
def _views(warehouse: sa.Engine) -> None:
    from recsys.warehouse.analytics import install_analytics

    install_analytics(warehouse)


def test_users_who_do_not_appear_in_the_planned_shares_stop_it(
    shop: sa.Engine, settings: Settings, sent: list[str]
) -> None:
    show(shop, 0.5, challenger=0.9, where="arm = 'control' or user_id < 'user35'")
    found = look(shop, settings, 1)
    assert found.outcome == "sample_ratio_mismatch"
    assert "the log is broken" in sent[0]


def test_a_robot_with_half_of_all_clicks_decides_nothing(shop: sa.Engine, settings: Settings) -> None:
    show(shop, 0.5)
    robot = (
        "(select user_id from users where experiment_arm(user_key, 'salt', 0.5, 0) = 'challenger' limit 1)"
    )
    for second in range(20):
        run(
            shop,
            f"""
            with shown as (
                insert into impressions (impression_id, user_id, item_ids, placement, model_version, shown_at)
                select gen_random_uuid(), {robot}, '{{1}}', 'home', '2', :at from generate_series(1, 60)
                returning impression_id, user_id
            )
            insert into feedback (user_id, item_id, event_type, impression_id, occurred_at)
            select user_id, '1', 'view', impression_id, :at from shown
            """,
            at=START + DAY / 2 + timedelta(seconds=second),
        )
    row = reading(look(shop, settings, 2))
    assert row["challenger"] == pytest.approx(row["control"], abs=0.05)
    assert row["verdict"] == "open"


@pytest.mark.parametrize(
    ("columns", "left_out"),
    [
        ({"version_of": "no such version"}, {"of_unknown_versions": 4_000}),
        ({"version_of": "2"}, {}),
    ],
)
def test_slates_of_unknown_versions_and_of_the_other_arm(
    shop: sa.Engine, settings: Settings, columns: dict[str, Any], left_out: dict[str, int]
) -> None:
    show(shop, 0.5, challenger=0.9, **columns)
    found = look(shop, settings, 14)
    assert {row["verdict"] for row in found.readings} == {"open"}
    assert reading(found)["difference"] is None
    with shop.connect() as connection:
        counted = connection.scalar(sa.text("select left_out from experiment_readouts"))
    if left_out:
        assert found.users == {"control": 0, "challenger": 0}
        assert counted["of_unknown_versions"] == 4_000
    else:
        assert counted["of_other_arm"] == found.users["control"]
        assert look(shop, settings, 28).outcome == "arms_mixed"


def test_slates_in_quarantine_wait_until_they_are_released(shop: sa.Engine, settings: Settings) -> None:
    show(shop, 0.5, challenger=0.9)
    run(
        shop,
        "insert into quarantined_impressions (impression_id, shown_at, transaction_id, reasons)"
        " select impression_id, shown_at, transaction_id, '{shown_twice}' from impressions",
    )
    assert look(shop, settings, 1).users == {"control": 0, "challenger": 0}
    with shop.connect() as connection:
        left_out = connection.scalar(sa.text("select left_out from experiment_readouts"))
    assert left_out["in_quarantine"] == 4_000
    run(shop, "update quarantined_impressions set status = 'released'")
    assert sum(look(shop, settings, 2).users.values()) == 4_000


def test_an_answer_before_its_slate_or_after_the_look_does_not_count(
    shop: sa.Engine, settings: Settings
) -> None:
    show(shop, 0.5, challenger=0.0)
    show(shop, 1.5, control=0.0, challenger=0.9, later=timedelta(hours=-3))
    show(shop, 2.5, control=0.0, challenger=0.9, later=timedelta(days=9))
    row = reading(look(shop, settings, 4))
    assert row["difference"] is None  # nobody of the challenger has answered
    assert look(shop, settings, 13).outcome == "challenger_better"


def test_what_is_sent_back_is_no_answer(shop: sa.Engine, settings: Settings) -> None:
    apply_recipe(shop, "shop")
    show(shop, 0.5, type="purchase", value=20)
    show(shop, 0.6, type="purchase", value=-20)
    assert reading(look(shop, settings, 1))["control"] == pytest.approx(0.15, abs=0.01)


def test_a_slate_that_is_delivered_a_day_late_is_read_by_the_next_look(
    shop: sa.Engine, settings: Settings
) -> None:
    show(shop, 0.5)
    first = reading(look(shop, settings, 1))
    show(shop, 0.6)
    second = look(shop, settings, 2)
    assert reading(second, "slates")["control"] == pytest.approx(2.0)
    assert reading(second)["standard_error"] < first["standard_error"]


def test_a_slate_that_is_delivered_twice_is_judged_before_it_is_read(
    shop: sa.Engine, settings: Settings
) -> None:
    run(shop, "insert into items (item_id) values ('1'), ('2')")
    run(
        shop,
        "insert into model_versions (model_version, kind, base_transaction_id, trained_transaction_id)"
        " values ('1', 'full', 1, 1), ('2', 'full', 1, 1)",
    )
    show(shop, 0.5)
    run(
        shop,
        "insert into impressions (impression_id, user_id, item_ids, placement, model_version, shown_at)"
        " select 'again ' || impression_id, user_id, item_ids, placement, model_version, shown_at"
        " from impressions where model_version = '2'",
    )
    hour = Run("experiment_readout", "run", (START, START + DAY))
    read_experiment(Context(hour, settings, shop, lambda: START + DAY))
    with shop.connect() as connection:
        found = latest_readout(connection, 1)
        left_out = connection.scalar(sa.text("select left_out from experiment_readouts"))
    assert found is not None
    row = reading(found, "slates")
    assert row["control"] == row["challenger"] == 1.0
    assert left_out["in_quarantine"] == found.users["challenger"]


def test_a_challenger_that_is_pruned_wins_nothing(
    shop: sa.Engine, settings: Settings, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show(shop, 0.5, challenger=0.9)

    def is_gone(*_: object) -> None:
        raise RegistryError("there is no version 2")

    monkeypatch.setattr(validity, "load_version", is_gone)
    with pytest.raises(NothingToDoError, match="no experiment is running"):
        look(shop, settings, 1)
    assert ended(shop).outcome == "challenger_removed"
    assert "there is no version 2" in sent[0]


def test_what_a_session_saw_is_nobodys(shop: sa.Engine, settings: Settings) -> None:
    show(shop, 0.5)
    run(shop, "update impressions set session_id = user_id where user_id < 'user2'")
    found = look(shop, settings, 1)
    with shop.connect() as connection:
        left_out = connection.scalar(sa.text("select left_out from experiment_readouts"))
    assert left_out["of_sessions"] == 4_000 - sum(found.users.values())


@pytest.mark.parametrize("share", [0.0, 0.004])
def test_where_hardly_anybody_answers_nothing_is_shown(
    shop: sa.Engine, settings: Settings, share: float
) -> None:
    show(shop, 0.5, control=share, challenger=share)
    row = reading(look(shop, settings, 28))
    assert (row["control"], row["challenger"], row["difference"], row["verdict"]) == (
        None,
        None,
        None,
        "open",
    )


def test_only_the_placements_of_the_experiment_are_read(shop: sa.Engine, settings: Settings) -> None:
    show(shop, 0.5)
    assert sum(look(shop, settings, 1).users.values()) == 4_000
    run(shop, "update experiments set ended_at = now(), ended_by = 'me', outcome = 'stopped_by_person'")
    run(
        shop,
        """
        insert into experiments (
            name, challenger, champion, challenger_share, salt, placements, success, guardrails, days,
            started_by, started_at, shown_since
        )
        select 'email', '2', '1', 0.5, 'salt', '{email}', '{slates}', '{}', 28, 'me', :now, :now
        """,
        now=START,
    )
    assert sum(look(shop, settings, 2).users.values()) == 0


def test_before_its_lists_are_published_there_is_nothing_to_read(
    warehouse: sa.Engine, shop: sa.Engine, settings: Settings
) -> None:
    with pytest.raises(NothingToDoError, match="its lists are shown from the next publication"):
        look(shop, settings, 0)


@pytest.mark.parametrize("required", [True, False])
def test_a_winner_is_promoted_only_where_the_gate_waits_for_it(
    shop: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, required: bool
) -> None:
    tags: dict[str, dict[str, str]] = {}
    monkeypatch.setattr(
        winner, "tag_version", lambda _settings, version, found: tags.update({version: found})
    )

    def promote(engine: sa.Engine, _settings: Settings, version: str, expected: str, **options: Any) -> Any:
        options.pop("now")
        return ledger.promote(engine, version, expected, **options)

    monkeypatch.setattr(winner, "promote", promote)
    gate = settings.gate.model_copy(update={"require_experiment": required})
    settings = settings.model_copy(update={"gate": gate})
    for day in range(5):
        show(shop, day + 0.5, challenger=0.45)
    found = look(shop, settings, 14, "run")
    for _ in range(2):  # a retry
        entry = promote_winner(shop, settings, found.experiment_id, run_key="run", now=START)
        assert (entry is not None) == required
    assert tags == {"2": {"recsys.experiment": "first: challenger_better"}}
    champion = ledger.champion(shop)
    assert champion is not None
    assert champion.model_version == ("2" if required else "1")
    if required:
        [newest, *_] = ledger.history(shop)
        assert (newest.reason, newest.checks) == ("better_in_experiment", found.readings)


def test_a_look_that_is_killed_before_its_end_leaves_nothing(
    shop: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(5):
        show(shop, day + 0.5, challenger=0.45)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(readout, "end", die)
        with pytest.raises(KeyboardInterrupt):
            look(shop, settings, 14)
    assert ended(shop).outcome is None
    assert look(shop, settings, 14).outcome == "challenger_better"


def test_of_two_looks_at_once_one_decides_and_each_attempt_of_a_run_finds_its_look(
    shop: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(shop, 0.5, challenger=0.9)
    read, both_have_read = readout.read_arms, threading.Barrier(3)

    def read_together(*arguments: Any) -> Any:
        found = read(*arguments)
        both_have_read.wait(60)
        return found

    monkeypatch.setattr(readout, "read_arms", read_together)

    def try_to_look(key: str) -> str:
        try:
            return look(shop, settings, 14, key).outcome
        except NothingToDoError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        first, second, other = pool.map(try_to_look, ["run", "run", "another run"])
    assert first == second
    assert sorted([first, other]) == ["challenger_better", "experiment first has ended meanwhile"]
    with shop.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from experiment_readouts")) == 1
    assert [entry.reason for entry in ledger.history(shop)].count("challenger_better") == 1


def test_a_stop_during_a_look_stands(
    shop: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(shop, 0.5, challenger=0.9)
    read = readout.read_arms

    def stopped_meanwhile(*arguments: Any) -> Any:
        stop(shop, name="first", reason="Enough.", actor="me", now=START)
        return read(*arguments)

    monkeypatch.setattr(readout, "read_arms", stopped_meanwhile)
    with pytest.raises(NothingToDoError, match="has ended meanwhile"):
        look(shop, settings, 14)
    assert ended(shop).outcome == "stopped_by_person"
    with shop.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from experiment_readouts")) == 0


def test_a_look_at_many_users_makes_no_more_statements_and_holds_one_batch_of_them(
    shop: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    sa.event.listen(shop, "before_cursor_execute", lambda *found: statements.append(found[2]))
    add, held = Moments.add, []

    def add_batch(moments: Moments, values: Any) -> None:
        held.append(len(values))
        add(moments, values)

    monkeypatch.setattr(Moments, "add", add_batch)
    monkeypatch.setattr(arms, "_BATCH", 250)
    made = []
    for day, users in ((0.5, "user2"), (1.5, "user9999")):
        show(shop, day, where=f"user_id < '{users}'")
        statements.clear()
        held.clear()
        found = look(shop, settings, day + 0.1)
        assert sum(held) == sum(found.users.values())
        assert max(held) <= 250
        made.append(len(statements))
    assert sum(found.users.values()) == 4_000
    assert made[0] == made[1]
