"""No view of the schema `analytics` shows a group of fewer than five people.

The tests walk over every view that there is, so a new view that forgets the rule fails here.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.local.postgres import PostgresServer
from recsys.warehouse.analytics import MIN_PEOPLE, SCHEMA, install_analytics

ABOUT_THE_PIPELINE = {
    *("window_reconciliation", "quarantine_by_reason", "publication_history", "model_lineage"),
    *("promotion_history", "champion_history", "open_alerts", "superiority_tests"),
    *("monitored_figures", "experiment_results", "experiment_days", "tuning_trials"),
}
"""Views of what the pipeline did. They count rows of runs, and show neither what nor when somebody did.

Alerts and figures are written by monitoring, which names an item only if five people disliked it and measures
nothing about fewer than five. Results of experiments are written by looks at them, which leave out figures of
fewer than twenty people (tests/experiments). Searches of settings show what at least five users tested
(tests/tuning).
"""

START = datetime(2026, 3, 1, 22, tzinfo=UTC)
ITEMS = ("common", "other", "rare", "unloved")
View = list[tuple[Any, ...]]


def act(
    connection: sa.Connection,
    person: str,
    *,
    item: str = "common",
    type_: str = "click",
    value: float | None = None,
    comment: str | None = None,
    version: str | None = "1",
    days: int = 0,
    late: int = 0,
    slate: tuple[str, ...] = (),
    rule: str = "spring",
) -> None:
    """Let somebody see a slate, if one is given, and react to one of its items."""
    at = START + timedelta(days=days)
    connection.execute(
        sa.text("INSERT INTO users (user_id, user_key) VALUES (:user, 'k' || :user) ON CONFLICT DO NOTHING"),
        {"user": person},
    )
    impression = f"{person}/{item}/{days}" if slate else None
    if slate:
        connection.execute(
            sa.text(
                "INSERT INTO impressions (impression_id, user_id, item_ids, propensities, model_version,"
                " shown_at, rules) VALUES (:id, :user, :items, :propensities, :version, :at, :rules)"
                " ON CONFLICT DO NOTHING"
            ),
            {
                "id": impression,
                "user": person,
                "items": list(slate),
                "version": version,
                "at": at,
                "propensities": [0.5] * len(slate),
                "rules": [rule, *[None] * (len(slate) - 1)],
            },
        )
    connection.execute(
        sa.text(
            "INSERT INTO feedback (user_id, item_id, event_type, value, comment, impression_id, occurred_at,"
            " received_at, transaction_id)"
            " VALUES (:user, :item, :type, :value, :comment, :impression, :at, :received, 1)"
        ),
        {
            "user": person,
            "item": item,
            "type": type_,
            "value": value,
            "comment": comment,
            "impression": impression,
            "at": at,
            "received": at + timedelta(days=late, hours=1),
        },
    )


def publish(connection: sa.Connection, people: list[str], version: str, items: list[str]) -> None:
    """Publish a list of one model version for each of these people."""
    publication = connection.scalar(
        sa.text(
            "INSERT INTO publications (run_key, model_version, scope, users, items, through_transaction_id)"
            " VALUES (gen_random_uuid(), :version, 'all', 1, 1, 0) RETURNING publication_id"
        ),
        {"version": version},
    )
    for person in people:
        connection.execute(
            sa.text(
                "INSERT INTO recommendation_lists (user_id, publication_id, model_version, item_ids, scores,"
                " propensities) VALUES (:user, :publication, :version, :items, :ones, :ones)"
            ),
            {
                "user": person,
                "publication": publication,
                "version": version,
                "items": items,
                "ones": [1.0] * len(items),
            },
        )


def evaluate(connection: sa.Connection, people: int, slice_: str = "all") -> None:
    """Store a figure, a predicted sentiment and a phrase of this many people."""
    if not people:
        return
    connection.execute(
        sa.text(
            "INSERT INTO model_evaluations (run_key, scorer, slice, metric, value, users)"
            " VALUES ('r', 'candidate', :slice, 'ndcg_at_10', 0.123, :people)"
        ),
        {"slice": slice_, "people": people},
    )
    connection.execute(
        sa.text(
            "INSERT INTO champion_comparisons (run_key, days, champion_version, earlier_version, ndcg,"
            " earlier_ndcg, difference, low, high, users, compared_at)"
            " VALUES (:slice, 7, '2', '1', 0.123, 0.124, -0.001, -0.002, 0.001, :people, :at)"
        ),
        {"slice": slice_, "people": people, "at": START},
    )
    connection.execute(
        sa.text(
            "INSERT INTO comment_sentiment"
            " (item_id, comments, average_value, average_sentiment, model_version, published_at)"
            " VALUES (:item, :people, 0.5, 0.5, '1', :at)"
        ),
        {"item": "common" if slice_ == "all" else "rare", "people": people, "at": START},
    )
    phrase = {"praised": True, "phrase": "a word", "people": people, "sentence": "A word."}
    connection.execute(
        sa.text(
            "INSERT INTO item_phrases (item_id, comment_ids, people, phrases, model_version, computed_at)"
            " VALUES (:item, '{}', :people, CAST(:phrases AS jsonb), '1', :at)"
        ),
        {
            "item": "common" if slice_ == "all" else "rare",
            "people": people,
            "phrases": json.dumps([phrase]),
            "at": START,
        },
    )


def live_together(connection: sa.Connection, people: int) -> None:
    """Let these people do everything that views show, all of them alike."""
    names = [f"u{number:02}" for number in range(people)]
    for name in names:
        slate = ("common", "other")
        act(connection, name, slate=slate)
        act(connection, name, type_="purchase", slate=slate)
        act(connection, name, type_="rating", value=4, comment="a word", days=1)
        act(connection, name, days=8)
    publish(connection, names, "1", ["common"])
    evaluate(connection, people)


@pytest.fixture(scope="module")
def warehouses(postgres: PostgresServer, warehouse_template: str) -> Iterator[Callable[[str], sa.Engine]]:
    """Make a warehouse with a catalogue, in which nobody has done anything."""
    engines = []

    def make(name: str) -> sa.Engine:
        postgres.create_database(f"privacy_{name}", template=warehouse_template)
        engine = sa.create_engine(postgres.url(f"privacy_{name}"))
        engines.append(engine)
        with engine.begin() as connection:
            connection.execute(
                sa.text("INSERT INTO items (item_id, title, created_at) VALUES (:item, 'A title', :at)"),
                [{"item": item, "at": START} for item in ITEMS],
            )
        return engine

    yield make
    for engine in engines:
        engine.dispose()


def shown(engine: sa.Engine) -> dict[str, View]:
    """Return the rows of every view that is about people."""
    install_analytics(engine)
    with engine.connect() as connection:
        names = connection.scalars(
            sa.text(
                "SELECT relname FROM pg_class WHERE relnamespace = CAST(:schema AS regnamespace)"
                " AND relkind IN ('v', 'm', 'r', 'f', 'p')"
            ),
            {"schema": SCHEMA},
        ).all()
        assert set(names) > ABOUT_THE_PIPELINE
        return {
            name: sorted(map(tuple, connection.exec_driver_sql(f"TABLE {SCHEMA}.{name}")), key=repr)
            for name in names
            if name not in ABOUT_THE_PIPELINE
        }


@pytest.fixture(scope="module")
def nobody(warehouses: Callable[[str], sa.Engine]) -> dict[str, View]:
    return shown(warehouses("nobody"))


@pytest.mark.parametrize("people", [1, MIN_PEOPLE - 1])
def test_what_fewer_than_five_people_did_shows_in_no_view(
    warehouses: Callable[[str], sa.Engine], nobody: dict[str, View], people: int
) -> None:
    engine = warehouses(f"people_{people}")
    with engine.begin() as connection:
        live_together(connection, people)
    found = shown(engine)
    for view, rows in found.items():
        assert rows == nobody[view], view


def test_what_five_people_did_shows_in_every_view(
    warehouses: Callable[[str], sa.Engine], nobody: dict[str, View]
) -> None:
    engine = warehouses("five")
    with engine.begin() as connection:
        live_together(connection, MIN_PEOPLE)
    found = shown(engine)
    assert [view for view, rows in found.items() if rows == nobody[view]] == []


def test_a_view_that_forgets_the_rule_is_found(
    warehouses: Callable[[str], sa.Engine], nobody: dict[str, View]
) -> None:
    engine = warehouses("forgetful")
    install_analytics(engine)
    with engine.begin() as connection:
        live_together(connection, MIN_PEOPLE - 1)
        connection.exec_driver_sql(
            f"CREATE VIEW {SCHEMA}.forgetful AS SELECT item_id, count(*) AS events FROM feedback GROUP BY 1"
        )
        for refreshed in connection.scalars(
            sa.text("SELECT matviewname FROM pg_matviews WHERE schemaname = :schema"), {"schema": SCHEMA}
        ).all():
            connection.exec_driver_sql(f"REFRESH MATERIALIZED VIEW {SCHEMA}.{refreshed}")
    found = shown(engine)
    assert [view for view, rows in found.items() if rows != nobody.get(view, [])] == ["forgetful"]


@pytest.fixture(scope="module")
def crowd(warehouses: Callable[[str], sa.Engine]) -> dict[str, View]:
    """What views show of twelve people who are alike."""
    engine = warehouses("crowd")
    with engine.begin() as connection:
        live_together(connection, 12)
    return shown(engine)


RARE: dict[str, dict[str, Any]] = {
    "an item": {"item": "rare", "slate": ("rare",)},
    "an event type": {"type_": "share"},
    "a value": {"type_": "rating", "value": 1.5},
    "a day": {"days": 100},
    "a model version": {"version": "rare", "slate": ("common",)},
    "a rule": {"rule": "rare", "slate": ("common",)},
    "a longer slate": {"slate": ("common", "other", "unloved", "rare")},
    "a list of another version": {"lists": "rare"},
}


@pytest.mark.parametrize("what", RARE)
def test_what_only_four_of_many_people_did_has_no_row_and_no_figure_of_its_own(
    warehouses: Callable[[str], sa.Engine], crowd: dict[str, View], what: str
) -> None:
    engine = warehouses(f"rare_{list(RARE).index(what)}")
    with engine.begin() as connection:
        live_together(connection, 12)
        few = [f"few{number}" for number in range(MIN_PEOPLE - 1)]
        options = {name: value for name, value in RARE[what].items() if name != "lists"}
        for name in few:
            act(connection, name, **options)
        if "lists" in RARE[what]:
            publish(connection, few, "rare", ["rare"])
        evaluate(connection, len(few), "user.rare")
    for view, rows in shown(engine).items():
        # Totals over everybody change; the number of rows, and what rows say about rare things, does not.
        assert len(rows) == len(crowd[view]), (view, rows)
        for row in rows:
            if {"rare", "share", 1.5, (START + timedelta(days=100)).date()} & {*row}:
                assert row in crowd[view], view


def test_counts_of_four_among_many_people_are_null(warehouses: Callable[[str], sa.Engine]) -> None:
    engine = warehouses("counts")
    with engine.begin() as connection:
        for number in range(12):
            few = number < MIN_PEOPLE - 1
            act(connection, f"u{number:02}", type_="click" if few else "share", slate=("common",), late=few)
            opinion = {"value": 1 if few else 5, "comment": "a word" if few else None}
            act(connection, f"u{number:02}", type_="rating", days=1, **opinion)
            act(connection, f"u{number:02}", type_="comment", comment="a word", days=2)
            if few:
                act(connection, f"u{number:02}", type_="view", days=8)
    install_analytics(engine)
    expected = {
        "feedback_by_day": ("comments", "event_type = 'rating'"),
        "click_through_by_model": ("coalesce(clicks, click_through_rate, slate_click_share)", "true"),
        "click_through_by_position": ("coalesce(clicks, click_through_rate)", "position = 1"),
        "click_through_by_rule": ("coalesce(clicks, click_through_rate)", "rule = 'spring'"),
        "comment_sentiment_by_item": ("negative", "item_id = 'common'"),
    }
    with engine.connect() as connection:
        for view, (column, condition) in expected.items():
            query = f"SELECT {column} FROM {SCHEMA}.{view} WHERE {condition}"
            assert connection.exec_driver_sql(query).all() == [(None,)], view
        late = connection.exec_driver_sql(f"SELECT late_events FROM {SCHEMA}.feedback_lag").scalars().all()
        assert {number for number in late if number} == set()
        weeks = connection.exec_driver_sql(f"SELECT weeks_after, users FROM {SCHEMA}.cohort_retention").all()
        assert weeks == [(0, 12), (1, 12)]
        values = connection.exec_driver_sql(f"SELECT value FROM {SCHEMA}.rating_distribution").all()
        assert values == [(5.0,)]
