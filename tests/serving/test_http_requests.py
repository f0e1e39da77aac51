"""Requests in words over HTTP: what the champion finds, and what is said when it cannot be asked."""

import json
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from recsys.errors import CheckpointError
from recsys.publishing.servable import Servable, load_servable
from recsys.publishing.staging import publishing_session
from recsys.serving.champion import Champion
from recsys.serving.http.application import create_application
from recsys.serving.install import install_serving
from recsys.settings import Settings
from tests.publishing.shop import ITEMS, START, USERS, Shop


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def books(warehouse: sa.Engine, settings: Settings) -> Shop:
    """Thirty items, of which users have had some; version 1 is champion."""
    found = Shop(warehouse, settings)
    found.add_items(*ITEMS)
    found.add_users(*USERS)
    found.execute(
        "insert into feedback (user_id, item_id, event_type, occurred_at) values (:u, :i, 'like', :at)",
        *({"u": USERS[1], "i": ITEMS[n], "at": START + timedelta(seconds=n)} for n in (10, 11)),
    )
    found.close_window()
    found.promote("1")
    install_serving(warehouse)
    return found


class Service:
    """The HTTP service over a shop; `loaded` are the versions that it has loaded."""

    def __init__(self, books: Shop, **options: Any) -> None:
        self.clock = Clock()
        self.loaded: list[str] = []

        def load(settings: Settings, version: str) -> Servable:
            self.loaded.append(version)
            return books.load(settings, version)

        self.champion = Champion(books.settings, books.engine, **({"load": load} | options), clock=self.clock)
        application = create_application(books.engine, champion=self.champion)
        self.client = TestClient(application, base_url="http://localhost", raise_server_exceptions=False)

    def ask(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        answer = self.client.get(f"/recommendations{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def first(self, path: str, **parameters: Any) -> str:
        return str(self.ask(path, **parameters)[0]["item_id"])

    def status(self) -> int:
        return self.client.get("/recommendations", params={"request": "item"}).status_code

    def refusal(self, path: str = "/ada", **parameters: Any) -> tuple[int, str]:
        answer = self.client.get(f"/recommendations{path}", params={"request": "item"} | parameters)
        return answer.status_code, answer.json()["detail"]


@pytest.fixture
def service(books: Shop) -> Service:
    return Service(books)


def test_the_champion_answers_a_request_with_reasons_and_its_version(service: Service) -> None:
    items = service.ask(f"/{USERS[0]}", request="item 15", k=3)
    assert [item["rank"] for item in items] == [1, 2, 3]
    first = items[0]
    assert (first["item_id"], first["source"], first["model_version"]) == ("item 15", "request", "1")
    assert first["reason"] == 'version 1 likes "Item 15"'
    assert (first["propensity"], first["placement"]) == (1, "home")


def test_an_answer_is_in_the_language_of_the_context_or_else_of_the_user(
    books: Shop, service: Service
) -> None:
    books.execute('update users set attributes = \'{"language": "de"}\' where user_id = :u', {"u": USERS[0]})

    def reason(path: str, **context: object) -> str:
        return str(service.ask(path, request="item 15", context=json.dumps(context))[0]["reason"])

    assert reason(f"/{USERS[0]}") == 'version 1 likes "Item 15" in de'
    assert reason(f"/{USERS[0]}", language="zh-CN") == 'version 1 likes "Item 15" in zh'
    assert reason("", language="de") == 'version 1 likes "Item 15" in de'
    assert reason("", language=["de"]) == reason("") == 'version 1 likes "Item 15"'


def test_users_visitors_and_the_unknown_ask_in_each_way(service: Service) -> None:
    assert service.first("", request="item 15") == "item 15"
    assert service.first("", request="item 15", session="s-1") == "item 15"
    assert service.first("/nobody", request="item 15") == "item 15"
    body = service.client.post("/recommendations", json={"user_id": USERS[0], "request": "item 15"})
    assert body.json()["items"][0]["item_id"] == "item 15"
    assert service.loaded == ["1"]


def test_an_empty_request_is_none(books: Shop, service: Service) -> None:
    assert {item["source"] for item in service.ask(f"/{USERS[0]}", request="  ")} == {"new"}
    assert service.loaded == []


def test_what_may_not_be_shown_now_is_left_out(books: Shop, service: Service) -> None:
    asked: dict[str, Any] = {"request": "item 15", "k": 100}
    assert service.first(f"/{USERS[1]}", request="item 10") != "item 10"  # liked
    assert service.first(f"/{USERS[0]}", **asked) == "item 15"
    assert "item 15" not in [item["item_id"] for item in service.ask("", **asked, exclude="item 15")]
    event = {"user_id": USERS[0], "item_id": "item 15", "event_type": "purchase", "value": 1}
    now = books.rows("select now() as now")[0]["now"].isoformat()
    service.client.post("/feedback", json={"events": [event | {"occurred_at": now}]})
    assert service.first(f"/{USERS[0]}", **asked) != "item 15"  # bought a second ago
    books.execute("update items set available = false where item_id = 'item 15'")
    assert service.first("", **asked) != "item 15"
    books.execute("delete from items where item_id = 'item 16'")
    assert service.first("", request="item 16") != "item 16"
    books.execute(
        "update items set attributes = '{\"kind\": \"book\"}' where item_id in ('item 20', 'item 21')"
    )
    found = service.ask("", request="item 21", filter=json.dumps({"kind": "book"}))
    assert [item["item_id"] for item in found] == ["item 21", "item 20"]
    assert service.ask("", request="item 21", filter=json.dumps({"colour": "none"})) == []


def test_a_new_champion_answers_the_next_request(books: Shop, service: Service) -> None:
    service.ask("", request="item")
    books.promote("2")
    assert service.ask("", request="item")[0]["model_version"] == "2"
    books.roll_back("1")
    assert service.ask("", request="item")[0]["model_version"] == "1"
    assert service.loaded == ["1", "2", "1"]


def test_new_items_are_found_once_the_catalogue_has_been_read_again(books: Shop, service: Service) -> None:
    service.ask("", request="item 99")
    books.add_items("item 99")
    assert service.first("", request="item 99") != "item 99"
    service.clock.now += 301
    assert service.first("", request="item 99") == "item 99"
    assert service.loaded == ["1"]


@pytest.mark.parametrize(
    "arguments",
    [{"placement": "nowhere"}, {"k": 0}, {"k": 1_001}, {"request": "x" * 1_001}, {"request": "a\0"}],
)
def test_wrong_arguments_are_refused(service: Service, arguments: dict[str, Any]) -> None:
    assert service.refusal(**arguments)[0] == 422


def test_a_publication_that_is_being_written_delays_no_answer(books: Shop, service: Service) -> None:
    with publishing_session(books.engine):
        assert service.first(f"/{USERS[0]}", request="item 15") == "item 15"
        assert len(service.ask(f"/{USERS[0]}")) == 10


def test_words_of_sql_are_words(books: Shop, service: Service) -> None:
    assert len(service.ask("", request="'; DROP TABLE items; --", k=3)) == 3
    assert len(books.rows("select from items")) == len(ITEMS)


def test_without_a_champion_it_says_so_and_lists_are_answered(
    warehouse: sa.Engine, settings: Settings
) -> None:
    install_serving(warehouse)
    shop = Shop(warehouse, settings)
    shop.add_items("a")
    service = Service(shop)
    assert service.refusal() == (503, "there is no champion yet; run nightly_training first")
    assert service.first("/ada") == "a"


def test_without_mlflow_it_says_what_to_set(books: Shop) -> None:
    nowhere = replace(books, settings=books.settings.model_copy(update={"mlflow_tracking_uri": None}))
    status, detail = Service(nowhere, load=load_servable).refusal()
    assert (status, "RECSYS_MLFLOW_TRACKING_URI" in detail) == (503, True)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (CheckpointError("secret place"), "the champion cannot be loaded; the log of this service says why"),
        (
            ModuleNotFoundError("no torch", name="torch"),
            "requests in words need the package torch, which is not",
        ),
    ],
)
def test_a_champion_that_cannot_be_loaded_is_a_503_and_lists_are_answered(
    books: Shop, error: Exception, detail: str
) -> None:
    def fail(_settings: Settings, _version: str) -> Servable:
        raise error

    service = Service(books, load=fail)
    status, said = service.refusal()
    assert status == 503
    assert said.startswith(detail)
    assert len(service.ask("/ada")) == 10


