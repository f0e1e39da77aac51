from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from recsys.promotion.error_budget import make_test
from recsys.promotion.superiority import Superiority
from recsys.settings import Settings
from recsys.warehouse.tables import superiority_tests

SETTINGS = Settings()
NIGHT = datetime(2026, 4, 1, 3, 15, tzinfo=UTC)
SHARE = 0.05 / 30


def _test(engine, run_key="nightly:1", p_value=0.5, now=NIGHT, champion="7", kind="full"):
    return make_test(
        engine, SETTINGS, run_key=run_key, kind=kind, version="8", champion=champion, p_value=p_value, now=now
    )


def _rows(engine):
    with engine.connect() as connection:
        statement = sa.select(superiority_tests).order_by(superiority_tests.c.run_key)
        return connection.execute(statement).all()


def test_a_test_is_recorded_with_its_level_and_result(warehouse):
    assert _test(warehouse, p_value=1e-4) == Superiority(1e-4, pytest.approx(SHARE))
    [row] = _rows(warehouse)
    assert (row.model_version, row.champion_version, row.kind, row.shown) == ("8", "7", "full", True)
    assert (row.month.isoformat(), row.tested_at) == ("2026-04-01", NIGHT)


def test_two_gates_at_once_spend_the_probability_once(warehouse):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: _test(warehouse, f"run:{number}"), range(8)))
    assert sorted(each.level for each in found) == pytest.approx([0.0] * 7 + [SHARE])
    assert len(_rows(warehouse)) == 8


def test_a_gate_that_runs_again_after_a_kill_spends_nothing_more(warehouse):
    first = _test(warehouse)
    assert _test(warehouse, now=NIGHT + timedelta(days=2)) == first
    assert len(_rows(warehouse)) == 1


def test_a_second_look_at_the_same_test_shows_no_more_than_the_first(warehouse):
    assert not _test(warehouse, p_value=0.5).shown
    assert not _test(warehouse, p_value=0.0).shown
    assert _test(warehouse, "nightly:2", p_value=0.0, now=NIGHT + timedelta(days=1)).shown
    assert not _test(warehouse, "nightly:2", p_value=0.5, now=NIGHT + timedelta(days=1)).shown


def test_after_a_roll_back_the_same_run_tests_another_champion_with_what_is_left(warehouse):
    _test(warehouse)
    assert _test(warehouse, champion="6").level == 0
    assert _test(warehouse, "nightly:2", champion="6", now=NIGHT + timedelta(days=1)).level == pytest.approx(
        SHARE
    )


def test_a_new_month_starts_with_its_own_probability(warehouse):
    _test(warehouse, now=NIGHT + timedelta(days=29))
    assert _test(warehouse, "nightly:2", now=datetime(2026, 5, 1, 3, tzinfo=UTC)).level == pytest.approx(
        0.05 / 31
    )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE superiority_tests SET level = 1",
        "DELETE FROM superiority_tests",
        "TRUNCATE superiority_tests",
    ],
)
def test_what_has_been_tested_stays_tested(warehouse, statement):
    _test(warehouse)
    with (
        pytest.raises(sa.exc.IntegrityError, match="superiority_tests is append-only"),
        warehouse.begin() as connection,
    ):
        connection.exec_driver_sql(statement)
    assert len(_rows(warehouse)) == 1


def test_the_view_shows_what_the_month_has_spent(warehouse):
    from recsys.warehouse.analytics import install_analytics

    install_analytics(warehouse)
    for day, p_value in enumerate((0.5, 0.0, 0.5)):
        _test(warehouse, f"nightly:{day}", p_value, NIGHT + timedelta(days=day))
    with warehouse.connect() as connection:
        spent = connection.scalars(
            sa.text("SELECT spent FROM analytics.superiority_tests ORDER BY tested_at")
        ).all()
    assert spent == pytest.approx([SHARE, SHARE, 3 * SHARE])
