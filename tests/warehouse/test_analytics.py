"""Every analytics view equals values computed independently in Python from the same rows."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError
from recsys.warehouse import analytics
from recsys.warehouse.analytics import MIN_PEOPLE, install_analytics, refresh_analytics
from recsys.warehouse.statements import sql_path

START = datetime(2026, 3, 1, 22, tzinfo=UTC)
ITEMS = {
    "i1": ("Dune", True),
    "i2": ("Emma", True),
    "i3": ("三体", True),
    "i4": ("Gone", False),
    "i5": ("Ulysses", True),
}
TWINS = "abcde"
"""Views show nothing of fewer than five people, so five people do the same."""
# user, item, type, value, comment, hours after the start
FEEDBACK = [
    (f"{user}{twin}", *event)
    for twin in TWINS
    for user, *event in (
        ("u1", "i1", "rating", 5.0, "great 🎉", 0),
        ("u1", "i2", "rating", 2.0, None, 1),
        ("u1", "i1", "view", None, None, 3),
        ("u2", "i1", "rating", 5.0, None, 5),
        ("u2", "i3", "rating", 4.0, "", 30),
        ("u2", "i4", "click", None, None, 31),
        ("u3", "i1", "dwell", 12.5, None, 31),
    )
]
LISTS = {
    f"{user}{twin}": items
    for twin in TWINS
    for user, items in {"u1": ["i3", "i5"], "u2": ["i2", "i5"], "u3": ["i2"]}.items()
}


@pytest.fixture
def analysed(warehouse: sa.Engine) -> sa.Engine:
    """A warehouse with a few rows in every table, and the views installed."""
    with warehouse.begin() as connection:
        for item_id, (title, available) in ITEMS.items():
            connection.execute(
                sa.text("INSERT INTO items (item_id, title, available) VALUES (:i, :t, :a)"),
                {"i": item_id, "t": title, "a": available},
            )
        connection.execute(
            sa.text("INSERT INTO users (user_id, consent) VALUES (:user, :consent)"),
            [
                {"user": f"{user}{twin}", "consent": user != "u2"}
                for user in ("u1", "u2", "u3", "u4")
                for twin in TWINS
            ],
        )
        for user, item, kind, value, comment, hours in FEEDBACK:
            connection.execute(
                sa.text(
                    "INSERT INTO feedback (user_id, item_id, event_type, value, comment, occurred_at)"
                    " VALUES (:u, :i, :k, :v, :c, :t)"
                ),
                {
                    "u": user,
                    "i": item,
                    "k": kind,
                    "v": value,
                    "c": comment,
                    "t": START + timedelta(hours=hours),
                },
            )
        connection.exec_driver_sql(
            "INSERT INTO windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived,"
            " valid, quarantined, duplicates, erased, late, out_of_order) VALUES"
            " ('nightly', 'a', 0, 10, 9, 7, 2, 0, 0, 5, 6), ('nightly', 'b', 10, 20, 5, 3, 1, 0, 0, 0, 0),"
            " ('nightly', 'c', 20, 30, 4, NULL, NULL, NULL, NULL, NULL, NULL)"
        )
        for number, (reasons, status) in enumerate(
            [
                (["unknown_item"], "held"),
                (["unknown_item", "future_time"], "released"),
                (["future_time"], "held"),
            ]
        ):
            connection.execute(
                sa.text(
                    "INSERT INTO quarantine (feedback_id, window_id, reasons, user_id, transaction_id,"
                    " feedback, status) SELECT :n, min(window_id), :r, 'u1a', 1, '{}', :s FROM windows"
                ),
                {"n": 1000 + number, "r": reasons, "s": status},
            )
        for minute, (action, version, previous, sequence) in enumerate(
            [
                ("promote", "1", None, 1),
                ("hold", "2", "1", None),
                ("promote", "3", "1", 2),
                ("roll_back", "1", "3", 3),
            ]
        ):
            connection.execute(
                sa.text(
                    "INSERT INTO promotion_ledger (decided_at, action, model_version, previous_champion,"
                    " champion_sequence, reason, explanation, actor)"
                    " VALUES (:at, :a, :v, :p, :s, 'because', 'It is so.', 'tests')"
                ),
                {
                    "at": START + timedelta(minutes=minute),
                    "a": action,
                    "v": version,
                    "p": previous,
                    "s": sequence,
                },
            )
        connection.exec_driver_sql(
            "INSERT INTO model_evaluations (run_key, model_version, scorer, slice, metric, value, users)"
            " VALUES ('r', '3', 'candidate', 'all', 'ndcg_at_10', 0.25, 30),"
            " ('r', '1', 'champion', 'all', 'ndcg_at_10', 0.2, 30),"
            " ('r', NULL, 'popularity', 'all', 'ndcg_at_10', 0.1, 30),"
            " ('s', '4', 'candidate', 'all', 'ndcg_at_10', 0.3, 30)"
        )
        publication = connection.scalar(
            sa.text(
                "INSERT INTO publications (run_key, model_version, scope, users, items,"
                " through_transaction_id) VALUES ('p', '1', 'all', 3, 4, 99) RETURNING publication_id"
            )
        )
        for user, items in LISTS.items():
            connection.execute(
                sa.text(
                    "INSERT INTO recommendation_lists (user_id, publication_id, model_version, item_ids,"
                    " scores, propensities) VALUES (:u, :p, '1', :i, :s, :s)"
                ),
                {"u": user, "p": publication, "i": items, "s": [1.0] * len(items)},
            )
    assert install_analytics(warehouse)
    return warehouse


def rows(engine: sa.Engine, view: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.exec_driver_sql(f"SELECT * FROM analytics.{view}").mappings()]


def test_feedback_by_day_counts_utc_days(analysed: sa.Engine) -> None:
    expected: dict[tuple[Any, str], list[Any]] = defaultdict(list)
    for event in FEEDBACK:
        expected[((START + timedelta(hours=event[5])).date(), event[2])].append(event)
    found = {(row["day"], row["event_type"]): row for row in rows(analysed, "feedback_by_day")}
    assert found.keys() == expected.keys()
    for key, events in expected.items():
        assert found[key]["events"] == len(events)
        assert found[key]["users"] == len({event[0] for event in events})
        assert found[key]["items"] == len({event[1] for event in events})
        assert found[key]["comments"] == sum(bool(event[4]) for event in events)
        values = [event[3] for event in events if event[3] is not None]
        assert found[key]["average_value"] == (pytest.approx(sum(values) / len(values)) if values else None)


def test_rating_distribution_contains_only_explicit_values(analysed: sa.Engine) -> None:
    ratings = Counter(event[3] for event in FEEDBACK if event[2] == "rating")
    found = {(row["event_type"], row["value"]): row for row in rows(analysed, "rating_distribution")}
    assert found.keys() == {("rating", value) for value in ratings}
    for value, count in ratings.items():
        assert found["rating", value]["events"] == count
        assert found["rating", value]["share"] == pytest.approx(count / ratings.total())


def test_quarantine_by_reason_counts_a_row_under_each_of_its_reasons(analysed: sa.Engine) -> None:
    found = {
        row["reason"]: (row["rows"], row["held"], row["released"])
        for row in rows(analysed, "quarantine_by_reason")
    }
    assert found == {"unknown_item": (2, 1, 1), "future_time": (2, 1, 1)}


def test_window_reconciliation_distinguishes_a_missing_row_from_an_open_window(analysed: sa.Engine) -> None:
    found = {
        row["run_key"]: (row["missing"], row["balanced"], row["late"], row["out_of_order"])
        for row in rows(analysed, "window_reconciliation")
    }
    assert found == {"a": (0, True, 5, 6), "b": (1, False, 0, 0), "c": (None, None, None, None)}


def test_window_reconciliation_tells_a_balanced_window_from_a_validated_one(analysed: sa.Engine) -> None:
    states = {
        "a": [("valid_share", False, "critical")],
        "b": [("valid_share", True, "critical"), ("drift", False, "warning")],
    }
    with analysed.begin() as connection:
        connection.exec_driver_sql("UPDATE windows SET consumer = 'nightly', arrived = 5")
        for run_key, results in states.items():
            for name, success, severity in results:
                connection.execute(
                    sa.text(
                        "INSERT INTO validation_results"
                        " (window_id, expectation, success, severity, observed, expected)"
                        " SELECT window_id, :name, :success, :severity, '{}', '{}'"
                        " FROM windows WHERE run_key = :run_key"
                    ),
                    {"name": name, "success": success, "severity": severity, "run_key": run_key},
                )
    found = {row["run_key"]: row for row in rows(analysed, "window_reconciliation")}
    b = found["b"]["window_id"]
    assert {key: (row["validated_in_window_id"], row["validation_failed"]) for key, row in found.items()} == {
        "a": (b, True),
        "b": (b, False),
        "c": (None, False),
    }


def test_promotion_history_shows_the_champion_after_each_decision(analysed: sa.Engine) -> None:
    found = sorted(rows(analysed, "promotion_history"), key=lambda row: row["ledger_id"])
    assert [row["action"] for row in found] == ["promote", "hold", "promote", "roll_back"]
    assert [row["champion_after"] for row in found] == ["1", "1", "3", "1"]


def test_champion_history_shows_the_champion_at_any_moment(analysed: sa.Engine) -> None:
    found = sorted(rows(analysed, "champion_history"), key=lambda row: row["champion_sequence"])
    at = [START + timedelta(minutes=minute) for minute in (0, 2, 3)]
    assert [(row["model_version"], row["valid_from"], row["valid_to"], row["current"]) for row in found] == [
        ("1", at[0], at[1], False),
        ("3", at[1], at[2], False),
        ("1", at[2], None, True),
    ]


@pytest.mark.parametrize(
    ("minutes", "champion"), [(-1, None), (0, "1"), (1.5, "1"), (2, "3"), (2.9, "3"), (3, "1"), (9999, "1")]
)
def test_champion_at_returns_the_champion_of_a_moment(
    analysed: sa.Engine, minutes: float, champion: str | None
) -> None:
    with analysed.connect() as connection:
        found = connection.scalar(
            sa.text("SELECT analytics.champion_at(:at)"), {"at": START + timedelta(minutes=minutes)}
        )
    assert found == champion


def test_model_metrics_are_compared_with_champion_and_popularity_of_the_same_run(analysed: sa.Engine) -> None:
    found = {(row["run_key"], row["scorer"]): row for row in rows(analysed, "model_metrics")}
    candidate, first = found["r", "candidate"], found["s", "candidate"]
    assert candidate["difference_to_champion"] == pytest.approx(0.25 - 0.2)
    assert candidate["difference_to_popularity"] == pytest.approx(0.25 - 0.1)
    assert (first["difference_to_champion"], first["difference_to_popularity"]) == (None, None)


def test_item_popularity_shows_consumption_beside_recommendation(analysed: sa.Engine) -> None:
    found = {row["item_id"]: row for row in rows(analysed, "item_popularity")}
    assert found.keys() == ITEMS.keys()
    counts = Counter(event[1] for event in FEEDBACK)
    for item_id, row in found.items():
        ranks = [items.index(item_id) + 1 for items in LISTS.values() if item_id in items]
        rated = [event[3] for event in FEEDBACK if event[1:3] == (item_id, "rating")]
        assert (row["title"], row["available"]) == ITEMS[item_id]
        assert row["events"] == (counts[item_id] or None)
        assert row["users"] == (len({event[0] for event in FEEDBACK if event[1] == item_id}) or None)
        share = counts[item_id] / len(FEEDBACK)
        assert row["share_of_events"] == (pytest.approx(share) if share else None)
        assert row["popularity_rank"] == 1 + sum(counts[other] > counts[item_id] for other in ITEMS)
        assert row["average_rating"] == (pytest.approx(sum(rated) / len(rated)) if rated else None)
        assert row["recommended_to_users"] == (len(ranks) or None)
        assert row["average_recommended_rank"] == (pytest.approx(sum(ranks) / len(ranks)) if ranks else None)


def test_recommendation_coverage_and_gini_are_over_the_available_items(analysed: sa.Engine) -> None:
    [row] = rows(analysed, "recommendation_coverage")
    shown = Counter(item for items in LISTS.values() for item in items)
    exposures = [shown[item] for item, (_, available) in ITEMS.items() if available]
    differences = sum(abs(a - b) for a in exposures for b in exposures)
    assert (row["model_version"], row["users"], row["recommended_items"]) == ("1", 3 * MIN_PEOPLE, 3)
    assert row["coverage"] == pytest.approx(3 / 4)
    assert row["gini"] == pytest.approx(differences / (2 * len(exposures) * sum(exposures)))


def test_user_activity_groups_users_by_their_number_of_events(analysed: sa.Engine) -> None:
    found = {
        (row["consent"], row["events_from"], row["events_to"]): row for row in rows(analysed, "user_activity")
    }
    # u4 has no event, u3 one, u1 and u2 have three; u2 has not consented.
    assert found.keys() == {(True, 0, 0), (True, 1, 1), (True, 2, 3), (False, 2, 3)}
    mine = [event for event in FEEDBACK if event[0] == "u1a"]
    row = found[True, 2, 3]
    assert (row["users"], row["events"]) == (MIN_PEOPLE, MIN_PEOPLE * len(mine))
    assert row["explicit_events"] == MIN_PEOPLE * sum(event[2] == "rating" for event in mine)
    assert row["average_items"] == len({event[1] for event in mine})
    days = {(START + timedelta(hours=event[5])).date() for event in mine}
    assert row["average_active_days"] == len(days)
    assert found[True, 0, 0]["explicit_events"] == 0


def test_materialised_views_show_new_rows_after_a_refresh(analysed: sa.Engine) -> None:
    with analysed.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO feedback (user_id, item_id, event_type) VALUES (:user, 'i5', 'like')"),
            [{"user": f"{user}{twin}"} for user in ("u3", "u4") for twin in TWINS],
        )
    assert {"item_popularity", "user_activity"} < set(refresh_analytics(analysed))
    events = {row["item_id"]: row["events"] for row in rows(analysed, "item_popularity")}
    assert events["i5"] == 2 * MIN_PEOPLE
    users = {(row["consent"], row["events_from"]): row["users"] for row in rows(analysed, "user_activity")}
    assert users == {(True, 1): 5, (True, 2): 10, (False, 2): 5}


def test_installing_again_changes_nothing(analysed: sa.Engine) -> None:
    assert install_analytics(analysed) == []


def test_changed_definitions_replace_the_old_ones_and_keep_rights(
    analysed: sa.Engine, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with analysed.begin() as connection:
        connection.exec_driver_sql("GRANT SELECT ON analytics.champion_history TO public")
    folder = tmp_path / "analytics"
    folder.mkdir()
    for file in sql_path("analytics").glob("*.sql"):
        (folder / file.name).write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    (folder / "quarantine_by_reason.sql").write_text(
        "create or replace view analytics.quarantine_by_reason as select 1 as other_column where 'x' like '%'"
    )
    monkeypatch.setattr(analytics, "sql_path", lambda *parts: tmp_path.joinpath(*parts))
    assert install_analytics(analysed)
    assert rows(analysed, "quarantine_by_reason") == [{"other_column": 1}]
    with analysed.connect() as connection:
        assert connection.scalar(
            sa.text("SELECT has_table_privilege('public', 'analytics.champion_history', 'select')")
        )


def test_a_view_that_other_objects_use_is_not_dropped(
    analysed: sa.Engine, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with analysed.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW mine AS SELECT item_id FROM analytics.item_popularity")
    folder = tmp_path / "analytics"
    folder.mkdir()
    (folder / "item_popularity.sql").write_text(
        "create materialized view analytics.item_popularity as select 1 as x"
    )
    monkeypatch.setattr(analytics, "sql_path", lambda *parts: tmp_path.joinpath(*parts))
    with pytest.raises(ConfigurationError, match=r"view mine depends .*; drop those"):
        install_analytics(analysed)
    assert len(rows(analysed, "item_popularity")) == len(ITEMS)


def test_every_view_and_column_has_a_comment(analysed: sa.Engine) -> None:
    with analysed.connect() as connection:
        comments = dict(
            connection.exec_driver_sql(
                "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class"
                " WHERE relnamespace = 'analytics'::regnamespace AND relkind IN ('v', 'm')"
                " UNION ALL SELECT proname, obj_description(oid, 'pg_proc') FROM pg_proc"
                " WHERE pronamespace = 'analytics'::regnamespace"
            ).all()
        )
        silent_columns = connection.exec_driver_sql(
            "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
            " WHERE relnamespace = 'analytics'::regnamespace AND relkind IN ('v', 'm') AND attnum > 0"
            " AND col_description(pg_class.oid, attnum) IS NULL"
        ).all()
    assert comments.keys() == {file.stem for file in sql_path("analytics").glob("*.sql")}
    assert all(comments.values())
    assert silent_columns == []
