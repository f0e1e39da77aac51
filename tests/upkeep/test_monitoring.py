"""What monitoring finds, and that each cause alerts once."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from recsys.settings import Settings
from recsys.upkeep import monitoring
from recsys.upkeep.monitoring import monitor
from recsys.warehouse.analytics import install_analytics
from recsys.warehouse.recipes import apply_recipe

NOW = datetime(2026, 5, 20, 1, 30, tzinfo=UTC)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts of the alerts that were sent."""
    texts: list[str] = []
    monkeypatch.setattr(monitoring, "send_alert", lambda _settings, text: texts.append(text))
    return texts


def run(engine: sa.Engine, statement: str, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement), {"now": NOW, **values})


def show(engine: sa.Engine, placement: str, days_ago: float, users: int, answering: int) -> None:
    """Show every user a slate; some of them open its second item."""
    run(
        engine,
        """
        WITH shown AS (
            INSERT INTO impressions (impression_id, user_id, item_ids, placement, shown_at)
            SELECT gen_random_uuid(), 'user' || n, '{1,2}', :placement, :now - :ago
            FROM generate_series(1, :users) AS n
            RETURNING impression_id, user_id, shown_at
        )
        INSERT INTO feedback (user_id, item_id, event_type, impression_id, occurred_at)
        SELECT user_id, '2', 'view', impression_id, shown_at
        FROM shown WHERE substr(user_id, 5)::integer <= :answering
        """,
        placement=placement, ago=timedelta(days=days_ago), users=users, answering=answering,
    )  # fmt: skip


def dislike(engine: sa.Engine, item: str, days_ago: float, people: int, each: int = 1) -> None:
    run(
        engine,
        """
        INSERT INTO feedback (user_id, item_id, event_type, value, comment, occurred_at)
        SELECT 'user' || n, :item, 'rating', 1, 'Broke on the first day.', :now - :ago
        FROM generate_series(1, :people) AS n CROSS JOIN generate_series(1, :each)
        """,
        item=item, ago=timedelta(days=days_ago), people=people, each=each,
    )  # fmt: skip


def causes(engine: sa.Engine, settings: Settings, now: datetime = NOW) -> list[str]:
    return [finding.cause for finding in monitor(engine, settings, now).findings]


def test_a_new_warehouse_alerts_nobody(warehouse: sa.Engine, settings: Settings, sent: list[str]) -> None:
    assert monitor(warehouse, settings, NOW).findings == []
    assert sent == []


def test_a_placement_whose_users_answer_less_alerts_once_until_they_answer_again(
    warehouse: sa.Engine, settings: Settings, sent: list[str]
) -> None:
    for day in range(2, 8):
        show(warehouse, "home", day, users=200, answering=60)
        show(warehouse, "email", day, users=200, answering=60)
    show(warehouse, "home", 0.5, users=200, answering=20)
    show(warehouse, "email", 0.5, users=200, answering=52)
    assert causes(warehouse, settings) == ["fewer responses: placement home"]
    assert causes(warehouse, settings, NOW + timedelta(minutes=5)) == ["fewer responses: placement home"]
    assert len(sent) == 1
    assert "10.0% of what they were shown in the last day (placement home, 200 users), and 30.0%" in sent[0]
    run(warehouse, "DELETE FROM impressions WHERE placement = 'home' AND shown_at > :now - interval '1 day'")
    assert causes(warehouse, settings) == []
    show(warehouse, "home", 0.4, users=200, answering=15)
    assert causes(warehouse, settings) == ["fewer responses: placement home"]
    assert len(sent) == 2


def test_a_robot_that_looks_at_everything_is_one_user(warehouse: sa.Engine, settings: Settings) -> None:
    for day in range(2, 8):
        show(warehouse, "home", day, users=200, answering=60)
    show(warehouse, "home", 0.5, users=200, answering=60)
    for _ in range(20):
        run(
            warehouse,
            "INSERT INTO impressions (impression_id, user_id, item_ids, placement, shown_at)"
            " SELECT gen_random_uuid(), 'robot', '{1}', 'home', :now - interval '6 hours'"
            " FROM generate_series(1, 100)",
        )
    assert causes(warehouse, settings) == []


