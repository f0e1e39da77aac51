"""Only the task wrapper and the command line read the environment; all other code gets settings passed in."""

import os
from pathlib import Path

import pytest

from tests.architecture.environment_use import environment_readers, environment_reads

REPOSITORY = Path(__file__).parents[2]

ENTRY_POINTS = ("airflow/", "commands/", "training/__main__.py")
"""Places where a process starts and its environment is read."""

DEFINITION = "settings/environment.py"
"""Defines `load_settings`."""


def test_only_entry_points_read_the_environment() -> None:
    readers = environment_readers(REPOSITORY / "recsys")
    assert readers.keys() >= {DEFINITION, "commands/prepare.py"}

    allowed = (*ENTRY_POINTS, "settings/")
    others = {path: lines for path, lines in readers.items() if not path.startswith(allowed)}

    assert others == {}


def test_dag_files_do_not_read_the_environment() -> None:
    assert environment_readers(REPOSITORY / "dags") == {}


@pytest.mark.parametrize(
    "code",
    [
        "import os\nhome = os.environ['HOME']",
        "import os\nhome = os.environ.get('HOME')",
        "import os\nhome = os.getenv('HOME')",
        "import os\nenvironment = {**os.environ}",
        "import os\nhome = os.environ.setdefault('HOME', '/')",
        "import os\nenvironment = os.environ\nenvironment['HOME'] = '/'",
        "from os import environ\nhome = environ['HOME']",
        "from os import getenv as read",
        "import os as system\nhome = system.environ['HOME']",
        "def run():\n    from recsys.settings import load_settings",
        "from recsys import settings\nsettings.load_settings()",
        "from pydantic_settings import BaseSettings\n\nclass Hidden(BaseSettings): ...",
    ],
)
def test_every_way_to_read_the_environment_is_found(code: str) -> None:
    assert environment_reads(code)


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.environ.setdefault('GX_ANALYTICS_ENABLED', 'False')",
        "import os\nos.environ['MLFLOW_DISABLE_TELEMETRY'] = 'true'",
        "import os\nos.getpid()",
        "from recsys.settings import Settings\ncurrent = Settings(schedules=False)",
    ],
)
def test_configuring_another_library_is_allowed(code: str) -> None:
    assert environment_reads(code) == []


def test_threads_of_torch_that_wait_leave_the_cores_to_others() -> None:
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
