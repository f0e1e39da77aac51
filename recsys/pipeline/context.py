"""What stages have in common: the run they belong to, references, the way to the warehouse."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from recsys.errors import NothingToDoError
from recsys.settings import Settings, load_settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from recsys.promotion.ledger import Champion

Reference = dict[str, Any]
"""Ids, URIs and figures; fits an XCom."""


@dataclass(frozen=True)
class Run:
    """The DAG run that a stage belongs to."""

    dag_id: str
    key: str
    interval: tuple[datetime, datetime] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    asked_by: str | None = None
    airflow_url: str | None = None
    """Address of the Airflow UI where it is configured, for links."""


def connect() -> tuple[Settings, sa.Engine]:
    """Return the settings and an engine on the warehouse."""
    from recsys.warehouse import engine

    settings = load_settings()
    return settings, engine.connect(settings.require_warehouse_url())


def require_champion(engine: sa.Engine, why: str) -> Champion:
    """Return the champion; without one there is nothing to do."""
    from recsys.promotion.ledger import champion

    current = champion(engine)
    if current is None:
        raise NothingToDoError(f"there is no champion yet {why}; run nightly_training first")
    return current
