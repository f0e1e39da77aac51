"""The plugin, mounted as Airflow mounts it, with Airflow's real authentication."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The plugin with Airflow's simple authentication."""
    home = tmp_path_factory.mktemp("airflow")
    with pytest.MonkeyPatch.context() as patched:
        if "AIRFLOW_HOME" not in os.environ:
            patched.setenv("AIRFLOW_HOME", str(home))
        patched.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a secret that only tests use " * 3)
        patched.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(home / "passwords.json"))
        from airflow.api_fastapi.app import init_auth_manager

        init_auth_manager()
        spec = importlib.util.spec_from_file_location("recommender_page", PLUGINS / "recommender_page.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def client(plugin: ModuleType, warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client without a session."""
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    monkeypatch.setenv("RECSYS_WAREHOUSE_URL", warehouse_url)
    airflow = FastAPI()
    [mounted] = plugin.RecommenderPlugin.fastapi_apps
    airflow.mount(mounted["url_prefix"], mounted["app"])
    return TestClient(airflow, follow_redirects=False)


@pytest.fixture
def signed_in(plugin: ModuleType, client: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same client as a signed-in viewer; Airflow still checks the viewer's permissions."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user

    overrides = plugin.build_application().dependency_overrides
    monkeypatch.setitem(overrides, get_user, lambda: SimpleAuthManagerUser(username="ada", role="viewer"))
    return client
