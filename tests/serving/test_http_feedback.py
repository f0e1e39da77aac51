"""Feedback over HTTP: each event once, whatever is sent twice, at once, or wrong."""

import json
import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient

from recsys.serving.http.application import create_application
from recsys.serving.http.intake import MAX_ROWS
from tests.serving.conftest import Login, Shop

TIME = "2026-05-04T12:30:00Z"


@pytest.fixture(autouse=True)
def _without_feedback(http_shop: Shop) -> None:
    http_shop.execute("delete from feedback")


def event(event_id: str | None = None, **columns: Any) -> dict[str, Any]:
    named = {} if event_id is None else {"event_id": event_id}
    return named | {"user_id": "ada", "item_id": "a", "event_type": "like", "occurred_at": TIME} | columns


def send(http: TestClient, *events: Any) -> dict[str, Any]:
    answer = http.post("/feedback", json={"events": list(events)})
    assert answer.status_code == 200, answer.text
    taken: dict[str, Any] = answer.json()
    assert taken["new"] + taken["known"] + taken["refused"] == len(events) == len(taken["events"])
    return taken


def stored(http_shop: Shop) -> list[dict[str, Any]]:
    return http_shop.rows("select * from feedback order by feedback_id")


def test_an_event_is_stored_as_it_was_sent(http_shop: Shop, http: TestClient) -> None:
    sent = event("e-1", event_type="rating", value=4, comment="great: 'ok' ☃", impression_id="s-1")
    assert send(http, sent)["events"] == [{"outcome": "new", "reason": None}]
    (row,) = stored(http_shop)
    assert {name: row[name] for name in sent if name != "occurred_at"} == {
        name: value for name, value in sent.items() if name != "occurred_at"
    }
    assert row["occurred_at"].isoformat() == "2026-05-04T12:30:00+00:00"


def test_a_request_that_is_sent_again_changes_nothing(http_shop: Shop, http: TestClient) -> None:
    batch = [event("e-1"), event("e-2"), event(), event(item_id="b")]
    assert send(http, *batch)["new"] == 4
    assert send(http, *batch)["known"] == 4
    mixed = send(http, event("e-3"), *batch, event("e-3"), event("e-4"))
    outcomes = [outcome["outcome"] for outcome in mixed["events"]]
    assert outcomes == ["new", "known", "known", "known", "known", "known", "new"]
    assert len(stored(http_shop)) == 6


def test_events_keep_the_order_in_which_they_were_sent(http_shop: Shop, http: TestClient) -> None:
    send(http, event("known"))
    names = [f"e-{number}" for number in (5, 3, 9, 1)]
    send(http, *(event(name) for name in names), event("known"))
    assert [row["event_id"] for row in stored(http_shop)] == ["known", *names]


def test_an_event_without_an_id_is_the_one_that_a_file_holds(http_shop: Shop, http: TestClient) -> None:
    send(http, event(value=0.5, comment="so so"))
    (row,) = stored(http_shop)
    expected = http_shop.rows(
        "select 'content-' || md5(concat_ws(E'\\x1f', user_id, item_id, event_type,"
        " extract(epoch from occurred_at), coalesce(value::text, ''), coalesce(comment, ''),"
        " coalesce(impression_id, ''))) as id from feedback"
    )[0]["id"]
    assert row["event_id"] == expected


def test_a_visitor_is_named_by_a_session(http_shop: Shop, http: TestClient) -> None:
    sent = event(session_id="s-1")
    del sent["user_id"]
    assert send(http, sent, sent)["known"] == 1
    (row,) = stored(http_shop)
    assert (row["session_id"], row["user_id"]) == ("s-1", "visitor:s-1")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"item_id": None}, "item_id: Input should be a valid string"),
        ({"item_id": ""}, "item_id: is empty"),
        ({"item_id": "a\0"}, "item_id: contains a NUL character"),
        ({"item_id": "x" * 10_000}, "item_id: is longer than 1000 bytes"),
        ({"item_id": "nan"}, "item_id: is 'nan', which is how some tools write an empty cell"),
        ({"item_id": ["a"]}, "item_id: Input should be a valid string"),
        ({"user_id": "1.2e+30"}, "user_id: '1.2e+30' is a rounded number that has lost digits"),
        ({"user_id": None}, "user_id and session_id are empty"),
        ({"comment": "a\0b"}, "comment: contains a NUL character"),
        ({"value": "5"}, "value: Input should be a valid number"),
        ({"value": True}, "value: Input should be a valid number"),
        ({"occurred_at": None}, "occurred_at: is not a time in ISO 8601"),
        ({"occurred_at": 1_750_000_000}, "occurred_at: is not a time in ISO 8601"),
        ({"occurred_at": "2026-05-04T12:30:00"}, "occurred_at: Input should have timezone info"),
        ({"occurred_at": "yesterday"}, "occurred_at: Input should be a valid datetime"),
        ({"occurred_at": "9999-12-31T23:59:59-10:00"}, "occurred_at: is outside the years 1 to 9999"),
        ({"ocurred_at": TIME}, "ocurred_at: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_event_is_refused_with_the_reason_and_the_others_are_taken(
    http_shop: Shop, http: TestClient, wrong: dict[str, Any], reason: str
) -> None:
    taken = send(http, event("e-1"), event(**wrong), event("e-2"))
    assert [outcome["outcome"] for outcome in taken["events"]] == ["new", "refused", "new"]
    assert taken["events"][1]["reason"].startswith(reason)
    assert len(taken["events"][1]["reason"]) < 200
    assert [row["event_id"] for row in stored(http_shop)] == ["e-1", "e-2"]


