"""The champion in this process: it answers requests in words.

It is loaded with the first request, and again when the champion has changed. Lists without a request do not
need it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from psycopg2 import errorcodes

from recsys.errors import ConfigurationError, NothingToDoError, RecsysError
from recsys.promotion import ledger
from recsys.settings import Settings

if TYPE_CHECKING:
    from recsys.model.reasons import ReasonTexts
    from recsys.publishing.histories import UserBatch
    from recsys.publishing.requests import RankedItem, RequestRanker
    from recsys.publishing.servable import Servable

CANDIDATES = 1_000
"""Items that the champion ranks for a request; filters and exclusions choose among them."""
_CATALOGUE_SECONDS = 300.0
"""Age at which the catalogue is read again; until then new items are not found."""
_AT_ONCE = 4
"""Requests at a time: further ones are refused, so that they do not keep lists waiting for a thread."""

logger = logging.getLogger(__name__)


class ChampionUnavailableError(RecsysError):
    """Requests in words cannot be answered now; the message says why and what to do."""

    retryable = True


@dataclass(frozen=True)
class Found:
    """What the champion found for a request.

    Attributes
    ----------
    items
        At most `CANDIDATES`, best first.
    explain
        Returns one sentence for each of some of the items.
    """

    model_version: str
    items: list[RankedItem]
    explain: Callable[[list[RankedItem]], list[str]]


class Champion:
    """Ranks items with the champion. Several threads may call it.

    Parameters
    ----------
    engine
        Connections of a login that may read what a model reads: a member of `recsys_pipeline`.
    clock
        Seconds that only grow.
    """

    def __init__(
        self,
        settings: Settings,
        engine: sa.Engine,
        load: Callable[[Settings, str], Servable] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        publishing = settings.publishing.model_copy(update={"pool": CANDIDATES})
        self._settings = settings.model_copy(update={"publishing": publishing})
        self._engine = engine
        self._load = load
        self._clock = clock
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._version = ""
        self._servable: Servable | None = None
        self._ranker: RequestRanker | None = None
        self._read_at = 0.0

    def find(
        self, user_id: str | None, session: str | None, request: str, language: str | None = None
    ) -> Found:
        """Rank items for a request of a user, of the visitor of a session, or of somebody unknown.

        Parameters
        ----------
        language
            Of the reasons; None: the user's, or the default.

        Raises
        ------
        ChampionUnavailableError
            There is no champion, it cannot be loaded, or too many requests are being answered.
        sqlalchemy.exc.DBAPIError
            The database does not answer.
        """
        if not self._slots.acquire(blocking=False):
            raise ChampionUnavailableError("too many requests in words at once; try again")
        try:
            with self._lock, _explained():
                ranker, version = self._current(), self._version
                history = self._history(ranker, user_id, session)
                texts = self._texts(history, language)
                items = ranker.rank(history, request)
        finally:
            self._slots.release()

        def explain(shown: list[RankedItem]) -> list[str]:
            with self._lock:
                return ranker.reasons(history, shown, texts)

        return Found(version, items, explain)

    def request_cache(self) -> tuple[int, int]:
        """Return how many requests had their vectors in memory, and how many were encoded."""
        ranker = self._ranker
        return (0, 0) if ranker is None else ranker.request_cache()

    def _history(self, ranker: RequestRanker, user_id: str | None, session: str | None) -> UserBatch:
        from recsys.warehouse.visitors import user_of

        if user_id is None and session is not None:
            with self._engine.connect() as connection:
                user_id = user_of(connection, session)
        history = None if user_id is None else ranker.read_history(self._engine, user_id)
        return history or ranker.no_history()

    def _texts(self, history: UserBatch, language: str | None) -> ReasonTexts:
        from recsys.publishing.histories import read_texts

        if history.texts and language is None:
            return history.texts[0]
        with self._engine.connect() as connection:
            return read_texts(connection, [language])[0]

    def _current(self) -> RequestRanker:
        # Imported here, because a service that is asked for lists alone needs neither arrays nor a model.
        from recsys.publishing.histories import read_catalogue
        from recsys.publishing.requests import RequestRanker
        from recsys.publishing.servable import load_servable

        champion = ledger.champion(self._engine)
        if champion is None:
            raise NothingToDoError("there is no champion yet; run nightly_training first")
        version = champion.model_version
        if self._ranker is not None and version == self._version and not self._is_old():
            return self._ranker
        servable = self._servable
        if servable is None or version != self._version:
            logger.info("loading version %s", version)
            servable = (self._load or load_servable)(self._settings, version)
        with self._engine.connect() as connection:
            catalogue = read_catalogue(connection)
        ranker = RequestRanker(servable, catalogue, self._settings.publishing)
        # All of it or nothing: what could not be loaded completely is loaded again.
        self._servable, self._ranker, self._version = servable, ranker, version
        self._read_at = self._clock()
        return ranker

    def _is_old(self) -> bool:
        return self._clock() - self._read_at > _CATALOGUE_SECONDS


@contextmanager
def _explained() -> Iterator[None]:
    """Say what an application can do about an error. What may name addresses is only logged."""
    try:
        yield
    except (ConfigurationError, NothingToDoError) as error:
        raise ChampionUnavailableError(str(error)) from error
    except RecsysError as error:
        logger.warning("the champion cannot answer: %s", error)
        raise ChampionUnavailableError(
            "the champion cannot be loaded; the log of this service says why"
        ) from error
    except ImportError as error:
        raise ChampionUnavailableError(
            f"requests in words need the package {error.name}, which is not installed here: install "
            "recsys[orchestration,training]"
        ) from error
    except sa.exc.DBAPIError as error:
        original: Any = error.orig
        if getattr(original, "pgcode", None) != errorcodes.INSUFFICIENT_PRIVILEGE:
            raise
        raise ChampionUnavailableError(
            "requests in words need a login that may read what the model reads: make it a member of "
            "recsys_pipeline too"
        ) from error
