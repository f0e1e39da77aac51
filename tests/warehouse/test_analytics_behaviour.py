"""Views of user behaviour equal the same figures computed in plain Python on random events."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.warehouse.analytics import MIN_PEOPLE, install_analytics
from recsys.warehouse.recipes import apply_recipe

START = datetime(2026, 1, 28, 20, tzinfo=UTC)
USERS = [f"u{number}" for number in range(24)]
LATE_USERS = USERS[-8:]
ITEMS = [f"i{number:02}" for number in range(25)]
UNAVAILABLE = {"i03", "i20"}
TYPES = {
    "click": None,
    "purchase": None,
    "like": None,
    "dislike": None,
    "rating": (1, 2, 3, 4.5),
    "comment": None,
}


@dataclass(frozen=True)
class Event:
    user: str
    item: str
    type: str
    value: float | None
    comment: str | None
    impression: str | None
    at: datetime


@dataclass(frozen=True)
class Slate:
    id: str
    user: str
    items: list[str | None]
    propensities: list[float] | None
    version: str | None
    query: str | None
    at: datetime


@dataclass
class Shop:
    """The rows of the warehouse as Python values."""

    engine: sa.Engine
    events: list[Event] = field(default_factory=list)
    slates: list[Slate] = field(default_factory=list)
    lists: dict[str, list[str]] = field(default_factory=dict)

    def rows(self, view: str) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            found = connection.exec_driver_sql(f"SELECT * FROM analytics.{view}")
            return [dict(row) for row in found.mappings()]

    def reactions(self, slate: Slate, counts: Callable[[Event], bool] = lambda _: True) -> set[str]:
        """Items of a slate that its user reacted to."""
        return {
            event.item
            for event in self.events
            if event.impression == slate.id
            and event.user == slate.user
            and event.item in slate.items
            and counts(event)
        }


def is_click(event: Event) -> bool:
    return event.type == "click"


def is_conversion(event: Event) -> bool:
    """Whether somebody wanted it: no type is a step here."""
    return event.type in ("purchase", "like") or (event.type == "rating" and (event.value or 0) >= 4)


@pytest.fixture(scope="module")
def shop(postgres: Any, warehouse_template: str) -> Iterator[Shop]:
    postgres.create_database("behaviour", template=warehouse_template)
    engine = sa.create_engine(postgres.url("behaviour"))
    shop = Shop(engine)
    chance = random.Random(7)
    for number in range(500):
        length = chance.randint(1, 5)
        shop.slates.append(
            Slate(
                id=f"s{number}",
                user=chance.choice(USERS),
                # A slate may have the same item twice, and some applications log only one item of a slate.
                items=[chance.choice([*ITEMS[:20], None]) for _ in range(length)],
                propensities=None if number % 7 == 0 else [chance.random() for _ in range(length)],
                version=chance.choice(["1", "2", None]),
                query=chance.choice([None, "a book for ann@example.org"]),
                at=START + timedelta(hours=chance.randint(0, 900)),
            )
        )
    for number in range(1000):
        slate = chance.choice(shop.slates) if number % 2 else None
        kind = chance.choice(list(TYPES))
        values = TYPES[kind]
        # Some events name another user's slate, or an item that was not in it: they do not count.
        user = slate.user if slate and number % 5 else chance.choice(USERS)
        later = timedelta(days=30 if user in LATE_USERS else 0)
        shop.events.append(
            Event(
                user=user,
                item=(chance.choice(slate.items) if slate and number % 9 else None)
                or chance.choice(ITEMS[:22]),
                type=kind,
                value=chance.choice(values) if values else None,
                comment=chance.choice([None, "", "a word 🎈"]),
                impression=slate.id if slate else None,
                at=(slate.at if slate else START) + later + timedelta(seconds=chance.randint(1, 3_000_000)),
            )
        )
    shop.lists = {user: chance.sample(ITEMS, 4) for user in USERS}
    fill(shop)
    assert install_analytics(engine)
    yield shop
    engine.dispose()


def fill(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO items (item_id, title, available) VALUES (:id, :title, :available)"),
            [{"id": item, "title": item.upper(), "available": item not in UNAVAILABLE} for item in ITEMS],
        )
        connection.execute(
            sa.text("INSERT INTO users (user_id) VALUES (:user)"), [{"user": user} for user in USERS]
        )
        connection.execute(
            sa.text(
                "INSERT INTO impressions (impression_id, user_id, item_ids, propensities, model_version,"
                " query, shown_at) VALUES (:id, :user, :items, :propensities, :version, :query, :at)"
            ),
            [vars(slate) for slate in shop.slates],
        )
        connection.execute(
            sa.text(
                "INSERT INTO feedback (user_id, item_id, event_type, value, comment, impression_id,"
                " occurred_at) VALUES (:user, :item, :type, :value, :comment, :impression, :at)"
            ),
            [vars(event) for event in shop.events],
        )
        connection.exec_driver_sql(
            "INSERT INTO publications (run_key, model_version, scope, users, items, through_transaction_id)"
            " VALUES ('p', '1', 'all', 24, 24, 0)"
        )
        connection.execute(
            sa.text(
                "INSERT INTO recommendation_lists (user_id, publication_id, model_version, item_ids,"
                " scores, propensities) SELECT :user, publication_id, '1', :items, :scores, :scores"
                " FROM publications"
            ),
            [{"user": user, "items": items, "scores": [1.0] * 4} for user, items in shop.lists.items()],
        )
        connection.exec_driver_sql(
            "INSERT INTO item_vectors SELECT item_id, '1', '[1,0]' FROM items WHERE item_id <> 'i24'"
        )


def enough(people: set[str]) -> bool:
    """Whether a count of these people's events is shown beside others: of nobody's, or of five people's."""
    return not 0 < len(people) < MIN_PEOPLE


