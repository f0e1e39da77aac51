"""Watch what users get and how they respond, keep the figures, and alert once for each cause.

Whether rows add up and whether runs succeed is checked elsewhere, when it happens. This looks at what no run
notices: lists that nobody renews, feedback that drifts, responses that become fewer, lists and users that
become alike, an item that is suddenly disliked, champions that each lose a little.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from recsys.alerts import send_alert
from recsys.settings import Settings
from recsys.warehouse.analytics import MIN_PEOPLE
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import alerts, experiments, monitored_figures

_LEAST_EXPECTED_ANSWERS = 20.0
_STANDARD_ERRORS = 3.0
_MOST_ITEMS = 10
_NIGHTS_OF_DECLINE = 3
"""Of the last five. One in forty nights is beyond chance by chance; three of five hardly ever are."""
_TIME_TO_RESPOND = timedelta(hours=1)
_LEAST_VARIETY = 0.5
"""Share of the usual variety of lists or vectors below which somebody should look."""
_KEPT = timedelta(days=400)
"""How long figures are kept: a year, and the same season of the year before."""
_EXPERIMENTS_SHOWN = timedelta(days=7)
WRITER_FAILED = "summaries"
"""Cause of the alert about a language model that does not write; what asks it opens and closes the alert."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """Something that a person should look at.

    Attributes
    ----------
    cause
        Names what is watched. The same cause is alerted once, until it is no longer found.
    message
        What was found, with figures; the alert's text. It names no user.
    """

    cause: str
    message: str


@dataclass(frozen=True)
class Figure:
    """A figure of the last day.

    Attributes
    ----------
    label
        What it is about: a placement, an event type; empty if there is only one.
    """

    name: str
    label: str
    value: float


@dataclass(frozen=True)
class Watched:
    """What monitoring found, and what it measured."""

    findings: list[Finding]
    figures: list[Figure]


def monitor(engine: sa.Engine, settings: Settings, now: datetime) -> Watched:
    """Look for all causes, open and close alerts, send those that are new, and keep the day's figures.

    An alert that could not be noted as sent, because the process was killed, is sent again by the next call.
    """
    with engine.begin() as connection:
        hours = connection.scalar(sa.text(read_statement("upkeep/measure_list_age")), {"until": now})
        responses = _measure_responses(connection, now)
        variety = _measure_variety(connection)
        found = [
            *_old_lists(hours, settings),
            *_drift(connection, now),
            *_fewer_responses(responses, settings),
            *_less_variety(connection, variety, now),
            *_disliked_items(connection, settings, now),
            *_slow_decline(connection, settings, now),
            *_ended_experiments(connection, now),
            *_failed_writer(connection),
        ]
        causes = [finding.cause for finding in found]
        connection.execute(sa.text(read_statement("upkeep/close_alerts")), {"now": now, "causes": causes})
        for finding in found:
            open_alert(connection, finding, now)
        figures = [
            *([] if hours is None else [Figure("list_age_hours", "", hours)]),
            *(
                Figure("response_share", placement, today.mean)
                for (placement, latest), today in responses.items()
                if latest and today.users >= MIN_PEOPLE
            ),
            *_feedback_events(connection, now),
            *variety,
            Figure("open_alerts", "", len(found)),
        ]
        _keep(connection, figures, now)
    send_open_alerts(engine, settings, now)
    logger.info("monitoring: %d causes for alerts, %d figures", len(found), len(figures))
    return Watched(found, figures)


def _keep(connection: sa.Connection, figures: list[Figure], now: datetime) -> None:
    day = now.astimezone(UTC).date()
    for figure in figures:
        connection.execute(
            sa.text(read_statement("upkeep/store_figure")),
            {"day": day, "figure": figure.name, "label": figure.label, "value": figure.value},
        )
    connection.execute(monitored_figures.delete().where(monitored_figures.c.day < day - _KEPT))


def _feedback_events(connection: sa.Connection, now: datetime) -> Iterator[Figure]:
    rows = connection.execute(
        sa.text(read_statement("upkeep/measure_feedback")), {"until": now, "people": MIN_PEOPLE}
    )
    for event_type, events in rows:
        yield Figure("feedback_events", event_type, events)


def open_alert(connection: sa.Connection, finding: Finding, now: datetime) -> None:
    """Note that a cause was found; `send_open_alerts` sends what is new."""
    connection.execute(
        sa.text(read_statement("upkeep/open_alert")),
        {"now": now, "cause": finding.cause, "message": finding.message},
    )


def close_alert(connection: sa.Connection, cause: str, now: datetime) -> None:
    """Note that a cause is no longer found."""
    is_open = alerts.c.closed_at.is_(None)
    connection.execute(alerts.update().where(alerts.c.cause == cause, is_open).values(closed_at=now))


def send_open_alerts(engine: sa.Engine, settings: Settings, now: datetime) -> None:
    """Send what is open and unsent, holding the row of each meanwhile, so that no other call sends it."""
    unsent = (
        sa.select(alerts.c.cause, alerts.c.message)
        .where(alerts.c.closed_at.is_(None), alerts.c.sent_at.is_(None))
        .order_by(alerts.c.cause)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    while True:
        with engine.begin() as connection:
            alert = connection.execute(unsent).one_or_none()
            if alert is None:
                return
            send_alert(settings, alert.message)
            connection.execute(alerts.update().where(alerts.c.cause == alert.cause).values(sent_at=now))


def _old_lists(hours: float | None, settings: Settings) -> Iterator[Finding]:
    limit = settings.alerts.max_list_hours
    if hours is not None and hours > limit:
        yield Finding(
            "old lists",
            f"the lists of all users were last published {hours:.0f} hours ago; the limit is {limit:g} "
            "(RECSYS_ALERTS__MAX_LIST_HOURS). See why publish_recommendations has not run",
        )


def _drift(connection: sa.Connection, now: datetime) -> Iterator[Finding]:
    rows = connection.execute(sa.text(read_statement("upkeep/select_drift")), {"until": now})
    for consumer, expectation, window_id in rows:
        yield Finding(
            f"drift: {consumer}, {expectation}",
            f"feedback of {consumer} is unusual: {expectation} warns in window {window_id}. Its Data Docs "
            "show what was expected and what was found",
        )


@dataclass(frozen=True)
class Responses:
    """Shares of their slates that users answered: number of users, mean and variance over them."""

    users: int
    mean: float
    variance: float

    def are_fewer_than(self, usual: "Responses", fall: float) -> bool:
        """Return whether users answer less than usual by a share `fall`, and not by chance."""
        if usual.mean * self.users < _LEAST_EXPECTED_ANSWERS:
            return False
        error = math.sqrt(self.variance / self.users + usual.variance / usual.users)
        difference = usual.mean - self.mean
        return difference > fall * usual.mean and difference > _STANDARD_ERRORS * error


def _measure_responses(connection: sa.Connection, now: datetime) -> dict[tuple[str, bool], Responses]:
    """Return the responses in each placement, in the last day (true) and in the week before."""
    statement = sa.text(read_statement("upkeep/measure_responses"))
    return {
        (placement, latest): Responses(*figures)
        for placement, latest, *figures in connection.execute(statement, {"until": now - _TIME_TO_RESPOND})
    }


def _fewer_responses(responses: dict[tuple[str, bool], Responses], settings: Settings) -> Iterator[Finding]:
    for (placement, latest), today in responses.items():
        usual = responses.get((placement, False))
        if not latest or usual is None or not today.are_fewer_than(usual, settings.alerts.response_fall):
            continue
        where = f"placement {placement}" if placement else "slates without a placement"
        yield Finding(
            f"fewer responses: {where}",
            f"users answered {today.mean:.1%} of what they were shown in the last day ({where}, "
            f"{today.users:,} users), and {usual.mean:.1%} in the week before. See "
            "analytics.click_through_by_model and what was promoted or released since",
        )


def _measure_variety(connection: sa.Connection) -> list[Figure]:
    row = connection.execute(sa.text(read_statement("upkeep/measure_lists"))).one()
    if row.users < MIN_PEOPLE:
        return []
    figures = [Figure("listed_items", "", row.items)]
    return figures if row.similarity is None else [*figures, Figure("user_similarity", "", row.similarity)]


def _less_variety(connection: sa.Connection, figures: list[Figure], now: datetime) -> Iterator[Finding]:
    """Compare with the last four weeks. The figures mean the same for every model, unlike scores."""
    rows = connection.execute(
        sa.text(read_statement("upkeep/select_usual_figures")), {"day": now.astimezone(UTC).date()}
    )
    usual = {row.figure: row.usual for row in rows}
    latest = {figure.name: figure.value for figure in figures if figure.name in usual}
    items, similarity = latest.get("listed_items"), latest.get("user_similarity")
    if items is not None and items < _LEAST_VARIETY * usual["listed_items"]:
        yield Finding(
            "narrow lists",
            f"only {items:,.0f} different items are among the first ten of all lists; usual in the last four "
            f"weeks is {usual['listed_items']:,.0f}. See analytics.promotion_history for what was promoted "
            "since, and which items are still available",
        )
    if similarity is not None and 1 - similarity < _LEAST_VARIETY * (1 - usual["user_similarity"]):
        yield Finding(
            "users alike",
            f"the vectors of users have become alike: the mean cosine of two is {similarity:.2f}, usual in "
            f"the last four weeks is {usual['user_similarity']:.2f}. So lists depend less on what a user "
            "did. See analytics.promotion_history for what was promoted since, and consider roll_back_model",
        )


def _disliked_items(connection: sa.Connection, settings: Settings, now: datetime) -> Iterator[Finding]:
    rows = connection.execute(
        sa.text(read_statement("upkeep/select_disliked_items")),
        {
            "until": now,
            "people": MIN_PEOPLE,
            "times": settings.alerts.dislike_times,
            "limit": _MOST_ITEMS,
        },
    )
    for item_id, people, usual in rows:
        yield Finding(
            f"disliked item: {item_id}",
            f"{people} people disliked item {item_id} in the last day; usual is {usual:.1f} a day. Read "
            "their comments, and see whether the item is broken, late or wrongly described",
        )


def _slow_decline(connection: sa.Connection, settings: Settings, now: datetime) -> Iterator[Finding]:
    rows = connection.execute(
        sa.text(read_statement("upkeep/select_declines")),
        {"until": now, "nights": _NIGHTS_OF_DECLINE, "decline": settings.alerts.champion_decline},
    )
    for days, nights, compared, ndcg, earlier in rows:
        yield Finding(
            f"slow decline: {days} days",
            f"the champion ranks the newest feedback {1 - ndcg / earlier:.1%} worse than the champion of "
            f"{days} days ago (NDCG {ndcg:.4f} and {earlier:.4f}, beyond chance in {nights} of the last "
            f"{compared} nights), though each promotion was within its margin. See "
            "analytics.champion_comparisons for the nights, and consider roll_back_model",
        )


def _ended_experiments(connection: sa.Connection, now: datetime) -> Iterator[Finding]:
    """Keep the alert of an experiment that did not end as planned open for a week."""
    rows = connection.execute(
        sa.select(alerts.c.cause, alerts.c.message).where(
            alerts.c.cause.in_(sa.select(sa.literal("experiment ") + experiments.c.name)),
            alerts.c.closed_at.is_(None),
            alerts.c.opened_at > now - _EXPERIMENTS_SHOWN,
        )
    )
    for cause, message in rows:
        yield Finding(cause, message)


def _failed_writer(connection: sa.Connection) -> Iterator[Finding]:
    rows = connection.execute(
        sa.select(alerts.c.cause, alerts.c.message).where(
            alerts.c.cause == WRITER_FAILED, alerts.c.closed_at.is_(None)
        )
    )
    for cause, message in rows:
        yield Finding(cause, message)
