"""Spend a month's probability of error: one row of `superiority_tests` for each test that a gate makes."""

from datetime import datetime

import sqlalchemy as sa

from recsys.promotion.superiority import EarlierTest, Kind, Superiority, month_of, next_level
from recsys.settings import Settings
from recsys.warehouse.advisory_locks import lock
from recsys.warehouse.tables import superiority_tests

_LOCK = "probability of error"


def make_test(
    engine: sa.Engine,
    settings: Settings,
    *,
    run_key: str,
    kind: Kind,
    version: str,
    champion: str,
    p_value: float,
    now: datetime,
) -> Superiority:
    """Test at the level that is left, and record the test before anybody learns its result.

    Two gates at once test one after the other. A run tests a champion once: what its retry measures is held
    against the level of the first attempt, and cannot show what that did not show.
    """
    tests = superiority_tests.c
    with engine.begin() as connection:
        lock(connection, _LOCK)
        earlier = connection.execute(
            sa.select(tests.p_value, tests.level).where(
                tests.run_key == run_key, tests.champion_version == champion
            )
        ).one_or_none()
        if earlier is not None:
            return Superiority(max(p_value, earlier.p_value), earlier.level)
        month = connection.execute(
            sa.select(tests.kind, tests.level, tests.shown).where(tests.month == month_of(now).date())
        )
        level = next_level(kind, now, [EarlierTest(*row) for row in month], settings)
        found = Superiority(p_value, level)
        connection.execute(
            sa.insert(superiority_tests).values(
                run_key=run_key,
                champion_version=champion,
                model_version=version,
                kind=kind,
                month=month_of(now).date(),
                tested_at=now,
                p_value=p_value,
                level=level,
                shown=found.shown,
            )
        )
    return found