def test_click_through_by_slate_counts_slates_that_are_alike(shop: Shop) -> None:
    alike: dict[tuple[Any, ...], list[Slate]] = defaultdict(list)
    for slate in shop.slates:
        clicked = shop.reactions(slate, is_click)
        alike[
            slate.version or "unknown",
            slate.query is not None,
            len([item for item in slate.items if item]),
            len(shop.reactions(slate)),
            len(clicked),
            len(shop.reactions(slate, is_conversion)),
            min((slate.items.index(item) + 1 for item in clicked), default=None),
        ].append(slate)

    def median_wait(slates: list[Slate]) -> Any:
        waits = [
            (min(times) - slate.at).total_seconds()
            for slate in slates
            if (
                times := [
                    event.at
                    for event in shop.events
                    if (event.impression, event.user) == (slate.id, slate.user) and event.item in slate.items
                ]
            )
        ]
        return pytest.approx(median(waits)) if waits else None

    found = {tuple(row.values())[:7]: tuple(row.values())[7:] for row in shop.rows("click_through_by_slate")}
    expected = {
        group: (len(slates), median_wait(slates))
        for group, slates in alike.items()
        if len({slate.user for slate in slates}) >= MIN_PEOPLE
    }
    assert found == expected
    assert 0 < len(found) < len(alike)


def test_click_through_by_slate_shows_no_ids_and_no_words(shop: Shop) -> None:
    secret = {*USERS, *(slate.id for slate in shop.slates), "a book for ann@example.org"}
    assert not any(value in secret for row in shop.rows("click_through_by_slate") for value in row.values())


def test_click_through_by_model_counts_shown_items_and_slates(shop: Shop) -> None:
    found = {row["model_version"]: row for row in shop.rows("click_through_by_model")}
    assert found.keys() == {"1", "2", "unknown"}
    for version, row in found.items():
        slates = [slate for slate in shop.slates if (slate.version or "unknown") == version]
        shown = sum(len(set(slate.items) - {None}) for slate in slates)
        assert len({slate.user for slate in slates if shop.reactions(slate, is_conversion)}) >= MIN_PEOPLE
        clicks = [len(shop.reactions(slate, is_click)) for slate in slates]
        conversions = [len(shop.reactions(slate, is_conversion)) for slate in slates]
        assert (row["slates"], row["shown"]) == (len(slates), shown)
        assert row["reactions"] == sum(len(shop.reactions(slate)) for slate in slates)
        assert (row["clicks"], row["conversions"]) == (sum(clicks), sum(conversions))
        assert row["click_through_rate"] == pytest.approx(sum(clicks) / shown)
        assert row["conversion_rate"] == pytest.approx(sum(conversions) / shown)
        assert row["slate_click_share"] == pytest.approx(sum(map(bool, clicks)) / len(slates))
        assert row["slate_conversion_share"] == pytest.approx(sum(map(bool, conversions)) / len(slates))


