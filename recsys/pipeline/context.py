"""The context of a stage: the run it belongs to, the settings, the warehouse and the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from recsys.errors import NothingToDoError
from recsys.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from recsys.promotion.ledger import Champion


@dataclass(frozen=True)
class Run:
    """A run of a DAG; the same for every retry and every cleared task of it.

    Attributes
    ----------
    key
        Names the run, also where its results are stored.
    interval
        The past interval that the run covers; None: everything committed by now.
    asked_by
        The person who triggered the run, if any.
    airflow_url
        Address of the Airflow UI for links, if one is configured.
    """

    dag_id: str
    key: str
    interval: tuple[datetime, datetime] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    asked_by: str | None = None
    airflow_url: str | None = None


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Context:
    """All that a stage may use besides the references it receives."""

    run: Run
    settings: Settings
    engine: sa.Engine
    clock: Callable[[], datetime] = _utc_now

    def require_champion(self, purpose: str) -> Champion:
        """Return the champion; raise NothingToDoError when there is none for this purpose."""
        from recsys.promotion.ledger import champion

        current = champion(self.engine)
        if current is None:
            raise NothingToDoError(f"there is no champion yet {purpose}; run nightly_training first")
        return current


@contextmanager
def open_context(run: Run, settings: Settings) -> Iterator[Context]:
    """Connect to the warehouse for one run or one of its tasks; disconnect at the end.

    Raises
    ------
    ConfigurationError
        No warehouse is configured, or it refuses the connection.
    ServiceUnavailableError
        No Postgres answers.
    """
    from recsys.warehouse.engine import connect

    engine = connect(settings.require_warehouse_url())
    try:
        yield Context(run, settings, engine)
    finally:
        engine.dispose()
