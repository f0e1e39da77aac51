"""`recsys serve` as a process: how it starts and ends, what it logs, and a database that goes and returns."""

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from recsys.serving.install import READER
from tests.deployment.compose import REPOSITORY
from tests.serving.conftest import Login, Shop


@pytest.fixture(scope="module")
def stocked(http_shop: Shop) -> Shop:
    http_shop.add_items("a", "b")
    http_shop.add_user("a/b%2Fc")
    http_shop.publish("a/b%2Fc", "b")
    http_shop.share("popular", "a")
    return http_shop


def command(url: str, tmp_path: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "recsys.commands.main", "serve", "--port", "0", *arguments],
        env=os.environ | {"RECSYS_WAREHOUSE_URL": url, "RECSYS_HOME": str(tmp_path)} | environment,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "log").open("w"),
        text=True,
    )


@contextmanager
def serving(url: str, tmp_path: Path, **environment: str) -> Iterator[tuple[Any, httpx.Client]]:
    process = command(url, tmp_path, **environment)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip().removeprefix("listening on ")
        assert address, (tmp_path / "log").read_text()
        with httpx.Client(base_url=address, timeout=60) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()


def url_of(login: Login, role: str) -> str:
    return login(role).url.render_as_string(hide_password=False)


def test_it_serves_until_it_is_told_to_stop_and_logs_nobody(
    stocked: Shop, login: Login, tmp_path: Path
) -> None:
    with serving(url_of(login, "recsys_writer"), tmp_path) as (process, client):
        assert client.get("/health").json() == {"status": "ok"}
        exact = client.get("/recommendations/a%2Fb%252Fc", params={"k": 1}).json()["items"]
        assert [(item["item_id"], item["source"]) for item in exact] == [("b", "personal")]
        assert client.get("/recommendations/" + "x" * 10_000).status_code == 422
        assert client.get("/recommendations/secret-ada?placement=secret-place").status_code == 422
        event = {
            "user_id": "secret-ada", "item_id": "a", "event_type": "like", "comment": "secret",
            "occurred_at": "2026-05-04T12:30:00Z",
        }  # fmt: skip
        for outcome in ("new", "known"):
            assert client.post("/feedback", json={"events": [event]}).json()[outcome] == 1

        name = login("recsys_writer").url.username
        stocked.execute(f"alter role {name} nologin")
        stocked.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{name}'")
        away = client.get("/recommendations/secret-ada")
        assert (away.status_code, away.headers["retry-after"]) == (503, "5")
        assert client.post("/feedback", json={"events": [event]}).status_code == 503
        stocked.execute(f"alter role {name} login")
        assert client.get("/recommendations/secret-ada").status_code == 200

        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)
    log = (tmp_path / "log").read_text()
    assert "the database does not answer" in log
    assert "secret" not in log
    assert "Traceback" not in log


def test_a_key_of_the_environment_opens(stocked: Shop, login: Login, tmp_path: Path) -> None:
    keys = '["a key that is long enough"]'
    with serving(url_of(login, READER), tmp_path, RECSYS_SERVING__API_KEYS=keys) as (_, client):
        assert client.get("/trending").status_code == 401
        opened = client.get("/trending", headers={"authorization": "Bearer a key that is long enough"})
        assert opened.json()["items"][0]["item_id"] == "a"


def test_what_cannot_be_served_is_said_at_once(stocked: Shop, login: Login, tmp_path: Path) -> None:
    def error(url: str, *arguments: str) -> str:
        process = command(url, tmp_path, *arguments)
        assert process.communicate(timeout=120)[0] == ""
        assert process.returncode == 2
        return (tmp_path / "log").read_text()

    writer = url_of(login, "recsys_writer")
    assert "set RECSYS_SERVING__API_KEYS" in error(writer, "--host", "0.0.0.0")
    assert "may not call the reading functions" in error(url_of(login, "recsys_analyst"))
    assert "no Postgres answers" in error("postgresql://nobody@127.0.0.1:1/none")


def test_its_image_has_every_package_that_it_needs() -> None:
    """The stage `serving` of the Dockerfile installs the extra `serving` and nothing else."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["serving"]]
    installed = {"recsys"}
    while wanted:
        requirement = Requirement(wanted.pop())
        name = canonicalize_name(requirement.name)
        extras = requirement.extras | {""}
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if needed and name not in installed:
            installed.add(name)
            for line in distribution(name).requires or []:
                marker = Requirement(line).marker
                if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                    wanted.append(line.partition(";")[0])
    others = {
        module
        for module, owners in packages_distributions().items()
        if not installed & {canonicalize_name(owner) for owner in owners}
    }
    without = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(others)!r}))\n"
        "import recsys.commands.main, recsys.serving.http.server\n"
    )
    subprocess.run([sys.executable, "-c", without], check=True)
    assert "mlflow" in others