@pytest.mark.parametrize("strange", [None, 5, "event", [], {}])
def test_what_is_no_event_is_refused(http_shop: Shop, http: TestClient, strange: Any) -> None:
    assert send(http, strange, event("e-1"))["refused"] == 1
    assert len(stored(http_shop)) == 1


def test_half_of_a_surrogate_pair_and_numbers_that_are_none_are_refused(
    http_shop: Shop, http: TestClient
) -> None:
    text = '{"events": [{"user_id": "ada", "item_id": "a", "event_type": "like", "occurred_at": "%s", %s}]}'
    for extra in ('"comment": "\\ud800"', '"value": NaN', '"value": 1e999', '"event_id": "\\udfff"'):
        answer = http.post(
            "/feedback", content=text % (TIME, extra), headers={"content-type": "application/json"}
        )
        assert answer.json()["refused"] == 1, answer.text
    assert stored(http_shop) == []


def test_ids_are_stored_as_files_store_them(http_shop: Shop, http: TestClient) -> None:
    send(http, event(user_id=7, item_id=" 17850.0 "))
    assert [(row["user_id"], row["item_id"]) for row in stored(http_shop)] == [("7", "17850")]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"events": []}',
        '{"events": {}}',
        '{"events": [{}], "x": 1}',
        "[" * 100_000,
    ],
)
def test_a_body_of_another_form_is_refused(http_shop: Shop, http: TestClient, body: str) -> None:
    answer = http.post("/feedback", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert len(answer.text) < 500


def test_a_batch_has_a_largest_size(http_shop: Shop, http: TestClient) -> None:
    assert send(http, *(event(f"e-{number}") for number in range(MAX_ROWS)))["new"] == MAX_ROWS
    too_many = [event(f"f-{number}") for number in range(MAX_ROWS + 1)]
    assert http.post("/feedback", json={"events": too_many}).status_code == 422
    assert len(stored(http_shop)) == MAX_ROWS


def test_a_form_of_another_web_page_is_no_feedback(http_shop: Shop, http: TestClient) -> None:
    text = json.dumps({"events": [event()]})
    answer = http.post("/feedback", content=text, headers={"content-type": "text/plain"})
    assert answer.status_code == 422
    assert stored(http_shop) == []


def test_the_same_batches_at_once_in_opposite_order_are_stored_once(http_shop: Shop, login: Login) -> None:
    application = create_application(login("recsys_writer"))
    names = [f"e-{number}" for number in range(200)]
    taken: list[dict[str, Any]] = []

    def post(order: list[str]) -> None:
        with TestClient(application, base_url="http://localhost") as http:
            taken.append(send(http, *(event(name) for name in order)))

    threads = [threading.Thread(target=post, args=(names[:: 1 - 2 * (n % 2)],)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answer["new"] for answer in taken) == 200
    assert sum(answer["known"] for answer in taken) == 1000
    assert len(stored(http_shop)) == 200


def test_a_reaction_changes_the_next_list(http_shop: Shop, http: TestClient) -> None:
    http_shop.add_items("a", "b", "c")
    http_shop.add_user("ada")
    http_shop.publish("ada", "a", "b", "c")
    now = http_shop.rows("select now() as now")[0]["now"].isoformat()
    send(http, event(item_id="a", event_type="purchase", value=1, occurred_at=now))
    assert [item["item_id"] for item in http.get("/recommendations/ada").json()["items"]] == ["b", "c"]
