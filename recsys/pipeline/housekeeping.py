"""Daily upkeep of warehouse and registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys.pipeline.context import Context
from recsys.pipeline.references import Monitored

if TYPE_CHECKING:
    from recsys.upkeep.housekeeping import HousekeepingReport
    from recsys.upkeep.prune import PruneReport


def keep_house(context: Context) -> HousekeepingReport:
    """Make partitions, carry out erasure requests, apply retention, find rows that do not add up."""
    from recsys.publishing.staging import remove_abandoned_shards
    from recsys.publishing.summaries.renew import forget_summaries
    from recsys.upkeep.housekeeping import keep_house as keep_warehouse

    remove_abandoned_shards(context.engine)
    if not context.settings.summaries.writer:
        forget_summaries(context.engine)
    return keep_warehouse(context.engine, context.settings, context.clock())


def find_item_phrases(context: Context) -> int:
    """Read new comments with the champion: what people praise and criticise about items; return how many.

    Raises
    ------
    NothingToDoError
        There are no new comments of enough people, or no champion that has learned to read them.
    """
    from recsys.publishing.item_phrases import renew_item_phrases

    return renew_item_phrases(context.engine, context.settings)


def monitor(context: Context) -> Monitored:
    """Look for old lists, drift, fewer responses and sudden dislikes, and measure the day.

    Each cause alerts once.
    """
    from recsys.upkeep.monitoring import monitor as look

    watched = look(context.engine, context.settings, context.clock())
    gauges = {".".join(filter(None, (f.name, f.label))): f.value for f in watched.figures}
    return Monitored(causes=len(watched.findings), gauges=gauges)


def reconcile_registry(context: Context) -> str | None:
    """Make the MLflow alias follow the ledger after a crash between the two; return the champion."""
    from recsys.promotion.promote import reconcile_alias

    return reconcile_alias(context.engine, context.settings)


def prune_registry(context: Context) -> PruneReport:
    """Remove model versions that know erased users or are past their retention, with their files.

    Alert if the champion knows erased users and may not be served much longer.
    """
    from recsys.upkeep.erased_models import remove_erased_models, watch_champion
    from recsys.upkeep.prune import prune_versions

    engine, settings, now = context.engine, context.settings, context.clock()
    watch_champion(engine, settings, now)
    remove_erased_models(engine, settings, now)
    return prune_versions(engine, settings, now)
