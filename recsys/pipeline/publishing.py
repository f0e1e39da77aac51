"""From the champion to what users and analysts see."""

from __future__ import annotations

from recsys.errors import NothingToDoError
from recsys.pipeline.context import Reference, Run, connect


def publish(run: Run) -> Reference:
    """Score users with the champion and swap their recommendations in one transaction."""
    from recsys.publishing.publish import publish as publish_champion

    settings, engine = connect()
    summary = publish_champion(engine, settings, scope=run.params.get("scope", "auto"), run_key=run.key)
    return summary.to_dict()


def refresh_users(run: Run, promoted: Reference) -> Reference:
    """Publish for users with fresh feedback although the champion stays: what they did counts at once.

    `promoted` is empty when the run promoted nothing; otherwise the new champion is published elsewhere.
    """
    if promoted:
        raise NothingToDoError(
            f"version {promoted['version']} is champion now: publish_recommendations follows"
        )
    return publish(run)


def refresh_analytics(run: Run) -> Reference:
    """Refresh the analytics views."""
    from recsys.warehouse.analytics import refresh_analytics as refresh

    _, engine = connect()
    refresh(engine)
    return {}
