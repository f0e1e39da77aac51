"""The gate's stage tests for superiority at night, once a run, with the rights of the pipeline's role."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.evaluation.ranking.metrics import metric_names
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation, SliceResult
from recsys.pipeline.context import Context, Run
from recsys.pipeline.deciding import _superiority
from recsys.pipeline.references import Challenger
from recsys.settings import GateSettings, Settings
from recsys.warehouse.roles import PIPELINE

NOW = datetime(2026, 4, 1, 3, tzinfo=UTC)


@pytest.fixture
def pipeline(warehouse: sa.Engine) -> Iterator[sa.Engine]:
    """An engine whose login is a member of the pipeline's role only."""
    with warehouse.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE gate_test LOGIN IN ROLE {PIPELINE}")
    engine = sa.create_engine(warehouse.url.set(username="gate_test"))
    yield engine
    engine.dispose()
    with warehouse.begin() as connection:
        connection.exec_driver_sql("DROP ROLE gate_test")


def challenger(kind: str) -> Challenger:
    return Challenger.model_validate(
        {"version": "8", "kind": kind, "evaluation": "/nowhere", "mlflow_run": "run", "links": {}}
    )


def better(champion: str | None = "7") -> Evaluation:
    values = np.zeros((100, 2, len(metric_names(10))))
    values[:, 1, 0] = np.random.default_rng(0).beta(1, 4, 100)
    values[:, 0, 0] = values[:, 1, 0] + np.random.default_rng(1).normal(0.05, 0.05, 100)
    keys = np.array([str(number) for number in range(100)], dtype=object)
    result = SliceResult(keys, np.ones(100, dtype=np.int64), values)
    return Evaluation(10, (CANDIDATE, CHAMPION), {"all": result}, {}, {}, champion)


def count_tests(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.text("SELECT count(*) FROM superiority_tests")) or 0


def test_a_night_is_tested_once_at_its_share_of_the_month(pipeline: sa.Engine, settings: Settings) -> None:
    context = Context(Run("nightly_training", "nightly:1"), settings, pipeline, lambda: NOW)
    first = _superiority(context, challenger("full"), better())
    assert first is not None
    assert first.shown
    assert first.level == pytest.approx(0.05 / 30)
    assert _superiority(context, challenger("full"), better()) == first
    assert count_tests(pipeline) == 1


def test_an_hour_claims_nothing_and_spends_nothing(pipeline: sa.Engine, settings: Settings) -> None:
    context = Context(Run("hourly_micro_update", "hourly:1"), settings, pipeline, lambda: NOW)
    found = _superiority(context, challenger("micro"), better())
    assert found is not None
    assert not found.shown
    assert count_tests(pipeline) == 0
    gate = GateSettings(on_inconclusive={"better_than_champion": "hold"})
    strict = Context(
        context.run, settings.model_copy(update={"gate": gate}), pipeline, lambda: NOW.replace(day=30)
    )
    held = _superiority(strict, challenger("micro"), better())
    assert held is not None
    assert held.level > 0
    assert count_tests(pipeline) == 1


def test_the_first_model_is_not_tested(pipeline: sa.Engine, settings: Settings) -> None:
    context = Context(Run("nightly_training", "nightly:1"), settings, pipeline, lambda: NOW)
    assert _superiority(context, challenger("full"), better(champion=None)) is None
    assert count_tests(pipeline) == 0
