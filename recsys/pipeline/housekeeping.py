"""Daily upkeep of warehouse and registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys.pipeline.context import Context

if TYPE_CHECKING:
    from recsys.upkeep.housekeeping import HousekeepingReport
    from recsys.upkeep.prune import PruneReport


def keep_house(context: Context) -> HousekeepingReport:
    """Make partitions, carry out erasure requests, apply retention, find rows that do not add up."""
    from recsys.upkeep.housekeeping import keep_house as keep_warehouse

    return keep_warehouse(context.engine, context.settings, context.clock())


def reconcile_registry(context: Context) -> str | None:
    """Make the MLflow alias follow the ledger after a crash between the two; return the champion."""
    from recsys.promotion.promote import reconcile_alias

    return reconcile_alias(context.engine, context.settings)


def prune_registry(context: Context) -> PruneReport:
    """Remove model versions past their retention, with their files."""
    from recsys.upkeep.prune import prune_versions

    return prune_versions(context.engine, context.settings, context.clock())
