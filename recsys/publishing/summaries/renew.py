"""Let a language model write about lists and items, in batches, until all is written or time is over.

It is no part of a publication, which never waits for it. What is refused is kept as refused, so that it is
not asked again. A run that is killed has lost one text.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from recsys.errors import NothingToDoError
from recsys.model.reasons import ReasonTexts
from recsys.publishing.summaries.chat import ChatEndpoint, WriterError
from recsys.publishing.summaries.given import PROMPT_VERSION, Given, item_facts, list_facts
from recsys.publishing.summaries.guard import Guard
from recsys.publishing.summaries.local_model import LocalModel
from recsys.settings import Settings, SummarySettings
from recsys.upkeep.monitoring import WRITER_FAILED, Finding, close_alert, open_alert, send_open_alerts
from recsys.warehouse.analytics import MIN_PEOPLE
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import item_summaries, list_summaries

logger = logging.getLogger(__name__)

_BATCH = 64
_NOTHING = "nothing to tell"
"""Why there is no text about a list without titles, or in a language that is gone."""
_FAILURES = 3
"""In a row, after which a run gives up: the writer does not work now."""


class Writer(Protocol):
    """Answers the messages of a chat."""

    def write(self, messages: Sequence[dict[str, str]]) -> str:
        """Return the answer; raise WriterError if there is none."""
        ...


def open_writer(settings: SummarySettings) -> AbstractContextManager[Writer]:
    """Return the writer that the settings name; see `SummarySettings.writer`."""
    if settings.writer.startswith(("http://", "https://")):
        return ChatEndpoint(settings)
    return LocalModel(Path(settings.writer))


def renew_summaries(
    engine: sa.Engine,
    settings: Settings,
    *,
    now: datetime,
    open_writer: Callable[[SummarySettings], AbstractContextManager[Writer]] = open_writer,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, int]:
    """Write about what has no text yet; return how many texts were accepted, and refused for which reason.

    A writer that does not work is alerted of once, until a run gets texts again.

    Parameters
    ----------
    clock
        Seconds that only grow.

    Raises
    ------
    NothingToDoError
        No writer is configured.
    ConfigurationError
        The model cannot be loaded.
    """
    own = settings.summaries
    if not own.writer:
        raise NothingToDoError("no language model writes summaries: RECSYS_SUMMARIES__WRITER is empty")
    ends = clock() + 60 * own.minutes
    with open_writer(own) as writer:
        run = _Run(engine, own, writer, ends, clock)
        failure = run.write_all()
    _tell(engine, settings, failure, run.outcomes, now)
    logger.info("summaries: %s", ", ".join(f"{n} {name}" for name, n in run.outcomes.items()) or "none")
    return dict(run.outcomes)


class _Run:
    def __init__(
        self,
        engine: sa.Engine,
        settings: SummarySettings,
        writer: Writer,
        ends: float,
        clock: Callable[[], float],
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self._engine = engine
        self._settings = settings
        self._writer = writer
        self._ends = ends
        self._clock = clock
        self._failures = 0
        self._failure: str | None = None
        self._read_languages()

    def _read_languages(self) -> None:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.text("select language, texts from languages")).all()
        self._spoken = {row.language: ReasonTexts(row.language, row.texts) for row in rows}
        self._guard = Guard(list(self._spoken.values()))

    def _texts(self, language: str) -> ReasonTexts | None:
        """Return the texts of a language, which may be newer than this run; None: it is gone."""
        if language not in self._spoken:
            self._read_languages()
        return self._spoken.get(language)

    def write_all(self) -> str | None:
        """Write about items, which are few, then about lists; return why the writer failed, if it did."""
        try:
            self._each("item", self._of_item)
            self._each("list", self._of_list)
        except WriterError as error:
            self._failure = str(error)
        return self._failure

    def _each(self, kind: str, tell: Callable[[sa.Row[Any]], tuple[str, Given | None]]) -> None:
        tried: list[str] = []
        while self._clock() < self._ends:
            with self._engine.connect() as connection:
                rows = connection.execute(
                    sa.text(read_statement(f"publishing/select_unwritten_{kind}s")),
                    {
                        "model": self._settings.model,
                        "prompt_version": PROMPT_VERSION,
                        "tried": tried,
                        "batch": _BATCH,
                    },
                ).all()
            if not rows:
                return
            for row in rows:
                if self._clock() >= self._ends:
                    return
                name, given = tell(row)
                if not self._keep(kind, row, given):
                    tried.append(name)

    def _of_item(self, row: sa.Row[Any]) -> tuple[str, Given | None]:
        is_spoken = self._texts(row.language) is not None
        given = item_facts(row.title, row.phrases, row.language, MIN_PEOPLE) if is_spoken else None
        return f"{row.item_id} {row.language}", given

    def _of_list(self, row: sa.Row[Any]) -> tuple[str, Given | None]:
        texts = self._texts(row.language)
        return row.user_id, None if texts is None else list_facts(row.items or [], texts)

    def _keep(self, kind: str, row: sa.Row[Any], given: Given | None) -> bool:
        """Store a text, or why there is none; return whether something is stored."""
        digest = "" if given is None else given.digest(self._settings.model)
        text: str | None = None
        refusal: str | None = None
        if given is None:
            refusal = _NOTHING
        elif kind == "list" and (known := self._written(digest)) is not None:
            text, refusal = known.summary, known.refusal
            self.outcomes["known"] += 1
        else:
            text = self._ask(given)
            if text is None:
                return False
            refusal = self._guard.refusal(text, given)
            self.outcomes[f"refused: {refusal}" if refusal else "accepted"] += 1
        with self._engine.begin() as connection:
            written = connection.execute(
                sa.text(read_statement(f"publishing/merge_into_{kind}_summaries")),
                row._asdict()
                | {
                    "content_digest": digest,
                    "summary": None if refusal else text,
                    "refusal": refusal,
                    "model": self._settings.model,
                    "licence": self._settings.licence,
                    "prompt_version": PROMPT_VERSION,
                },
            )
        return written.rowcount > 0

    def _written(self, content_digest: str) -> sa.Row[Any] | None:
        with self._engine.connect() as connection:
            return connection.execute(
                sa.text(read_statement("publishing/select_written_list")), {"content_digest": content_digest}
            ).one_or_none()

    def _ask(self, given: Given) -> str | None:
        try:
            text = self._writer.write(given.messages(self._spoken[given.language])).strip()
        except WriterError as error:
            self._failures += 1
            self._failure = str(error)
            self.outcomes["failed"] += 1
            if self._failures == _FAILURES:
                raise
            logger.warning("a text about a %s was not written: %s", given.kind, error)
            return None
        self._failures, self._failure = 0, None
        return text


def forget_summaries(engine: sa.Engine) -> None:
    """Delete all texts, for a warehouse where no language model writes any more."""
    with engine.begin() as connection:
        connection.execute(list_summaries.delete())
        connection.execute(item_summaries.delete())


def _tell(
    engine: sa.Engine, settings: Settings, failure: str | None, outcomes: Mapping[str, int], now: datetime
) -> None:
    """Open the alert about the writer, or close it when there are texts again."""
    with engine.begin() as connection:
        if failure is not None:
            message = (
                f"the language model {settings.summaries.model} writes no summaries: {failure}. Lists are "
                "published, and templates answer; see RECSYS_SUMMARIES__WRITER"
            )
            open_alert(connection, Finding(WRITER_FAILED, message), now)
        elif any(name != "known" for name in outcomes):
            close_alert(connection, WRITER_FAILED, now)
    send_open_alerts(engine, settings, now)
