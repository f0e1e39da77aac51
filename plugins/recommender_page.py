"""The "Recommender" page in the Airflow UI: the champion, decisions and data; and Data Docs.

Airflow loads plugins in every component, so this module imports almost nothing. The web application is
built when the API server receives the first request for it.
"""

from __future__ import annotations

import secrets
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    import sqlalchemy as sa
    from fastapi import FastAPI

URL_PREFIX = "/recommender"
_TEMPLATES = Path(__file__).parent / "templates"
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_CONNECT_TIMEOUT_SECONDS = 3
_STATEMENT_TIMEOUT_MILLISECONDS = 3_000

_MAX_SLOW_QUERIES = 2
"""After this many, the rest is left out: the page answers within twice the time limit and a little."""

_QUERIES = {
    "alerts": "select * from analytics.open_alerts order by opened_at desc limit 10",
    "champion": "select * from analytics.champion_history where current",
    # Metrics of all models in the latest run that evaluated the champion as a candidate.
    "metrics": """
        with latest as (
            select run_key, slice
            from analytics.model_metrics
            where scorer = 'candidate' and slice = 'all' and model_version = (
                select model_version from analytics.champion_history where current
            )
            order by evaluated_at desc
            limit 1
        )
        select metrics.*
        from analytics.model_metrics as metrics
        join latest using (run_key, slice)
        order by case scorer when 'candidate' then 0 when 'champion' then 1 else 2 end, scorer,
            left(metric, 4) <> 'ndcg', metric
    """,
    # Four weeks of what monitoring has measured, and of the models that the nights compared.
    "figures": """
        select figure, label, day, value from analytics.monitored_figures
        where day >= (now() at time zone 'UTC')::date - 28
        union all
        select * from (
            select distinct on (scorer, day)
                'ndcg', replace(scorer, '_', ' '), (evaluated_at at time zone 'UTC')::date as day, value
            from analytics.model_metrics
            where slice = 'all' and left(metric, 4) = 'ndcg'
                and scorer in ('candidate', 'champion', 'popularity')
                and starts_with(run_key, 'nightly_training/') and evaluated_at >= now() - interval '28 days'
            order by scorer, day, evaluated_at desc
        ) as nights
        order by figure, label, day
    """,
    "experiment": """
        select * from analytics.experiment_results
        where ended_at is null or ended_at > now() - interval '7 days'
        order by ended_at is not null, shown_since desc, role desc, metric
        limit 8
    """,
    "experiment_days": """
        select metric, day, control, challenger_value
        from analytics.experiment_days
        where control is not null and experiment = (
            select experiment from analytics.experiment_results
            where ended_at is null or ended_at > now() - interval '7 days'
            order by ended_at is not null, shown_since desc
            limit 1
        )
        order by metric, day
    """,
    "decisions": "select * from analytics.promotion_history order by ledger_id desc limit 10",
    "windows": "select * from analytics.window_reconciliation order by window_id desc limit 10",
    "quarantine": "select * from analytics.quarantine_by_reason order by rows desc",
    "publications": "select * from analytics.publication_history order by publication_id desc limit 5",
    "coverage": "select * from analytics.recommendation_coverage order by users desc",
}

_DATA_DOCS_QUERIES = {
    "windows": "select * from windows where window_id = %(window_id)s",
    "results": """
        select * from validation_results where window_id = %(window_id)s
        order by success, severity, expectation
    """,
}
_WINDOW_OF_RUN = {"windows": "select window_id from windows where run_key = %(run)s"}


class LazyApplication:
    """An ASGI application that is built on its first request."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle a request."""
        await build_application()(scope, receive, send)


class RecommenderPlugin(AirflowPlugin):
    """Adds the page to the navigation bar."""

    name = "recommender"
    fastapi_apps = [  # noqa: RUF012
        {"app": LazyApplication(), "url_prefix": URL_PREFIX, "name": "Recommender"}
    ]
    external_views = [  # noqa: RUF012
        {
            "name": "Recommender",
            # Relative, so that it works when Airflow is served under a path prefix.
            "href": f"{URL_PREFIX.lstrip('/')}/",
            "destination": "nav",
            "url_route": "recommender",
            "nav_top_level": True,
        }
    ]


