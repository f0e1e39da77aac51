from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.errors import RegistryError
from recsys.pipeline.context import Context, Run
from recsys.pipeline.learning import _earlier_champions
from recsys.registry import versions
from recsys.settings import EvaluationSettings, Settings
from recsys.warehouse.tables import promotion_ledger

NOW = datetime(2026, 5, 30, 3, tzinfo=UTC)


@pytest.fixture
def context(warehouse: sa.Engine, settings: Settings) -> Context:
    """The champions were 1 (since 40 days), 2 (since 10 days) and 3 (since yesterday)."""
    with warehouse.begin() as connection:
        for sequence, days in enumerate((40, 10, 1), start=1):
            connection.execute(
                sa.insert(promotion_ledger).values(
                    action="promote", model_version=str(sequence), champion_sequence=sequence, reason="x",
                    explanation="x", actor="x", decided_at=NOW - timedelta(days=days),
                )
            )  # fmt: skip
    return Context(Run("nightly_training", "nightly:1"), settings, warehouse, lambda: NOW)


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Versions that the registry no longer has."""
    gone: set[str] = set()

    def download(_settings: Settings, version: str) -> Path:
        if version in gone:
            raise RegistryError(f"version {version} is unknown")
        return Path("checkpoints") / version

    monkeypatch.setattr(versions, "download_checkpoint", download)
    return gone


def found(context: Context, champion: str = "3") -> dict[int, str]:
    return {days: version for days, (version, _) in _earlier_champions(context, champion).items()}


@pytest.mark.usefixtures("removed")
def test_a_night_compares_the_champions_of_a_week_and_of_a_month_ago(context: Context) -> None:
    assert found(context) == {7: "2", 28: "1"}


@pytest.mark.usefixtures("removed")
def test_the_champion_itself_is_not_compared_with_itself(context: Context) -> None:
    assert found(context, "2") == {28: "1"}


def test_a_version_that_was_removed_is_left_out(context: Context, removed: set[str]) -> None:
    removed.add("2")
    assert found(context) == {28: "1"}


@pytest.mark.usefixtures("removed")
def test_one_version_is_compared_once_and_settings_turn_it_off(context: Context) -> None:
    def with_days(*days: int) -> dict[int, str]:
        evaluation = EvaluationSettings(earlier_champion_days=days)
        chosen = context.settings.model_copy(update={"evaluation": evaluation})
        return found(Context(context.run, chosen, context.engine, context.clock))

    assert with_days(28, 20) == {20: "1"}
    assert with_days(50) == {}
    assert with_days() == {}
