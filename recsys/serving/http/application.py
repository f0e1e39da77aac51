"""The HTTP service: routes over the SQL functions, and what errors mean to an application."""

import json
import logging
from collections.abc import Sequence
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from psycopg2 import errorcodes
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from recsys.serving.champion import Champion, ChampionUnavailableError
from recsys.serving.http.feedback import Events, TakenEvents, take_feedback
from recsys.serving.http.guard import Guard
from recsys.serving.http.impressions import Impressions, TakenImpressions, take_impressions
from recsys.serving.http.intake import Counts
from recsys.serving.http.lists import (
    Answer,
    Phrases,
    Summary,
    answer_request,
    call,
    list_phrases,
    sum_up,
)
from recsys.serving.http.metrics import CONTENT_TYPE, Metrics
from recsys.serving.http.shop_window import add_shop_window
from recsys.serving.http.values import Id, Text, explain

RETRY_AFTER_SECONDS = 5
MAX_REQUEST = 1_000
"""Characters of a request in words; a model reads fewer."""
_READ_ONLY = (errorcodes.INSUFFICIENT_PRIVILEGE, errorcodes.READ_ONLY_SQL_TRANSACTION)

logger = logging.getLogger(__name__)


def _json_object(text: str) -> str:
    """Return JSON that is an object; raise ValueError for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError('is not JSON, such as {"kind": "lamp"}') from error
    if not isinstance(value, dict):
        raise ValueError('is not a JSON object, such as {"kind": "lamp"}')
    return text


JsonObject = Annotated[str, AfterValidator(_json_object)]
Placement = Annotated[Id, Query(description="a row of the table `placements`")]
Length = Annotated[int | None, Query(description="number of items")]
Filter = Annotated[
    JsonObject | None, Query(description='attributes that an item needs, as JSON: `{"kind": "lamp"}`')
]
Context = Annotated[JsonObject | None, Query(description="what is known of this moment, as JSON")]
Exclude = Annotated[list[Id], Query(description="item that is not shown; may be repeated")]
Words = Annotated[
    Text, Query(max_length=MAX_REQUEST, description="what is wanted, in words; the champion answers it")
]
Language = Annotated[Id | None, Query(description="language of the reasons, such as de")]
Session = Annotated[Id | None, Query(description="session of a visitor, or of a user")]


class Wanted(BaseModel):
    """Body of `POST /recommendations`: the arguments of `serving.recommend`."""

    model_config = ConfigDict(extra="forbid")

    user_id: Id | None = None
    session: Id | None = None
    placement: Id = "home"
    k: int | None = None
    filter: dict[str, Any] = {}
    exclude: list[Id] = []
    context: dict[str, Any] = {}
    request: Annotated[Text, Field(max_length=MAX_REQUEST)] = ""


class Found(BaseModel):
    """Body of `POST /rerank`."""

    model_config = ConfigDict(extra="forbid")

    user_id: Id | None = None
    session: Id | None = None
    item_ids: list[Id] = Field(description="what to order, such as the hits of a search")


class Health(BaseModel):
    """What the service can do now."""

    status: str


def create_application(
    engine: sa.Engine, *, keys: Sequence[str] = (), champion: Champion | None = None
) -> FastAPI:
    """Return the service as an ASGI application.

    Parameters
    ----------
    engine
        Connections of a login that may call the reading functions and add feedback, see `recsys_writer`.
    keys
        Keys that applications present. None: only this machine is served, see `Guard`.
    champion
        Answers requests in words; None: they are refused.
    """
    metrics = Metrics()
    application = FastAPI(
        title="recsys",
        description="Lists at the moment of use, and feedback on them.",
        # Their pages load scripts from another server.
        docs_url=None,
        redoc_url=None,
        # The guard checks the key. This only says so in the OpenAPI document.
        dependencies=[Depends(HTTPBearer(auto_error=False))] if keys else [],
        responses={
            422: {"description": "an argument is wrong; `detail` says which and what to do"},
            503: {"description": "the database does not answer; try again after `Retry-After` seconds"},
        },
    )
    application.add_middleware(Guard, keys=keys, metrics=metrics)

    def answer(function: str, **arguments: Any) -> Answer:
        return listed(call(engine, function, **arguments))

    def recommended(request: str, **arguments: Any) -> Answer:
        if not request.strip():
            return answer("recommend", **arguments)
        if champion is None:
            raise ChampionUnavailableError("this service answers no requests in words")
        return listed(answer_request(engine, champion, request, **arguments))

    def listed(found: Answer) -> Answer:
        metrics.listed([item.source for item in found.items])
        return found

    @application.get("/recommendations")
    def recommend_to_visitor(
        session: Annotated[Id | None, Query(description="session; none: somebody unknown")] = None,
        placement: Placement = "home",
        k: Length = None,
        filter: Filter = None,  # noqa: A002 - the name of the parameter
        exclude: Exclude = [],  # noqa: B006 - FastAPI copies it
        context: Context = None,
        request: Words = "",
    ) -> Answer:
        """What to show the visitor of a session."""
        return recommended(
            request, user_id=None, placement=placement, k=k, filter=filter, exclude=exclude,
            context=context, session=session,
        )  # fmt: skip

    @application.post("/recommendations")
    def recommend_by_body(wanted: Wanted) -> Answer:
        """The same with arguments in a body, where no log of a proxy keeps them, and of any length."""
        return recommended(**wanted.model_dump())

    @application.get("/recommendations/{user:path}")
    def recommend(
        user: Id,
        placement: Placement = "home",
        k: Length = None,
        filter: Filter = None,  # noqa: A002
        exclude: Exclude = [],  # noqa: B006
        context: Context = None,
        session: Session = None,
        request: Words = "",
    ) -> Answer:
        """What to show a user."""
        return recommended(
            request, user_id=user, placement=placement, k=k, filter=filter, exclude=exclude,
            context=context, session=session,
        )  # fmt: skip

    @application.get("/trending")
    def trending(
        segment: Annotated[Id | None, Query(description="value of the segment attribute")] = None,
        k: Length = None,
        language: Language = None,
    ) -> Answer:
        """What many want now."""
        return answer("trending", segment=segment, k=k, language=language)

    @application.get("/items/{item:path}/similar")
    def similar_items(
        item: Id,
        kind: Annotated[Id, Query(description="similar, together or next")] = "similar",
        k: Length = None,
        filter: Filter = None,  # noqa: A002
        language: Language = None,
    ) -> Answer:
        """What goes with an item, for a page about it."""
        return answer("similar_items", item_id=item, kind=kind, k=k, filter=filter, language=language)

    @application.get("/summary")
    def summary(
        user_id: Id | None = None,
        placement: Placement = "home",
        context: Context = None,
        session: Session = None,
    ) -> Summary:
        """Why the first items of `recommendations` are shown, as a text."""
        return sum_up(
            engine, "summary", user_id=user_id, placement=placement, context=context, session=session
        )

    @application.get("/items/{item:path}/phrases")
    def item_phrases(item: Id) -> Phrases:
        """What people praise and criticise about an item in their comments, phrase by phrase."""
        return list_phrases(engine, item)

    @application.get("/items/{item:path}/summary")
    def item_summary(item: Id, language: Language = None) -> Summary:
        """What people praise and criticise about an item in their comments, as a text."""
        return sum_up(engine, "item_summary", item_id=item, language=language)

    @application.post("/rerank")
    def rerank(found: Found) -> Answer:
        """The same items in the order of a user's taste, without those that are not available."""
        return answer("rerank", **found.model_dump())

    @application.post("/feedback", responses={403: {"description": "this service only reads"}})
    def feedback(batch: Events) -> TakenEvents:
        """Take events. A request that is sent again changes nothing: known events count once."""
        taken = take_feedback(engine, batch.events)
        metrics.took("event", taken.model_dump(include=set(Counts.model_fields)))
        return taken

    @application.post("/impressions", responses={403: {"description": "this service only reads"}})
    def impressions(batch: Impressions) -> TakenImpressions:
        """Take slates that were shown. One that is sent again, by its `impression_id`, changes nothing."""
        taken = take_impressions(engine, batch.impressions)
        metrics.took("impression", taken.model_dump(include=set(Counts.model_fields)))
        return taken

    @application.get("/health")
    def health() -> Health:
        """Whether lists can be read now; needs no key."""
        call(engine, "trending", k=1)
        return Health(status="ok")

    @application.get("/metrics")
    def counters() -> Response:
        """Counters of this process in Prometheus' text format."""
        if champion is not None:
            metrics.encoded(*champion.request_cache())
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    if not keys:
        add_shop_window(application, engine)
    _handle_errors(application)
    return application


