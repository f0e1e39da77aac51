"""Feedback of sessions: whose it is before and after a login, whatever happens at the same time."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.settings import Settings
from recsys.validation.validate import validate_window
from recsys.warehouse.pseudonyms import fill_user_keys
from recsys.warehouse.roles import grant_roles
from recsys.warehouse.visitors import user_of, visitor_id
from recsys.warehouse.windows import Window, open_window, reconcile_window


def run(engine: sa.Engine, statement: str, **parameters: object) -> sa.CursorResult[Any]:
    with engine.begin() as connection:
        return connection.execute(sa.text(statement), parameters)


def see(engine: sa.Engine, session: str | None, item: str = "i", **columns: object) -> None:
    run(
        engine,
        "INSERT INTO feedback (session_id, item_id, event_type, event_id)"
        " VALUES (:session, :item, 'view', coalesce(:event, gen_random_uuid()::text))",
        session=session,
        item=item,
        event=columns.get("event"),
    )


def join(engine: sa.Engine, session: str, user: str) -> int:
    with engine.begin() as connection:
        statement = sa.text("SELECT join_session(session_id => :session, user_id => :user)")
        moved: int = connection.execute(statement, {"session": session, "user": user}).scalar_one()
    return moved


def owners(engine: sa.Engine) -> list[str]:
    return list(run(engine, "SELECT user_id FROM feedback ORDER BY feedback_id").scalars())


@pytest.fixture
def shop(warehouse: sa.Engine) -> sa.Engine:
    """A warehouse with two items and two users."""
    run(warehouse, "INSERT INTO items (item_id) VALUES ('i'), ('j')")
    run(warehouse, "INSERT INTO users (user_id) VALUES ('ada'), ('bob')")
    return warehouse


def validated(engine: sa.Engine, settings: Settings, run_key: str = "r") -> Window:
    window = open_window(engine, "nightly_training", run_key)
    validate_window(engine, window, settings, settings.data_docs)
    return window


def test_feedback_of_a_session_is_valid_feedback_of_its_visitor(shop: sa.Engine, settings: Settings) -> None:
    see(shop, "s1")
    see(shop, "s1", "j")
    see(shop, "s2")
    window = validated(shop, settings)
    assert owners(shop) == ["visitor:s1", "visitor:s1", "visitor:s2"]
    found = run(
        shop, "SELECT user_id, kind, consent FROM users WHERE kind = 'visitor' ORDER BY user_id"
    ).all()
    assert [tuple(row) for row in found] == [("visitor:s1", "visitor", True), ("visitor:s2", "visitor", True)]
    assert reconcile_window(shop, window.window_id).valid == 3


def test_visitors_do_not_consent_if_the_settings_say_so(shop: sa.Engine, settings: Settings) -> None:
    private = settings.model_copy(
        update={"privacy": settings.privacy.model_copy(update={"visitor_consent": False})}
    )
    see(shop, "s1")
    see(shop, "s2")
    run(shop, "SELECT set_session_consent('s2', true)")
    validated(shop, private)
    fill_user_keys(shop, private.require_pseudonym_key())
    trainable = run(shop, "SELECT user_id FROM user_eligibility WHERE may_train ORDER BY user_id").scalars()
    assert list(trainable) == ["ada", "bob", "visitor:s2"]


@pytest.mark.parametrize(
    "session",
    ["", " ", "None", "NULL", "nan", "undefined", "(not set)", "0" * 8 + "-0000" * 3 + "-" + "0" * 12],
)
def test_a_session_id_that_says_there_is_none_is_nobodys(
    shop: sa.Engine, settings: Settings, session: str
) -> None:
    see(shop, session)
    see(shop, "s1")
    validated(shop, settings)
    assert owners(shop) == ["visitor:s1"]
    assert run(shop, "SELECT reasons FROM quarantine").scalars().all() == [["unknown_user"]]
    with pytest.raises(sa.exc.DBAPIError, match="the session has no id"):
        join(shop, session, "ada")


def test_feedback_without_user_and_session_is_refused(shop: sa.Engine) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="user_id"):
        see(shop, None)


def test_feedback_with_user_and_session_belongs_to_the_user(shop: sa.Engine) -> None:
    run(
        shop,
        "INSERT INTO feedback (user_id, session_id, item_id, event_type) VALUES ('ada', 's1', 'i', 'view')",
    )
    assert owners(shop) == ["ada"]


def test_a_login_joins_the_histories_and_what_comes_later(shop: sa.Engine, settings: Settings) -> None:
    see(shop, "s1")
    see(shop, "s2")
    run(
        shop,
        "INSERT INTO impressions (impression_id, session_id, item_ids, shown_at)"
        " VALUES ('p', 's1', '{i}', now())",
    )
    assert join(shop, "s1", "ada") == 1
    see(shop, "s1", "j")
    assert owners(shop) == ["ada", "visitor:s2", "ada"]
    assert run(shop, "SELECT user_id FROM impressions").scalar_one() == "ada"
    with shop.connect() as connection:
        assert user_of(connection, "s1") == "ada"
        assert user_of(connection, "s2") == visitor_id("s2")
        assert user_of(connection, "never seen") == visitor_id("never seen")
    validated(shop, settings)
    assert run(
        shop, "SELECT user_id FROM users WHERE kind = 'visitor' AND joined_to IS NULL"
    ).scalars().all() == ["visitor:s2"]


def test_a_login_before_the_first_event_counts(shop: sa.Engine) -> None:
    assert join(shop, "s1", "ada") == 0
    see(shop, "s1")
    assert owners(shop) == ["ada"]


def test_a_joined_row_stays_in_its_window_and_keeps_its_place(shop: sa.Engine, settings: Settings) -> None:
    see(shop, "s1")
    window = validated(shop, settings)
    before = run(shop, "SELECT feedback_id, transaction_id, received_at FROM feedback").one()
    join(shop, "s1", "ada")
    assert run(shop, "SELECT feedback_id, transaction_id, received_at FROM feedback").one() == before
    assert reconcile_window(shop, window.window_id).balanced
    assert open_window(shop, "nightly_training", "next").arrived == 0


def test_joining_twice_changes_nothing(shop: sa.Engine) -> None:
    see(shop, "s1")
    assert join(shop, "s1", "ada") == 1
    assert join(shop, "s1", "ada") == 0
    assert owners(shop) == ["ada"]


def test_a_session_belongs_to_one_user(shop: sa.Engine) -> None:
    see(shop, "s1")
    join(shop, "s1", "ada")
    with pytest.raises(sa.exc.DBAPIError, match="belongs to another user since an earlier login") as error:
        join(shop, "s1", "bob")
    assert "new session id at every logout" in str(error.value)
    assert "ada" not in str(error.value.orig)
    assert owners(shop) == ["ada"]


def test_a_session_cannot_be_joined_to_nobody_or_to_a_visitor(shop: sa.Engine, settings: Settings) -> None:
    see(shop, "s1")
    see(shop, "s2")
    validated(shop, settings)
    for user in ("zoe", "visitor:s2"):
        with pytest.raises(sa.exc.IntegrityError, match="not in the table users"):
            join(shop, "s1", user)
    assert owners(shop) == ["visitor:s1", "visitor:s2"]


def test_of_two_users_who_log_in_at_once_one_gets_the_session(shop: sa.Engine) -> None:
    for event in range(20):
        see(shop, "s1", event=str(event))

    def log_in(user: str) -> bool:
        try:
            join(shop, "s1", user)
        except sa.exc.DBAPIError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        joined = list(threads.map(log_in, ["ada", "bob"] * 4))
    [owner] = set(owners(shop))
    assert joined == [user == owner for user in ["ada", "bob"] * 4]


def test_a_row_written_during_the_login_goes_to_the_user(shop: sa.Engine, settings: Settings) -> None:
    with shop.connect() as writer:
        writer.execute(
            sa.text("INSERT INTO feedback (session_id, item_id, event_type) VALUES ('s1', 'i', 'view')")
        )
        assert join(shop, "s1", "ada") == 0  # does not wait for the writer
        writer.commit()
    assert owners(shop) == ["visitor:s1"]
    validated(shop, settings)
    assert owners(shop) == ["ada"]


def test_writers_of_one_new_session_do_not_wait_for_each_other(shop: sa.Engine) -> None:
    insert = sa.text("INSERT INTO feedback (session_id, item_id, event_type) VALUES (:s, 'i', 'view')")
    with shop.connect() as one, shop.connect() as other:
        for connection in (one, other):
            connection.exec_driver_sql("SET lock_timeout = '2s'")
        one.execute(insert, {"s": "a"})
        other.execute(insert, {"s": "b"})
        one.execute(insert, {"s": "b"})
        other.execute(insert, {"s": "a"})
        one.commit()
        other.commit()
    assert sorted(owners(shop)) == ["visitor:a", "visitor:a", "visitor:b", "visitor:b"]


def test_quarantined_rows_of_a_session_go_to_the_user_and_come_back_as_theirs(
    shop: sa.Engine, settings: Settings
) -> None:
    see(shop, "s1", "unknown item")
    see(shop, "s1")
    validated(shop, settings)
    assert run(shop, "SELECT user_id FROM quarantine").scalar_one() == "visitor:s1"
    join(shop, "s1", "ada")
    held = run(
        shop, "SELECT user_id, feedback ->> 'user_id', feedback ->> 'session_id' FROM quarantine"
    ).one()
    assert tuple(held) == ("ada", "ada", "s1")


def test_a_refusal_counts_however_it_is_given(shop: sa.Engine, settings: Settings) -> None:
    see(shop, "s1")
    join(shop, "s1", "ada")
    run(shop, "SELECT set_session_consent('s1', true)")
    run(shop, "UPDATE users SET consent = false WHERE user_id = 'bob'")
    run(shop, "SELECT join_session('s2', 'bob'), set_session_consent('s2', true)")
    consents = run(shop, "SELECT user_id, consent FROM users WHERE kind = 'user' ORDER BY user_id")
    assert [tuple(row) for row in consents] == [("ada", True), ("bob", False)]
    run(shop, "SELECT set_session_consent('s1', false)")
    assert not run(shop, "SELECT consent FROM users WHERE user_id = 'ada'").scalar_one()


def test_a_visitor_who_became_a_user_is_not_trained_on_as_a_visitor(
    shop: sa.Engine, settings: Settings
) -> None:
    see(shop, "s1")
    validated(shop, settings)
    eligible = "SELECT may_train FROM user_eligibility WHERE user_id = 'visitor:s1'"
    assert run(shop, eligible).scalar_one()
    join(shop, "s1", "ada")
    assert not run(shop, eligible).scalar_one()


def test_an_application_may_join_a_session_and_cannot_read_whose_it_is(
    shop: sa.Engine,
) -> None:
    with shop.begin() as connection:
        grant_roles(connection)
        connection.exec_driver_sql("CREATE ROLE visiting_application LOGIN IN ROLE recsys_writer")
    application = sa.create_engine(shop.url.set(username="visiting_application"))
    try:
        see(application, "s1")
        run(
            application,
            "INSERT INTO impressions (impression_id, session_id, item_ids, shown_at)"
            " VALUES ('p', 's1', '{i}', now())",
        )
        run(application, "SELECT set_session_consent('s1', true)")
        assert join(application, "s1", "ada") == 1
        assert run(application, "SELECT user_of('s1')").scalar_one() == "ada"
        for statement in (
            "SELECT joined_to FROM users",
            "UPDATE users SET joined_to = 'bob'",
            "INSERT INTO users (user_id, kind) VALUES ('x', 'visitor')",
            "SELECT session_id FROM feedback",
        ):
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                run(application, statement)
    finally:
        application.dispose()
        run(shop, "DROP ROLE visiting_application")
    assert owners(shop) == ["ada"]
