"""Who is answered: keys, addresses, sizes of bodies; and what the counters say."""

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from recsys.errors import ConfigurationError
from recsys.serving.http.application import create_application
from recsys.serving.http.guard import MAX_BODY_BYTES, is_loopback
from recsys.serving.http.server import run
from recsys.settings import Settings

KEYS = ["the first key that is long", "the second key that is long"]


@pytest.fixture(scope="module")
def nowhere() -> Iterator[sa.Engine]:
    """An engine on a database that does not answer: what is refused before never asks it."""
    engine = sa.create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def closed(nowhere: sa.Engine) -> TestClient:
    return TestClient(create_application(nowhere, keys=KEYS), raise_server_exceptions=False)


@pytest.fixture
def open_(nowhere: sa.Engine) -> TestClient:
    application = create_application(nowhere)
    return TestClient(application, base_url="http://localhost:8765", raise_server_exceptions=False)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


PATHS = ["/recommendations/ada", "/trending", "/metrics", "/feedback", "/anything", "//health", "/health/"]


def test_without_a_key_everything_but_health_is_refused(closed: TestClient) -> None:
    for headers in (
        {},
        bearer("another key that is long"),
        bearer(KEYS[0][:-1]),
        bearer(KEYS[0] + "x"),
        bearer(""),
        {"authorization": KEYS[0]},
        {"authorization": f"Basic {KEYS[0]}"},
        {"x-api-key": KEYS[0]},
    ):
        for path in PATHS:
            answer = closed.request("POST" if path == "/feedback" else "GET", path, headers=headers)
            assert answer.status_code == 401, (path, headers)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "RECSYS_SERVING__API_KEYS" in answer.json()["detail"]


def test_each_key_opens_and_health_and_the_openapi_document_need_none(closed: TestClient) -> None:
    for key in KEYS:
        assert closed.get("/recommendations/ada", headers=bearer(key)).status_code == 503
        assert closed.get("/metrics", headers={"authorization": f"bearer  {key}"}).status_code == 200
    assert closed.get("/health").status_code == 503
    assert closed.get("/openapi.json").status_code == 200


def test_a_database_that_does_not_answer_is_a_503_that_says_when_to_try_again(open_: TestClient) -> None:
    event = {"user_id": "a", "item_id": "i", "event_type": "like", "occurred_at": "2026-05-04T12:30:00Z"}
    for answer in (
        open_.get("/recommendations/ada"),
        open_.get("/trending"),
        open_.get("/health"),
        open_.post("/feedback", json={"events": [event]}),
    ):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.json() == {"detail": "the database does not answer; try again"}


def test_without_keys_a_name_of_another_place_is_refused(open_: TestClient) -> None:
    for host in ("evil.example", "evil.example:8765", "localhost.evil.example", "10.0.0.1", ""):
        assert open_.get("/trending", headers={"host": host}).status_code == 403
        assert open_.post("/feedback", headers={"host": host}, json={"events": []}).status_code == 403


def test_without_keys_names_of_this_machine_are_answered(open_: TestClient) -> None:
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:8765", "127.9.9.9", "[::1]:8765", "[::1]"):
        assert open_.get("/metrics", headers={"host": host}).status_code == 200, host


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 65536):
        yield b"x" * 65536


def test_a_body_of_fifty_megabytes_is_refused_before_it_is_read(open_: TestClient) -> None:
    stated = open_.post("/feedback", content=b"x" * 50_000_000)
    assert stated.status_code == 413
    assert stated.json()["detail"].startswith(f"the body is larger than {MAX_BODY_BYTES} bytes")
    unstated = open_.post("/feedback", content=chunks(50_000_000))
    assert unstated.status_code == 413
    small = open_.post("/feedback", content=chunks(200_000))
    assert small.status_code == 422


def test_a_body_is_not_read_without_a_key(closed: TestClient) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("the body was read")

    scope = {
        "type": "http", "method": "POST", "path": "/feedback", "raw_path": b"/feedback", "query_string": b"",
        "headers": [(b"content-length", b"10")], "root_path": "", "scheme": "http", "http_version": "1.1",
        "server": ("localhost", 1), "client": ("localhost", 2),
    }  # fmt: skip
    anyio.run(closed.app, scope, receive, send)
    assert sent[0]["status"] == 401


def test_counters_say_what_was_answered_and_name_nobody(open_: TestClient) -> None:
    open_.get("/recommendations/somebody-secret?session=hidden")
    open_.get("/recommendations/somebody-else?k=x")
    open_.get("/somewhere-secret")
    open_.request("BREW", "/trending")
    text = open_.get("/metrics").text
    route = 'route="/recommendations/{user:path}"'
    assert f'recsys_http_requests_total{{method="GET",{route},status="503"}} 1.0' in text
    assert f'recsys_http_requests_total{{method="GET",{route},status="422"}} 1.0' in text
    assert 'recsys_http_requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert 'method="other",route="/trending",status="405"' in text
    assert f"recsys_http_request_seconds_count{{{route}}} 2.0" in text
    for secret in ("secret", "hidden", "somebody", "BREW"):
        assert secret not in text


def test_two_services_count_apart(nowhere: sa.Engine, open_: TestClient) -> None:
    open_.get("/trending")
    other = TestClient(create_application(nowhere), base_url="http://localhost")
    assert "trending" not in other.get("/metrics").text


def test_beyond_this_machine_keys_are_required(tmp_path: Any) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.4", "example.com"):
        with pytest.raises(ConfigurationError, match="set RECSYS_SERVING__API_KEYS"):
            run(Settings(home=tmp_path, warehouse_url="postgresql://x"), host=host, port=0, announce=print)
    assert not is_loopback("0.0.0.0")
    assert is_loopback("::1")


def test_a_short_key_is_no_key() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        Settings.model_validate({"serving": {"api_keys": ["short"]}})
    assert "long" not in repr(Settings.model_validate({"serving": {"api_keys": KEYS}}))
