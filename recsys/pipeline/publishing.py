"""From the champion to what users and analysts see."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from recsys.errors import NothingToDoError
from recsys.pipeline.context import Context
from recsys.pipeline.references import NewChampion

if TYPE_CHECKING:
    from recsys.publishing.publish import PublishSummary

_EVERYONE_AFTER = timedelta(hours=20)
"""Age of the last publication for everybody at which a night publishes for everybody again."""


def publish(context: Context) -> PublishSummary:
    """Score users with the champion and swap their recommendations in one transaction.

    Lists for everybody are renewed first: they need no champion.
    """
    return _publish(context, everyone_after=_EVERYONE_AFTER)


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

    Without any, it loads no model. Their feedback passes the row rules first.

    Raises
    ------
    NothingToDoError
        Nobody has reacted, another publication is running, or the champion is not published yet.
    """
    from recsys.publishing.active import NOBODY, count_active_users, publish_active_users
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
    return publish_active_users(engine, settings, run_key=run.key, now=now)


def refresh_analytics(context: Context) -> None:
    """Refresh the stored analytics views."""
    from recsys.warehouse.analytics import refresh_analytics as refresh

    refresh(context.engine)