def test_slates_in_quarantine_are_not_unanswered(warehouse: sa.Engine, settings: Settings) -> None:
    for day in range(2, 8):
        show(warehouse, "home", day, users=200, answering=60)
    show(warehouse, "home", 0.5, users=200, answering=10)
    run(
        warehouse,
        "INSERT INTO quarantined_impressions (impression_id, shown_at, transaction_id, reasons)"
        " SELECT impression_id, shown_at, transaction_id, '{unknown_item}' FROM impressions"
        " WHERE shown_at > CAST(:now AS timestamptz) - interval '1 day'",
    )
    assert causes(warehouse, settings) == []


def test_few_users_or_no_week_before_prove_nothing(warehouse: sa.Engine, settings: Settings) -> None:
    for day in range(2, 8):
        show(warehouse, "home", day, users=30, answering=10)
    show(warehouse, "home", 0.5, users=30, answering=0)
    show(warehouse, "new", 0.5, users=500, answering=0)
    assert causes(warehouse, settings) == []


def test_an_item_that_many_dislike_at_once_is_named_and_one_that_is_never_liked_is_not(
    warehouse: sa.Engine, settings: Settings, sent: list[str]
) -> None:
    for day in range(1, 28):
        dislike(warehouse, "controversial", day + 0.5, people=5)
    dislike(warehouse, "controversial", 0.5, people=6)
    dislike(warehouse, "broken", 0.5, people=8)
    dislike(warehouse, "hated by one", 0.5, people=1, each=100)
    assert causes(warehouse, settings) == ["disliked item: broken"]
    assert sent[0].startswith("8 people disliked item broken in the last day; usual is 0.0 a day")


def test_what_many_send_back_is_disliked_and_no_answer(
    warehouse: sa.Engine, settings: Settings, sent: list[str]
) -> None:
    apply_recipe(warehouse, "shop")
    for days_ago, answering in ((3.5, 100), (0.5, 100)):
        show(warehouse, "home", days_ago, users=300, answering=answering)
    run(
        warehouse,
        "UPDATE feedback SET event_type = 'purchase', value = -20"
        " WHERE occurred_at > CAST(:now AS timestamptz) - interval '1 day'",
    )
    assert causes(warehouse, settings) == ["fewer responses: placement home", "disliked item: 2"]


def test_lists_that_nobody_renews_alert(warehouse: sa.Engine, settings: Settings) -> None:
    run(
        warehouse,
        "INSERT INTO publications ("
        " run_key, model_version, scope, users, items, through_transaction_id, published_at)"
        " VALUES ('1', '1', 'all', 5, 5, 1, :now - interval '2 days'),"
        " ('2', '1', 'affected', 1, 5, 2, :now - interval '1 hour')",
    )
    assert causes(warehouse, settings) == ["old lists"]
    patient = settings.model_copy(
        update={"alerts": settings.alerts.model_copy(update={"max_list_hours": 50.0})}
    )
    assert causes(warehouse, patient) == []


def test_drift_alerts_until_a_newer_window_is_as_usual(warehouse: sa.Engine, settings: Settings) -> None:
    def validate(run_key: str, success: bool, severity: str) -> None:
        run(
            warehouse,
            """
            WITH opened AS (
                INSERT INTO windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived)
                VALUES ('nightly_training', :run_key, 1, 2, 9) RETURNING window_id
            )
            INSERT INTO validation_results (
                window_id, expectation, success, severity, observed, expected, validated_at
            )
            SELECT window_id, 'event_mix', :success, :severity, '{}', '{}', :now - interval '1 hour'
            FROM opened
            """,
            run_key=run_key, success=success, severity=severity,
        )  # fmt: skip

    validate("1", success=False, severity="warning")
    assert causes(warehouse, settings) == ["drift: nightly_training, event_mix"]
    validate("2", success=True, severity="warning")
    assert causes(warehouse, settings) == []


