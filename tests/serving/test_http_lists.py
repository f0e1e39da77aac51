"""Lists over HTTP: the answers of the SQL functions, and what applications learn from errors."""

import json
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from recsys.serving.http.application import create_application
from tests.serving.conftest import Login, Shop

POOL = [f"p-{number:02}" for number in range(30)]


@pytest.fixture(scope="module")
def stocked(http_shop: Shop) -> Shop:
    shop = http_shop
    shop.add_items(*POOL)
    shop.add_items("lamp", attributes='{"kind": "lamp"}')
    shop.add_user("ada")
    shop.publish("ada", *POOL, "lamp")
    shop.share("trending", *POOL[5:10])
    shop.share("popular", *POOL[6:10])
    shop.share("trending", "p-20", attribute="country", segment="NO")
    return shop


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["item_id"] for item in response.json()["items"]]


def test_a_list_is_what_the_sql_function_answers(stocked: Shop, http: TestClient) -> None:
    answer = http.get("/recommendations/ada", params={"k": 3})
    assert answer.json()["items"] == stocked.recommend("ada", k=3)
    assert answer.json()["items"][0]["reason"] == "because of p-00"


def test_arguments_reach_the_function(stocked: Shop, http: TestClient) -> None:
    kind = json.dumps({"kind": "lamp"})
    assert ids(http.get("/recommendations/ada", params={"filter": kind})) == ["lamp"]
    excluded = {"exclude": ["p-00", "p-02"], "k": 2}
    assert ids(http.get("/recommendations/ada", params=excluded)) == ["p-01", "p-03"]
    assert ids(http.get("/recommendations", params={"session": "s-1", "k": 2})) == POOL[5:7]
    assert ids(http.get("/recommendations", params={"k": 1})) == POOL[5:6]
    mail = http.get("/recommendations/ada", params={"placement": "email", "k": 1}).json()["items"][0]
    assert mail["placement"] == "email"
    here = {"context": json.dumps({"country": "NO"}), "k": 1}
    assert ids(http.get("/recommendations/nobody", params=here)) == ["p-20"]
    assert ids(http.get("/trending", params={"segment": "NO", "k": 2})) == ["p-20", "p-05"]


def test_a_body_takes_the_same_arguments_and_a_hundred_thousand_exclusions(
    stocked: Shop, http: TestClient
) -> None:
    wanted = {"user_id": "ada", "filter": {"kind": "lamp"}, "k": 5}
    assert ids(http.post("/recommendations", json=wanted)) == ["lamp"]
    many = [*POOL[:29], *(f"other-{number}" for number in range(100_000))]
    assert ids(http.post("/recommendations", json={"user_id": "ada", "exclude": many, "k": 1})) == ["p-29"]


def test_what_goes_with_an_item_and_the_order_of_what_was_found(stocked: Shop, http: TestClient) -> None:
    for path, arguments in (
        ("/items/p-00/similar?k=3", "'p-00', k => 3"),
        ("/items/a/b/similar?k=3&kind=together", "'a/b', 'together', 3"),
        ('/items/p-00/similar?filter={"kind":"lamp"}', "'p-00', filter => '{\"kind\": \"lamp\"}'"),
    ):
        expected = stocked.rows(f"select * from serving.similar_items({arguments}) order by rank")
        assert http.get(path).json()["items"] == expected
    assert ids(http.get("/items/p-05/similar?k=2")) == POOL[6:8]  # popular instead: it has no neighbours
    assert http.get("/items/p-00/similar?kind=cheap").json()["detail"].startswith("kind is 'cheap'. Ask for")

    found = {"user_id": "ada", "item_ids": ["p-09", "lamp", "p-03", "p-03", "gone"]}
    assert ids(http.post("/rerank", json=found)) == ["p-03", "p-09", "lamp"]
    assert ids(http.post("/rerank", json={"session": "s-1", "item_ids": ["p-09", "p-03"]})) == [
        "p-09",
        "p-03",
    ]
    assert ids(http.post("/rerank", json={"item_ids": []})) == []
    for items, message in (
        (["x"] * 1001, "item_ids has 1001 items"),
        (["a\0"], "item_ids.0: contains a NUL"),
    ):
        refused = http.post("/rerank", json={"user_id": "ada", "item_ids": items})
        assert refused.status_code == 422
        assert refused.json()["detail"].startswith(message)