def test_click_through_by_position_counts_an_item_at_its_first_position(shop: Shop) -> None:
    slots: dict[tuple[str, int], list[tuple[Slate, str]]] = defaultdict(list)
    for slate in shop.slates:
        for item in filter(None, set(slate.items)):
            slots[slate.version or "unknown", slate.items.index(item) + 1].append((slate, item))
    found = {(row["model_version"], row["position"]): row for row in shop.rows("click_through_by_position")}
    slots = {
        key: shown for key, shown in slots.items() if len({slate.user for slate, _ in shown}) >= MIN_PEOPLE
    }
    assert found.keys() == slots.keys()
    hidden = []
    for key, shown in slots.items():
        row, logged = found[key], [slate for slate, _ in shown if slate.propensities]
        assert row["shown"] == len(shown)
        for column, counts, rate in (
            ("reactions", lambda _: True, None),
            ("clicks", is_click, "click_through_rate"),
            ("conversions", is_conversion, "conversion_rate"),
        ):
            acted = [slate.user for slate, item in shown if item in shop.reactions(slate, counts)]
            hidden.append(not enough(set(acted)))
            assert row[column] == (None if hidden[-1] else len(acted)), (key, column)
            if rate:
                assert row[rate] == (None if hidden[-1] else pytest.approx(len(acted) / len(shown)))
        propensities = [slate.propensities[key[1] - 1] for slate in logged if slate.propensities]
        assert row["average_propensity"] == (
            pytest.approx(sum(propensities) / len(propensities), rel=1e-5)
            if len({slate.user for slate in logged}) >= MIN_PEOPLE
            else None
        )
    assert {True, False} == set(hidden)


@pytest.mark.parametrize(
    ("recipe", "click", "conversion", "dislike"),
    [
        ("shop", "view", "purchase", "dislike"),
        ("newsroom", "view", "bookmark", "dislike"),
        ("video", "click", "like", "dislike"),
        ("music", "view", "listen", "skip"),
    ],
)
def test_clicks_and_conversions_are_what_the_event_types_say(
    warehouse: sa.Engine, recipe: str, click: str, conversion: str, dislike: str
) -> None:
    apply_recipe(warehouse, recipe)
    users = USERS[:15]
    with warehouse.begin() as connection:
        connection.exec_driver_sql("INSERT INTO items (item_id) VALUES ('a'), ('b')")
        connection.execute(
            sa.text("INSERT INTO users (user_id) VALUES (:user)"), [{"user": user} for user in users]
        )
        connection.execute(
            sa.text(
                "INSERT INTO impressions (impression_id, user_id, item_ids, rules, model_version, shown_at)"
                " VALUES (:user, :user, '{a,b}', '{r,NULL}', '1', now())"
            ),
            [{"user": user} for user in users],
        )
        connection.execute(
            sa.text(
                "INSERT INTO feedback (user_id, item_id, event_type, impression_id)"
                " VALUES (:user, 'a', :type, :user)"
            ),
            [
                {"user": user, "type": type_}
                for number, type_ in enumerate([click, conversion, dislike])
                for user in users[5 * number : 5 * number + 5]
            ],
        )
    install_analytics(warehouse)
    with warehouse.connect() as connection:
        for view in ("model", "position", "rule"):
            query = (
                f"SELECT sum(reactions), sum(clicks), sum(conversions) FROM analytics.click_through_by_{view}"
            )
            assert connection.exec_driver_sql(query).one() == (15, 5, 5), view
        query = (
            "SELECT clicks, conversions, first_clicked_position, slates FROM analytics.click_through_by_slate"
        )
        assert sorted(map(str, connection.exec_driver_sql(query))) == [
            "(0, 0, None, 5)", "(0, 1, None, 5)", "(1, 0, 1, 5)",
        ]  # fmt: skip