def test_an_alert_that_was_not_sent_is_sent_by_the_next_call(
    warehouse: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    dislike(warehouse, "broken", 0.5, people=8)

    def killed(_settings: Settings, _text: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(monitoring, "send_alert", killed)
        with pytest.raises(KeyboardInterrupt):
            monitor(warehouse, settings, NOW)
    monitor(warehouse, settings, NOW)
    monitor(warehouse, settings, NOW)
    assert len(sent) == 1


def test_two_calls_at_once_send_an_alert_once(
    warehouse: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dislike(warehouse, "broken", 0.5, people=8)
    dislike(warehouse, "late", 0.5, people=8)
    sent: list[str] = []

    def send(_settings: Settings, text: str) -> None:
        sent.append(text.split(" item ")[1].split(" ")[0])
        if len(sent) == 1:
            monitoring.send_open_alerts(warehouse, settings, NOW)  # another process, while this one sends

    monkeypatch.setattr(monitoring, "send_alert", send)
    monitor(warehouse, settings, NOW)
    assert sorted(sent) == ["broken", "late"]


def compare(engine: sa.Engine, days_ago: float, loss: float, beyond_chance: bool, days: int = 7) -> None:
    """Store a night's comparison of the champion with an earlier one of NDCG 0.2."""
    high = -0.0001 if beyond_chance else 0.0001
    run(
        engine,
        """
        INSERT INTO champion_comparisons (
            run_key, days, champion_version, earlier_version, ndcg, earlier_ndcg, difference, low, high,
            users, compared_at
        )
        VALUES (:key, :days, '9', '2', 0.2 - :change, 0.2, -:change, -1, :high, 900, :now - :ago)
        """,
        key=f"nightly:{days_ago}", days=days, change=loss * 0.2, high=high, ago=timedelta(days=days_ago),
    )  # fmt: skip


def test_a_champion_that_declines_slowly_alerts_until_it_is_rolled_back(
    warehouse: sa.Engine, settings: Settings, sent: list[str]
) -> None:
    for night, shown in enumerate((True, False, True, False)):
        compare(warehouse, night + 0.9, loss=0.03, beyond_chance=shown)
    assert causes(warehouse, settings) == []
    compare(warehouse, 0.1, loss=0.03, beyond_chance=True)
    assert causes(warehouse, settings) == ["slow decline: 7 days"]
    assert causes(warehouse, settings) == ["slow decline: 7 days"]
    assert len(sent) == 1
    assert "3.0% worse than the champion of 7 days ago (NDCG 0.1940 and 0.2000" in sent[0]
    assert "in 3 of the last 5 nights" in sent[0]
    run(
        warehouse,
        "INSERT INTO promotion_ledger"
        " (decided_at, action, model_version, champion_sequence, reason, explanation, actor)"
        " VALUES (:now, 'roll_back', '2', 1, 'x', 'x', 'x')",
    )
    assert causes(warehouse, settings, NOW + timedelta(hours=1)) == []


def test_small_losses_old_nights_and_chance_are_no_decline(
    warehouse: sa.Engine, settings: Settings, sent: list[str]
) -> None:
    for night in range(5):
        compare(warehouse, night + 0.5, loss=0.015, beyond_chance=True)
        compare(warehouse, night + 0.4, loss=0.05, beyond_chance=False, days=28)
        compare(warehouse, night + 20, loss=0.05, beyond_chance=True, days=14)
    assert causes(warehouse, settings) == []
    assert sent == []


def test_figures_of_each_day_are_kept_for_a_year_and_leave_out_few_people(
    warehouse: sa.Engine, settings: Settings
) -> None:
    show(warehouse, "home", 0.5, users=20, answering=5)
    show(warehouse, "email", 0.5, users=4, answering=4)
    run(
        warehouse,
        "INSERT INTO feedback (user_id, item_id, event_type, occurred_at)"
        " SELECT 'user' || n, '1', 'purchase', :now - interval '1 hour' FROM generate_series(1, 4) AS n",
    )
    run(
        warehouse,
        "INSERT INTO monitored_figures VALUES (:day, 'open_alerts', '', 3)",
        day=NOW.date() - timedelta(401),
    )
    monitor(warehouse, settings, NOW - timedelta(days=1))
    monitor(warehouse, settings, NOW)
    again = monitor(warehouse, settings, NOW + timedelta(minutes=1))
    install_analytics(warehouse)
    with warehouse.connect() as connection:
        kept = connection.exec_driver_sql("SELECT * FROM analytics.monitored_figures ORDER BY 1, 2, 3").all()
    today = NOW.date()
    assert [tuple(row) for row in kept] == [
        (today - timedelta(days=1), "open_alerts", "", 0),
        (today, "feedback_events", "view", 9),
        (today, "open_alerts", "", 0),
        (today, "response_share", "home", 0.25),
    ]
    assert [(f.name, f.label, f.value) for f in again.figures] == [
        ("response_share", "home", 0.25), ("feedback_events", "view", 9), ("open_alerts", "", 0),
    ]  # fmt: skip


def publish(engine: sa.Engine, day: int, items: int, alike: float, users: int = 60) -> None:
    """Replace all lists by such with so many different items, and vectors with about this mean cosine."""
    with engine.begin() as connection:
        for statement in (
            "DELETE FROM recommendation_lists",
            "DELETE FROM user_vectors",
            "DELETE FROM item_vectors",
            "INSERT INTO publications (publication_id, run_key, model_version, scope, users, items,"
            " through_transaction_id) OVERRIDING SYSTEM VALUE"
            " VALUES (:day, :day, '1', 'all', :users, :items, 0)",
            "INSERT INTO recommendation_lists (user_id, publication_id, model_version, item_ids, scores,"
            " propensities) SELECT 'u' || n, :day, '1', ARRAY['i' || n % :items, 'i0'], '{1,0}', '{1,1}'"
            " FROM generate_series(1, :users) AS n",
            "INSERT INTO item_vectors (item_id, model_version, vector) VALUES ('i0', '1', '[1,0]')",
            "INSERT INTO user_vectors (user_id, model_version, vector) SELECT 'u' || n, '1', CASE"
            " WHEN n <= :alike * :users THEN '[3,0]' WHEN n % 2 = 0 THEN '[0,1]' ELSE '[0,-1]' END::vector"
            " FROM generate_series(1, :users) AS n",
            # Left by a model that was replaced.
            "INSERT INTO user_vectors (user_id, model_version, vector) VALUES ('old', '0', '[1,0,0]')",
        ):
            connection.execute(
                sa.text(statement), {"day": day, "items": items, "alike": alike**0.5, "users": users}
            )


def test_lists_and_users_that_become_alike_alert_if_a_week_was_otherwise(
    warehouse: sa.Engine, settings: Settings
) -> None:
    def found(day: int) -> list[str]:
        return [c for c in causes(warehouse, settings, NOW + timedelta(days=day)) if c != "old lists"]

    for day in range(6):
        publish(warehouse, day, items=40, alike=0.25)
        assert found(day) == []
    publish(warehouse, 6, items=3, alike=0.9)
    assert found(6) == []  # six days are no week
    publish(warehouse, 7, items=25, alike=0.49)
    assert found(7) == []
    publish(warehouse, 8, items=15, alike=0.25)
    assert found(8) == ["narrow lists"]
    publish(warehouse, 9, items=40, alike=0.81)
    assert found(9) == ["users alike"]
    measured = {figure.name: figure.value for figure in monitor(warehouse, settings, NOW).figures}
    assert measured["listed_items"] == 40
    assert measured["user_similarity"] == pytest.approx(0.81, abs=0.03)


def test_nothing_is_said_of_the_lists_of_few_people(warehouse: sa.Engine, settings: Settings) -> None:
    publish(warehouse, 1, items=2, alike=1.0, users=4)
    figures = {figure.name for figure in monitor(warehouse, settings, NOW).figures}
    assert not figures & {"listed_items", "user_similarity"}