def test_an_applications_login_is_told_which_role_is_missing(books: Shop) -> None:
    name = f"app_of_{books.engine.url.database}"
    books.execute(f"create role {name} login in role recsys_writer")
    engine = sa.create_engine(books.engine.url.set(username=name))
    try:
        service = Service(replace(books, engine=engine), load=books.load)
        status, detail = service.refusal()
        assert (status, "a member of recsys_pipeline too" in detail) == (503, True)
        assert len(service.ask("/ada")) == 10
    finally:
        engine.dispose()
        books.execute(f"drop role {name}")


def test_more_requests_than_fit_are_refused_and_lists_are_answered(books: Shop) -> None:
    loading, go = threading.Event(), threading.Event()

    def load(settings: Settings, version: str) -> Servable:
        loading.set()
        go.wait(60)
        return books.load(settings, version)

    service = Service(books, load=load)
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(service.status())) for _ in range(12)]
    for thread in threads:
        thread.start()
    assert loading.wait(60)
    for _ in range(600):
        if len(statuses) == 8:
            break
        go.wait(0.1)
    assert statuses == [503] * 8
    assert len(service.ask("/ada")) == 10
    go.set()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 4 + [503] * 8


def test_the_metrics_say_how_many_requests_were_in_memory(service: Service) -> None:
    def counts() -> list[str]:
        lines = service.client.get("/metrics").text.splitlines()
        return [line for line in lines if line.startswith("recsys_http_requests_in_words_total")]

    assert counts() == [
        f'recsys_http_requests_in_words_total{{cache="{name}"}} 0.0' for name in ("hit", "miss")
    ]
    service.ask("", request="item")
    for _ in range(2):  # totals, not differences
        assert [line[-3:] for line in counts()] == ["3.0", "2.0"]