@cache
def build_application() -> FastAPI:
    """Return the page's web application; every endpoint requires a signed-in Airflow user."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import requires_access_view
    from fastapi import Depends, FastAPI, HTTPException, Request
    from fastapi.responses import HTMLResponse, RedirectResponse

    from recsys.validation import data_docs

    application = FastAPI(
        title="Recommender",
        openapi_url=None,
        dependencies=[Depends(requires_access_view(AccessView.WEBSITE))],
    )

    @application.get("/")
    def page() -> HTMLResponse:
        status, content = read_state()
        return _respond("recommender.html", status, **content)

    @application.get("/data-docs", response_model=None)
    def docs_of_run(run: str) -> HTMLResponse | RedirectResponse:
        status, content = query_warehouse(_WINDOW_OF_RUN, run=run)
        if status != 200:
            return _respond("data_docs.html", status, **content)
        if not content["windows"]:
            problem = f"Run {run} opened no window, so there was no feedback to validate."
            return _respond("data_docs.html", 404, problem=problem)
        return RedirectResponse(f"data-docs/{content['windows'][0]['window_id']}/")

    @application.get("/data-docs/{window_id:int}/")
    @application.get("/data-docs/{window_id:int}/index.html")
    def docs_of_window(window_id: int) -> HTMLResponse:
        status, content = query_warehouse(_DATA_DOCS_QUERIES, window_id=window_id)
        if status != 200:
            return _respond("data_docs.html", status, **content)
        if not content["windows"]:
            return _respond("data_docs.html", 404, problem=f"There is no window {window_id}.")
        pages = data_docs.list_pages(_settings().data_docs, window_id)
        return _respond("data_docs.html", 200, pages=pages, **content)

    @application.get("/data-docs/{window_id:int}/{path:path}")
    def docs_page(window_id: int, path: str) -> HTMLResponse:
        text = data_docs.read_page(_settings().data_docs, window_id, path)
        if text is None:
            problem = "This page does not exist. Data Docs are removed after their retention period."
            return _respond("data_docs.html", 404, problem=problem)
        policy = data_docs.CONTENT_SECURITY_POLICY
        return HTMLResponse(text, headers=_HEADERS | {"Content-Security-Policy": policy})

    @application.exception_handler(HTTPException)
    async def refuse(_request: Request, error: HTTPException) -> HTMLResponse:
        problem = "Sign in to Airflow to see this page." if error.status_code == 401 else str(error.detail)
        return _respond("recommender.html", error.status_code, problem=problem)

    return application


def read_state() -> tuple[int, dict[str, Any]]:
    """Return the page's HTTP status and content: rows by query name, or a `problem` to show."""
    status, content = query_warehouse(_QUERIES)
    if status != 200:
        return status, content
    models: dict[str, dict[str, Any]] = {}
    for row in content["metrics"]:
        models.setdefault(row["scorer"], {})[row["metric"]] = row
    charts = {
        "charts": _charts(content["figures"]),
        "experiment_charts": _experiment_charts(content["experiment_days"]),
    }
    return 200, content | {"models": models} | charts


# Title, format and the name of a line without a label.
_CHARTS = {
    "response_share": ("Share of shown lists that users answer", ".1%", "not stated"),
    "feedback_events": ("Feedback a day", ",.0f", "not stated"),
    "ndcg": ("NDCG in the nights", ".4f", "not stated"),
    "listed_items": ("Different items among the first ten of all lists", ",.0f", "items"),
    "user_similarity": ("How alike users' vectors are (1: all the same)", ".2f", "mean cosine of two users"),
}


def _charts(figures: list[dict[str, Any]]) -> list[str]:
    from recsys.airflow.charts import line_chart

    drawn = []
    for name, (title, written, unlabelled) in _CHARTS.items():
        lines: dict[str, list[Any]] = {}
        for row in figures:
            if row["figure"] == name:
                lines.setdefault(row["label"] or unlabelled, []).append((row["day"], row["value"]))
        drawn.append(line_chart(title, lines, written))
    return [chart for chart in drawn if chart]


