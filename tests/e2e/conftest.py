"""The demo runs once, for all tests that look at what it did."""

from typing import Any

import pytest

from tests.e2e.demo_machine import Machine


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="session")
def first(machine: Machine) -> tuple[str, dict[str, Any]]:
    """What the first demo printed, and its report."""
    return machine.demo()