def _handle_errors(application: FastAPI) -> None:
    @application.exception_handler(RequestValidationError)
    async def wrong_argument(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _problem(422, explain(error.errors()))

    @application.exception_handler(ChampionUnavailableError)
    async def no_champion(_request: Request, error: ChampionUnavailableError) -> JSONResponse:
        return _problem(503, str(error), **{"Retry-After": str(RETRY_AFTER_SECONDS)})

    @application.exception_handler(sa.exc.TimeoutError)
    async def too_many_at_once(_request: Request, _error: sa.exc.TimeoutError) -> JSONResponse:
        return _unavailable("all connections to the database are busy")

    @application.exception_handler(sa.exc.DBAPIError)
    async def database_error(_request: Request, error: sa.exc.DBAPIError) -> JSONResponse:
        original: Any = error.orig
        code: str | None = getattr(original, "pgcode", None)
        if code is not None and code.startswith(errorcodes.CLASS_DATA_EXCEPTION):
            return _problem(422, " ".join(filter(None, [
                f"{original.diag.message_primary}.", original.diag.message_hint,
            ])))  # fmt: skip
        if code in _READ_ONLY:
            logger.error("the login of this service may not do what was asked: %s", original)
            return _problem(403, "this service may not do that: its login in the database only reads")
        if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) or error.connection_invalidated:
            # The first line names neither a statement nor a value.
            logger.warning("the database does not answer: %s", str(original).partition("\n")[0])
            return _unavailable("the database does not answer")
        raise error


def _problem(status: int, detail: str, **headers: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers=headers or None)


def _unavailable(detail: str) -> JSONResponse:
    return _problem(503, f"{detail}; try again", **{"Retry-After": str(RETRY_AFTER_SECONDS)})
