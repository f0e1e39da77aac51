"""Slates over HTTP: each once, whatever is sent twice, at once, or wrong."""

import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient

from recsys.serving.http.application import create_application
from recsys.serving.http.impressions import MAX_ITEMS
from tests.serving.conftest import Login, Shop

TIME = "2026-05-04T12:30:00Z"


@pytest.fixture(autouse=True)
def _without_slates(http_shop: Shop) -> None:
    http_shop.execute("delete from impressions")


def slate(impression_id: str = "s-1", **columns: Any) -> dict[str, Any]:
    return {
        "impression_id": impression_id, "user_id": "ada", "item_ids": ["a", "b"], "shown_at": TIME,
    } | columns  # fmt: skip


def send(http: TestClient, *slates: Any) -> dict[str, Any]:
    answer = http.post("/impressions", json={"impressions": slates})
    assert answer.status_code == 200, answer.text
    taken: dict[str, Any] = answer.json()
    assert taken["new"] + taken["known"] + taken["refused"] == len(slates) == len(taken["impressions"])
    return taken


def stored(http_shop: Shop) -> list[dict[str, Any]]:
    return http_shop.rows("select * from impressions order by impression_id")


def test_a_slate_is_stored_as_it_was_sent(http_shop: Shop, http: TestClient) -> None:
    sent = slate(
        propensities=[1, 0.25], model_version="7", placement="email", query="a 'lamp' ☃; drop table items"
    )
    assert send(http, sent)["impressions"] == [{"outcome": "new", "reason": None}]
    (row,) = stored(http_shop)
    assert {name: row[name] for name in sent if name != "shown_at"} == {
        name: value for name, value in sent.items() if name != "shown_at"
    }
    assert row["shown_at"].isoformat() == "2026-05-04T12:30:00+00:00"


def test_a_list_can_be_logged_as_it_was_answered(http_shop: Shop, http: TestClient) -> None:
    http_shop.add_items("x", "y")
    http_shop.share("popular", "x", "y")
    http_shop.rule("spring", "pin", item_ids=["y"], position=1)
    items = http.get("/recommendations?session=s-7").json()["items"]
    http_shop.execute("delete from placement_rules")
    seen = slate(
        item_ids=[item["item_id"] for item in items], propensities=[item["propensity"] for item in items],
        model_version=items[0]["model_version"], placement=items[0]["placement"], user_id=None,
        session_id="s-7", rules=[item["rule"] for item in items],
    )  # fmt: skip
    assert send(http, seen)["new"] == 1
    (row,) = stored(http_shop)
    assert (row["user_id"], row["item_ids"], row["propensities"]) == ("visitor:s-7", ["y", "x"], [1, 1])
    assert row["rules"] == ["spring", None]


