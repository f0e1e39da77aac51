"""From the champion to what users and analysts see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys.errors import NothingToDoError
from recsys.pipeline.context import Context
from recsys.pipeline.references import NewChampion

if TYPE_CHECKING:
    from recsys.publishing.publish import PublishSummary


def publish(context: Context) -> PublishSummary:
    """Score users with the champion and swap their recommendations in one transaction."""
    from recsys.publishing.publish import publish as publish_champion

    run = context.run
    return publish_champion(
        context.engine,
        context.settings,
        scope=run.params.get("scope", "auto"),
        run_key=run.key,
        now=context.clock(),
    )


def refresh_users(context: Context, promoted: NewChampion | None = None) -> PublishSummary:
    """Publish for users with fresh feedback, from the champion as it is.

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
    return publish(context)


def refresh_analytics(context: Context) -> None:
    """Refresh the stored analytics views."""
    from recsys.warehouse.analytics import refresh_analytics as refresh

    refresh(context.engine)