@pytest.mark.parametrize("name", ["a/b", "a b", "ä?&#", "' or 1=1 --", "x" * 1000])
def test_any_text_is_a_user_id(stocked: Shop, http: TestClient, name: str) -> None:
    stocked.add_user(name)
    stocked.publish(name, "p-20")
    assert ids(http.get(f"/recommendations/{quote(name, safe='')}", params={"k": 1})) == ["p-20"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/recommendations/ada?placement=nowhere", "there is no placement 'nowhere'. Add it to the table"),
        ("/recommendations/ada?k=0", "k is 0. Ask for 1 to 1000 items."),
        ("/recommendations/ada?k=-1", "k is -1"),
        ("/recommendations/ada?k=1000000", "k is 1000000"),
        ("/recommendations/ada?k=99999999999999999999", "integer out of range"),
        ("/recommendations/ada?k=ten", "k: Input should be a valid integer"),
        ("/recommendations/a%00da", "user: contains a NUL character"),
        ("/recommendations/" + "x" * 10_000, "user: is longer than 1000 bytes"),
        ("/recommendations/%20", "user: is empty"),
        ("/recommendations?session=a%00", "session: contains a NUL character"),
        ("/recommendations/ada?exclude=a%00", "exclude.0: contains a NUL character"),
        ("/recommendations/ada?filter=lamp", "filter: is not JSON"),
        ("/recommendations/ada?filter=[1]", "filter: is not a JSON object"),
        ('/recommendations/ada?filter={"a":"\\u0000"}', "unsupported Unicode escape sequence"),
        ('/recommendations/ada?filter={"a":NaN}', "invalid input syntax for type json"),
        ("/recommendations/ada?filter=" + quote('{"a":' * 5_000), "filter: is not JSON"),
        ("/trending?k=0", "k is 0"),
        ("/trending?segment=%00", "segment: contains a NUL character"),
    ],
)
def test_a_wrong_argument_is_named(stocked: Shop, http: TestClient, path: str, message: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"].startswith(message)
    assert len(answer.text) < 500


@pytest.mark.parametrize("argument", ["placement", "session", "exclude"])
def test_sql_in_an_argument_is_only_text(stocked: Shop, http: TestClient, argument: str) -> None:
    text = "'); drop table items; --"
    assert http.get("/recommendations/ada", params={argument: text}).status_code in (200, 422)
    assert http.get("/recommendations/ada", params={"filter": json.dumps({text: text})}).status_code == 200
    assert len(stocked.rows("select from items")) == 31


def test_unknown_parameters_of_a_body_and_unknown_paths_are_refused(http: TestClient) -> None:
    assert http.post("/recommendations", json={"user": "ada"}).json()["detail"] == (
        "user: Extra inputs are not permitted"
    )
    assert http.get("/anything").status_code == 404
    assert http.delete("/feedback").status_code == 405


def test_a_reader_reads_and_may_not_add_feedback(stocked: Shop, login: Login) -> None:
    with TestClient(create_application(login("recsys_reader")), base_url="http://localhost") as http:
        assert ids(http.get("/recommendations/ada", params={"k": 1})) == ["p-00"]
        event = {
            "user_id": "ada", "item_id": "p-00", "event_type": "like", "occurred_at": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        refused = http.post("/feedback", json={"events": [event]})
    assert refused.status_code == 403
    assert refused.json()["detail"] == "this service may not do that: its login in the database only reads"


def test_the_openapi_document_describes_events_and_the_key(http_shop: Shop, http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    assert {
        *("/recommendations", "/recommendations/{user}", "/items/{item}/similar", "/trending", "/rerank"),
        *("/feedback", "/impressions", "/health", "/metrics", "/summary", "/items/{item}/summary"),
        "/items/{item}/phrases",
    } == set(document["paths"])
    event = document["components"]["schemas"]["Events"]["properties"]["events"]["items"]
    assert set(event["required"]) == {"item_id", "event_type", "occurred_at"}
    slates = document["components"]["schemas"]["Impressions"]["properties"]["impressions"]
    assert set(slates["items"]["required"]) == {"impression_id", "item_ids", "shown_at"}
    assert "securitySchemes" not in document["components"]
    closed = TestClient(create_application(http_shop.engine, keys=["k" * 16]), base_url="http://localhost")
    assert "HTTPBearer" in closed.get("/openapi.json").json()["components"]["securitySchemes"]


def test_a_statement_that_takes_too_long_or_finds_no_connection_is_a_503(http_shop: Shop) -> None:
    engine = sa.create_engine(
        http_shop.engine.url, pool_size=1, max_overflow=0, pool_timeout=0.01,
        connect_args={"options": "-c statement_timeout=50"},
    )  # fmt: skip
    http = TestClient(create_application(engine), base_url="http://localhost")
    with http_shop.engine.begin() as blocker:
        blocker.exec_driver_sql("lock table items, recommendation_lists")
        assert http.get("/recommendations/ada").status_code == 503
    with engine.connect():
        busy = http.get("/recommendations/ada")
    assert busy.status_code == 503
    assert busy.headers["retry-after"] == "5"
    assert http.get("/recommendations/ada").status_code == 200
    engine.dispose()
