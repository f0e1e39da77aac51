"""Alerts: they reach the webhook, and nothing about the webhook can fail what they report."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import SecretStr

from recsys.alerts import send_alert
from recsys.settings import Settings


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[str]]]:
    """Address of a webhook, and the texts it received."""
    received: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/secret", received
        server.shutdown()
        thread.join()


def with_webhook(url: str) -> Settings:
    return Settings(alert_webhook=SecretStr(url))


def test_an_alert_reaches_the_webhook_also_with_a_newline_after_its_address(
    webhook: tuple[str, list[str]],
) -> None:
    address, received = webhook
    assert send_alert(with_webhook(address + "\n"), "the night failed")
    assert received == ["the night failed"]


@pytest.mark.parametrize(
    "address",
    ["", "no address", "http://a\nb/secret", "http://[::1/secret", "http://x:99999/secret", "ftp://h/secret"],
)
def test_a_wrong_address_is_logged_without_itself_and_fails_nothing(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not send_alert(with_webhook(address), "the night failed")
    assert "ALERT the night failed" in caplog.text
    assert "the alert webhook did not accept the alert" in caplog.text
    assert "secret" not in caplog.text


def test_a_missing_certificate_file_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, webhook: tuple[str, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    assert not send_alert(with_webhook(webhook[0].replace("http:", "https:")), "the night failed")
    assert "did not accept" in caplog.text