def _experiment_charts(days: list[dict[str, Any]]) -> list[str]:
    """Draw each metric of an experiment, as it was at the last look of each day."""
    from recsys.airflow.charts import line_chart

    metrics: dict[str, dict[str, list[Any]]] = {}
    for row in days:
        lines = metrics.setdefault(row["metric"], {"champion": [], "challenger": []})
        lines["champion"].append((row["day"], row["control"]))
        lines["challenger"].append((row["day"], row["challenger_value"]))
    return [line_chart(name.replace("_", " ").capitalize(), lines, ".4f") for name, lines in metrics.items()]


def query_warehouse(queries: dict[str, str], **parameters: Any) -> tuple[int, dict[str, Any]]:
    """Return an HTTP status and the rows by query name, or a `problem` to show.

    Queries that take too long have no rows and are named in `slow`. What no row can have, such as a text with
    a zero byte, finds no rows.
    """
    from psycopg2.errors import QueryCanceled
    from sqlalchemy.exc import DataError, DBAPIError, OperationalError, ProgrammingError

    from recsys.errors import RecsysError

    try:
        engine = _engine()
    except RecsysError as error:
        return 503, {"problem": str(error)}
    try:
        with engine.connect() as connection:
            content: dict[str, Any] = {"slow": []}
            for name, query in queries.items():
                content[name] = []
                if len(content["slow"]) >= _MAX_SLOW_QUERIES:
                    content["slow"].append(name)
                    continue
                try:
                    with connection.begin_nested():
                        found = connection.exec_driver_sql(query, parameters)
                        content[name] = [dict(row) for row in found.mappings()]
                except (DataError, ValueError):
                    pass
                except OperationalError as error:
                    if not isinstance(error.orig, QueryCanceled):
                        raise
                    content["slow"].append(name)
    except ProgrammingError:
        return 503, {"problem": "The warehouse has no analytics views yet. Run `recsys migrate`."}
    except DBAPIError as error:
        where = engine.url.render_as_string(hide_password=True)
        reason = str(error.orig).strip().splitlines()[0]
        return 503, {"problem": f"The warehouse at {where} does not answer: {reason}"}
    return 200, content


def _settings() -> Any:
    from recsys.settings import load_settings

    return load_settings()


def _engine() -> sa.Engine:
    """Return an engine for short read-only queries."""
    import sqlalchemy as sa

    from recsys.warehouse.engine import create_engine, warehouse_url

    return create_engine(
        warehouse_url(_settings().require_warehouse_url()),
        poolclass=sa.NullPool,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            "options": "-c default_transaction_read_only=on -c timezone=UTC "
            f"-c statement_timeout={_STATEMENT_TIMEOUT_MILLISECONDS}",
        },
        isolation_level="REPEATABLE READ",
    )


def _respond(template: str, status: int, **content: Any) -> Any:
    from fastapi.responses import HTMLResponse

    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; frame-ancestors 'self'"
    )
    return HTMLResponse(
        _environment().get_template(template).render(nonce=nonce, **content),
        status_code=status,
        headers=_HEADERS | {"Content-Security-Policy": policy},
    )


@cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True)
    environment.filters["moment"] = lambda time: "-" if time is None else f"{time:%Y-%m-%d %H:%M} UTC"
    environment.filters["count"] = lambda number: "-" if number is None else f"{number:,}"
    environment.filters["figure"] = lambda number: "-" if number is None else f"{number:.4f}"
    environment.filters["percent"] = lambda share: "-" if share is None else f"{share:.1%}"
    environment.filters["metric"] = _metric
    environment.filters["pairs"] = _pairs
    return environment


def _metric(name: str) -> str:
    """Format the name of a metric: ndcg_at_10 becomes NDCG@10."""
    metric, at, k = name.partition("_at_")
    written = {"ndcg": "NDCG", "recall": "Recall", "mrr": "MRR", "map": "MAP"}
    return f"{written.get(metric, metric.replace('_', ' '))}{'@' if at else ''}{k}"


def _pairs(values: dict[str, Any]) -> str:
    """Format figures on one line, without distributions: the pages of Great Expectations show those."""
    figures = {name.replace("_", " "): value for name, value in values.items() if not isinstance(value, dict)}
    return ", ".join(f"{n} {v:.4g}" if isinstance(v, float) else f"{n} {v}" for n, v in figures.items())