def test_a_slate_that_is_sent_again_changes_nothing(http_shop: Shop, http: TestClient) -> None:
    assert send(http, slate("s-1"), slate("s-2"), slate("s-2"))["known"] == 1
    mixed = send(http, slate("s-3"), slate("s-1", item_ids=["other"]), slate("s-4"))
    assert [outcome["outcome"] for outcome in mixed["impressions"]] == ["new", "known", "new"]
    assert [row["item_ids"] for row in stored(http_shop)] == [["a", "b"]] * 4


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"impression_id": None}, "impression_id: Input should be a valid string"),
        ({"impression_id": "s\0"}, "impression_id: contains a NUL character"),
        ({"item_ids": []}, "item_ids: List should have at least 1 item"),
        ({"item_ids": "a"}, "item_ids: Input should be a valid list"),
        ({"item_ids": ["a", ""]}, "item_ids.1: is empty"),
        ({"item_ids": ["a", None]}, "item_ids.1: Input should be a valid string"),
        ({"item_ids": ["a"] * (MAX_ITEMS + 1)}, f"item_ids: List should have at most {MAX_ITEMS} items"),
        ({"rules": ["sale"]}, "rules has 1 entries, but item_ids has 2"),
        ({"rules": [1, None]}, "rules.0: Input should be a valid string"),
        ({"propensities": [1]}, "propensities has 1 entries, but item_ids has 2"),
        ({"propensities": [1, None]}, "propensities.1: Input should be a valid number"),
        ({"propensities": [1, 1.5]}, "propensities.1: Input should be less than or equal to 1"),
        ({"propensities": [1, "1"]}, "propensities.1: Input should be a valid number"),
        ({"propensities": [1, 1e-40]}, "propensities has a probability below 1e-37"),
        ({"user_id": None}, "user_id and session_id are empty"),
        ({"user_id": "x" * 10_000}, "user_id: is longer than 1000 bytes"),
        ({"query": "a\0b"}, "query: contains a NUL character"),
        ({"placement": "x" * 2_000}, "placement: is longer than 1000 bytes"),
        ({"shown_at": "2026-05-04T12:30:00"}, "shown_at: Input should have timezone info"),
        ({"shown_at": None}, "shown_at: is not a time in ISO 8601"),
        ({"clicked": True}, "clicked: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_slate_is_refused_with_the_reason_and_the_others_are_taken(
    http_shop: Shop, http: TestClient, wrong: dict[str, Any], reason: str
) -> None:
    taken = send(http, slate("s-1"), slate("s-2") | wrong, slate("s-3"))
    assert [outcome["outcome"] for outcome in taken["impressions"]] == ["new", "refused", "new"]
    assert taken["impressions"][1]["reason"].startswith(reason)
    assert [row["impression_id"] for row in stored(http_shop)] == ["s-1", "s-3"]


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"impressions": []}', '{"events": [{}]}'])
def test_a_body_of_another_form_is_refused(http: TestClient, body: str) -> None:
    answer = http.post("/impressions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    too_many = {"impressions": [slate(f"s-{number}") for number in range(1_001)]}
    assert http.post("/impressions", json=too_many).status_code == 422


def test_two_clients_that_send_the_same_slates_at_once_store_them_once(http_shop: Shop, login: Login) -> None:
    application = create_application(login("recsys_writer"))
    names = [f"s-{number}" for number in range(100)]
    taken: list[dict[str, Any]] = []

    def post(order: list[str]) -> None:
        with TestClient(application, base_url="http://localhost") as client:
            taken.append(send(client, *(slate(name) for name in order)))

    threads = [threading.Thread(target=post, args=(names[:: 1 - 2 * (n % 2)],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answer["new"] for answer in taken) == len(stored(http_shop)) == 100
    assert sum(answer["known"] for answer in taken) == 300


def test_a_login_that_only_reads_takes_no_slates(login: Login) -> None:
    application = create_application(login("recsys_reader"))
    with TestClient(application, base_url="http://localhost") as reader:
        answer = reader.post("/impressions", json={"impressions": [slate()]})
    assert answer.status_code == 403
    assert answer.json()["detail"].endswith("its login in the database only reads")


def test_a_session_that_another_user_has_joined_gives_its_slates_to_them_unless_a_user_is_named(
    http_shop: Shop, http: TestClient
) -> None:
    http_shop.add_user("eve")
    http_shop.execute("select join_session('of-eve', 'eve')")
    send(
        http,
        slate("s-1", user_id=None, session_id="of-eve"),
        slate("s-2", user_id="mallory", session_id="of-eve"),
    )
    event = {"item_id": "a", "event_type": "like", "occurred_at": TIME, "session_id": "of-eve"}
    http.post("/feedback", json={"events": [event, event | {"user_id": "mallory"}]})
    assert [row["user_id"] for row in stored(http_shop)] == ["eve", "mallory"]
    owners = http_shop.rows("select user_id from feedback order by feedback_id")
    assert [row["user_id"] for row in owners] == ["eve", "mallory"]
    assert http_shop.rows("select user_of('of-eve') as owner") == [{"owner": "eve"}]
