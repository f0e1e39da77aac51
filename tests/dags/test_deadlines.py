"""The alert of a run that misses its deadline, as the triggerer sends it."""

import asyncio
from typing import Any

import pytest


def test_a_missed_deadline_is_alerted_by_the_triggerer(caplog: pytest.LogCaptureFixture) -> None:
    from airflow.triggers.callback import CallbackTrigger

    context = {"dag_run": {"dag_id": "nightly_training", "dag_run_id": "manual__1"}}
    trigger = CallbackTrigger("recsys.airflow.defaults.alert_of_missed_deadline", {"context": context})

    async def run() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    events = asyncio.run(run())

    assert events[-1]["state"] == "success", events
    assert "ALERT nightly_training: run manual__1 missed its deadline" in caplog.messages
