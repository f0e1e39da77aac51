"""What keeps warehouse and registry in order."""

from __future__ import annotations

from recsys.pipeline.context import Reference, Run, connect


def keep_house(run: Run) -> Reference:
    """Make partitions, carry out erasure requests, apply retention, look for rows that do not add up."""
    from recsys.upkeep.housekeeping import keep_house as keep_warehouse

    settings, engine = connect()
    report = keep_warehouse(engine, settings)
    return report.to_dict()


def reconcile_registry(run: Run) -> Reference:
    """Make the MLflow alias follow the ledger, should a crash have come between the two."""
    from recsys.promotion.promote import reconcile_alias

    settings, engine = connect()
    return {"champion": reconcile_alias(engine, settings)}


def prune_registry(run: Run) -> Reference:
    """Remove model versions past their retention, with their files."""
    from recsys.upkeep.prune import prune_versions

    settings, engine = connect()
    return prune_versions(engine, settings).to_dict()
