"""Until when a version may be served, because it has been trained on users who were erased later.

Erasure reaches tables and files at once, but not what a model has learned. A version that has learned from a
user may be served for `privacy.model_erasure_days` days after the user's request, and cannot become champion
later.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from recsys.errors import ErasedUsersError
from recsys.registry.knowledge import record_missing
from recsys.settings import Settings
from recsys.warehouse.statements import read_statement

REASON = "trained_on_erased_users"
"""Reason in the ledger for a version that may not become champion."""


@dataclass(frozen=True)
class ServingTerm:
    """The end of a version's time, and why it has one.

    Attributes
    ----------
    requested_at
        When the first of the users whom the version knows asked to be erased.
    until
        The version may not become champion from then on.
    """

    version: str
    requested_at: datetime
    until: datetime

    def is_over(self, now: datetime) -> bool:
        """Return whether the version may no longer become champion."""
        return now >= self.until

    def __str__(self) -> str:
        return (
            f"version {self.version} has been trained on users who asked to be erased, the first on "
            f"{self.requested_at.astimezone(UTC):%Y-%m-%d}, and may be served until "
            f"{self.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        )


def serving_terms(engine: sa.Engine, settings: Settings, versions: Collection[str]) -> dict[str, ServingTerm]:
    """Return the terms of those of these versions that know erased users; the others have no end."""
    record_missing(engine, settings, versions)
    allowed = timedelta(days=settings.privacy.model_erasure_days)
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(read_statement("promotion/select_first_erasure_requests")), {"versions": list(versions)}
        ).all()
    return {
        row.model_version: ServingTerm(row.model_version, row.requested_at, row.requested_at + allowed)
        for row in rows
    }


def serving_term(engine: sa.Engine, settings: Settings, version: str) -> ServingTerm | None:
    """Return until when a version may be served; None if it knows no erased user."""
    return serving_terms(engine, settings, [version]).get(version)


def refuse_if_over(engine: sa.Engine, settings: Settings, version: str, now: datetime) -> None:
    """Raise ErasedUsersError if a version may not become champion any more."""
    term = serving_term(engine, settings, version)
    if term is not None and term.is_over(now):
        raise ErasedUsersError(
            f"{term}: it cannot become champion; `nightly_training` trains one that does not know them"
        )