def test_cohort_retention_follows_users_from_their_first_week(shop: Shop) -> None:
    weeks: dict[str, set[date]] = defaultdict(set)
    for event in shop.events:
        day = event.at.date()
        weeks[event.user].add(day - timedelta(days=day.weekday()))
    expected: Counter[tuple[date, int]] = Counter()
    cohorts = Counter(min(active) for active in weeks.values())
    for active in weeks.values():
        expected.update((min(active), (week - min(active)).days // 7) for week in active)
    found = {(row["cohort_week"], row["weeks_after"]): row for row in shop.rows("cohort_retention")}
    shown = {key: users for key, users in expected.items() if users >= MIN_PEOPLE}
    assert {key: row["active_users"] for key, row in found.items()} == shown
    assert 1 < len(shown) < len(expected)
    for (cohort, _), row in found.items():
        assert row["users"] == cohorts[cohort]
        assert row["retention"] == pytest.approx(row["active_users"] / cohorts[cohort])


def test_item_concentration_is_over_the_whole_catalogue(shop: Shop) -> None:
    months: dict[date, Counter[str]] = defaultdict(Counter)
    people: dict[date, set[str]] = defaultdict(set)
    for event in shop.events:
        months[event.at.date().replace(day=1)][event.item] += 1
        people[event.at.date().replace(day=1)].add(event.user)
    months = {month: counts for month, counts in months.items() if len(people[month]) >= MIN_PEOPLE}
    found = {row["month"]: row for row in shop.rows("item_concentration")}
    assert found.keys() == months.keys()
    for month, counts in months.items():
        events = sorted((counts[item] for item in ITEMS), reverse=True)
        differences = sum(abs(a - b) for a in events for b in events)
        row = found[month]
        assert (row["events"], row["items"], row["catalogue_items"]) == (sum(events), len(counts), len(ITEMS))
        assert row["coverage"] == pytest.approx(len(counts) / len(ITEMS))
        assert row["gini"] == pytest.approx(differences / (2 * len(events) * sum(events)))
        assert row["top_tenth_share"] == pytest.approx(sum(events[:3]) / sum(events))


def test_cold_items_are_available_and_few_people_have_them(shop: Shop) -> None:
    people: dict[str, set[str]] = defaultdict(set)
    for event in shop.events:
        people[event.item].add(event.user)

    def lists(item: str) -> tuple[int | None, int | None]:
        ranks = [items.index(item) + 1 for items in shop.lists.values() if item in items]
        return (len(ranks), min(ranks)) if len(ranks) >= MIN_PEOPLE else (None, None)

    expected = {
        item: (item != "i24", *lists(item))
        for item in ITEMS
        if len(people[item]) < MIN_PEOPLE and item not in UNAVAILABLE
    }
    found = {
        row["item_id"]: (row["has_vector"], row["recommended_to_users"], row["best_rank"])
        for row in shop.rows("cold_items")
    }
    assert found == expected
    assert {"i22", "i23", "i24"} <= found.keys()


def stated(event: Event) -> int | None:
    """Sentiment of the event itself. All types of this test are explicit except click and purchase."""
    if event.type in ("like", "dislike"):
        return 1 if event.type == "like" else -1
    if event.value is None:
        return None
    return -1 if event.value <= 2 else 1 if event.value >= 4 else 0


def test_comment_sentiment_comes_from_the_writers_explicit_opinions(shop: Shop) -> None:
    expected: dict[str, dict[int | None, list[str]]] = defaultdict(lambda: defaultdict(list))
    writers: dict[str, set[str]] = defaultdict(set)
    for event in shop.events:
        if not event.comment:
            continue
        said = stated(event)
        if said is None:
            others = [
                other
                for other in shop.events
                if (other.user, other.item) == (event.user, event.item) and stated(other) is not None
            ]
            said = stated(max(others, key=lambda other: other.at)) if others else None
        expected[event.item][said].append(event.user)
        writers[event.item].add(event.user)
    found = {row["item_id"]: row for row in shop.rows("comment_sentiment_by_item")}
    assert found.keys() == {item for item, users in writers.items() if len(users) >= MIN_PEOPLE}
    assert found
    shown = []
    for item, row in found.items():
        said = expected[item]
        for column, sentiment in (("positive", 1), ("neutral", 0), ("negative", -1), ("unknown", None)):
            count = len(said[sentiment]) if enough(set(said[sentiment])) else None
            assert row[column] == count, (item, column)
            shown.append(count)
        assert (row["comments"], row["users"]) == (sum(map(len, said.values())), len(writers[item]))
        known = [*said[1], *said[0], *said[-1]]
        mean = (len(said[1]) - len(said[-1])) / len(known)
        assert row["average_sentiment"] == (pytest.approx(mean) if len(set(known)) >= MIN_PEOPLE else None)
    assert None in shown
    assert any(shown)


def test_average_values_are_of_at_least_five_people(shop: Shop) -> None:
    def expected(events: list[Event]) -> Any:
        given = [event.value for event in events if event.value is not None]
        people = {event.user for event in events if event.value is not None}
        return pytest.approx(sum(given) / len(given)) if len(people) >= MIN_PEOPLE else None

    averages = []
    for row in shop.rows("item_popularity"):
        rated = [event for event in shop.events if (event.item, event.type) == (row["item_id"], "rating")]
        assert row["average_rating"] == expected(rated)
        averages.append(row["average_rating"])
    for row in shop.rows("feedback_by_day"):
        key = (row["day"], row["event_type"])
        of_day = [event for event in shop.events if (event.at.date(), event.type) == key]
        assert row["average_value"] == expected(of_day)
        averages.append(row["average_value"])
    assert None in averages
    assert any(average is not None for average in averages)
