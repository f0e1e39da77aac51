"""Store the figures of an evaluation in the warehouse, for SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from recsys.evaluation.earlier import Decline
from recsys.evaluation.result import Evaluation
from recsys.warehouse.tables import champion_comparisons, model_evaluations


def store_evaluation(
    engine: sa.Engine, run_key: str, evaluation: Evaluation, versions: Mapping[str, str | None]
) -> int:
    """Write every figure to table `model_evaluations`; a retry overwrites its own rows.

    Parameters
    ----------
    versions
        Model version by scorer; other scorers, such as baselines, have none.

    Returns
    -------
    Number of rows.
    """
    rows = [
        {
            "run_key": run_key,
            "model_version": versions.get(figure.scorer),
            "scorer": figure.scorer,
            "slice": figure.slice,
            "metric": figure.metric,
            "value": _finite(figure.value),
            "low": _finite(figure.low),
            "high": _finite(figure.high),
            "users": figure.users,
        }
        for figure in evaluation.figures
    ]
    if not rows:
        return 0
    statement = insert(model_evaluations)
    overwritten = {
        name: statement.excluded[name] for name in ("model_version", "value", "low", "high", "users")
    }
    statement = statement.on_conflict_do_update(
        constraint="model_evaluations_key",
        set_={**overwritten, "evaluated_at": sa.func.clock_timestamp()},
    )
    with engine.begin() as connection:
        connection.execute(statement, rows)
    return len(rows)


def store_declines(
    engine: sa.Engine,
    run_key: str,
    found: Sequence[Decline],
    champion_version: str,
    earlier: Mapping[int, str],
    now: datetime,
) -> None:
    """Write comparisons with earlier champions to table `champion_comparisons`; a retry overwrites its own.

    Parameters
    ----------
    earlier
        Versions by their age in days.
    """
    rows = [
        {
            **asdict(decline),
            "run_key": run_key,
            "champion_version": champion_version,
            "earlier_version": earlier[decline.days],
            "compared_at": now,
        }
        for decline in found
    ]
    with engine.begin() as connection:
        connection.execute(sa.delete(champion_comparisons).where(champion_comparisons.c.run_key == run_key))
        if rows:
            connection.execute(sa.insert(champion_comparisons), rows)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
