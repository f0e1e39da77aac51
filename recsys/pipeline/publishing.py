"""From the champion to what users and analysts see."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from recsys.errors import NothingToDoError
from recsys.pipeline.context import Context
from recsys.pipeline.references import NewChampion, Shard

if TYPE_CHECKING:
    from recsys.publishing.publish import PublishSummary

_DAILY = timedelta(hours=25)
"""Age of the lists at which everybody gets new ones where nothing fades sooner. A night that promotes comes
before."""
_HOURLY = timedelta(minutes=45)
"""The same where what is wanted changes by the hour: runs an hour apart end a little earlier or later."""


def age_of_lists(context: Context) -> timedelta:
    """Return the age of the last publication for everybody at which everybody gets a new list.

    Where what is wanted changes within a day, as in a newsroom, that is a quarter of the half-life that the
    published model found for what is trending.
    """
    from recsys.serving.shared_lists import FAST_DAYS, published_half_life_days

    hours = context.settings.publishing.everyone_hours
    if hours is not None:
        return timedelta(hours=hours)
    with context.engine.connect() as connection:
        half_life_days = published_half_life_days(connection)
    return max(_HOURLY, timedelta(days=half_life_days) / 4) if half_life_days <= FAST_DAYS else _DAILY


def publish_at_once(context: Context) -> PublishSummary:
    """Score users with the champion in this process and swap their recommendations in one transaction.

    Lists for everybody are renewed first: they need no champion.
    """
    return _publish(context, everyone_after=age_of_lists(context))


def publish(context: Context) -> list[Shard]:
    """Do what `publish_at_once` does, or plan shards if there are more users than one holds.

    Returns
    -------
    The shards to stage; none if everything is published.
    """
    from recsys.publishing.shards import ShardWorker, publish_or_plan
    from recsys.serving.shared_lists import refresh_shared_lists

    run, publishing, now = context.run, context.settings.publishing, context.clock()
    refresh_shared_lists(context.engine, context.settings.serving, at=now)
    planned = publish_or_plan(
        context.engine,
        context.settings,
        scope=run.params.get("scope", "auto"),
        run_key=run.key,
        users_per_shard=lambda _: publishing.users_per_shard,
        now=now,
        everyone_after=age_of_lists(context),
    )
    if not isinstance(planned, ShardWorker):
        return []
    return [Shard(plan_id=planned.plan.plan_id, shard=shard) for shard in range(planned.plan.shards)]


def stage_shard(context: Context, shard: Shard) -> None:
    """Score the users of a shard and stage what they will see.

    Raises
    ------
    NothingToDoError
        The champion has been replaced, or another attempt or publication has taken its place.
    """
    from recsys.publishing.shards import stage_shard as stage

    stage(context.engine, context.settings, shard.plan_id, shard.shard)


def swap_shards(context: Context, shards: list[Shard]) -> PublishSummary:
    """Swap what all shards have staged, in one transaction.

    Raises
    ------
    WarehouseError
        A shard is missing; it is named.
    NothingToDoError
        The champion has been replaced, or another publication has taken the place of this one.
    """
    from recsys.publishing.shards import swap_shards as swap

    if not shards:
        raise NothingToDoError("everything is published already")
    return swap(context.engine, shards[0].plan_id)


def _publish(context: Context, everyone_after: timedelta | None) -> PublishSummary:
    from recsys.publishing.publish import publish as publish_champion
    from recsys.serving.shared_lists import refresh_shared_lists

    run, now = context.run, context.clock()
    refresh_shared_lists(context.engine, context.settings.serving, at=now)
    return publish_champion(
        context.engine,
        context.settings,
        scope=run.params.get("scope", "auto"),
        run_key=run.key,
        now=now,
        everyone_after=everyone_after,
    )


def refresh_users(context: Context, promoted: NewChampion | None = None) -> PublishSummary:
    """Publish for users with fresh feedback, from the champion as it is, and renew the lists for everybody.

    Parameters
    ----------
    promoted
        None when the run promoted nothing. A new champion is published by `publish_recommendations`.

    Raises
    ------
    NothingToDoError
        There is a new champion.
    """
    if promoted is not None:
        raise NothingToDoError(
            f"version {promoted.version} is champion now: publish_recommendations publishes it"
        )
    return _publish(context, everyone_after=None)


def refresh_active_users(context: Context) -> PublishSummary:
    """Publish for users who have reacted since the last publication, with the champion as it is.

    Without any, it loads no model. Their feedback passes the row rules first. Where what is wanted changes
    within a day, what is trending is computed again too.

    Raises
    ------
    NothingToDoError
        Nobody has reacted, another publication is running, or the champion is not published yet.
    """
    from recsys.publishing.active import NOBODY, count_active_users, publish_active_users
    from recsys.serving.shared_lists import refresh_fast_trends
    from recsys.validation.validate import validate_rows
    from recsys.warehouse.windows import open_window

    run, settings, engine, now = context.run, context.settings, context.engine, context.clock()
    active = count_active_users(engine, settings.publishing.visitors, now=now)
    if active.users == 0:
        raise NothingToDoError(NOBODY)
    window = open_window(engine, run.dag_id, run.key, first_lower=active.since_transaction_id)
    # Empty after a run that was killed between validation and publication.
    if window.arrived:
        validate_rows(engine, window, settings)
    refresh_fast_trends(engine, settings.serving, at=now)
    return publish_active_users(engine, settings, run_key=run.key, now=now)


def write_summaries(context: Context) -> dict[str, int]:
    """Let a language model write about lists and items; return how many texts were accepted and refused.

    Raises
    ------
    NothingToDoError
        No model is configured.
    """
    from recsys.publishing.summaries.renew import renew_summaries

    return renew_summaries(context.engine, context.settings, now=context.clock())


def refresh_analytics(context: Context) -> None:
    """Refresh the stored analytics views."""
    from recsys.warehouse.analytics import refresh_analytics as refresh

    refresh(context.engine)
