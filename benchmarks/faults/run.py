"""The hours of a fault run and its books."""

import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import sqlalchemy as sa
from pydantic import SecretStr

from benchmarks.faults.stages import Answer, Attempt
from benchmarks.faults.world import Application, MLflow, Postgres, SmallDisk
from recsys.pipeline.context import Run
from recsys.pipeline.order import HOURLY, NIGHTLY, PUBLISH, REGISTRY_UPKEEP, WAREHOUSE_UPKEEP, Learning
from recsys.settings import Settings
from recsys.warehouse.migrate import upgrade_warehouse

_ATTEMPTS = 8
"""Attempts at a stage; when all fail, the hour is stuck."""
_FAULTS = {
    "none": 0.5, "kill": 0.26, "postgres": 0.05, "mlflow": 0.03, "disk": 0.06, "twice": 0.06, "hold": 0.04,
}  # fmt: skip
_LATEST_KILL_SECONDS = 8.0
_HALF = sa.text("""
    SELECT count(*)
    FROM recommendation_lists AS lists
    FULL JOIN user_vectors AS vectors ON vectors.user_id = lists.user_id
    WHERE lists.model_version IS DISTINCT FROM vectors.model_version
       OR NOT EXISTS (SELECT FROM publications WHERE publications.model_version = lists.model_version)
""")
_MISSING = sa.text("""
    SELECT sent.event_id
    FROM unnest(CAST(:sent AS text[])) AS sent (event_id)
    WHERE NOT EXISTS (SELECT FROM feedback WHERE feedback.event_id = sent.event_id)
      AND NOT EXISTS (SELECT FROM quarantine WHERE quarantine.feedback ->> 'event_id' = sent.event_id)
""")
_UNREAD = sa.text("""
    SELECT count(*) FROM feedback WHERE transaction_id >= (
        SELECT max(upper_transaction_id) FROM windows WHERE consumer = 'nightly_training'
    )
""")
_NAMED = {
    "users": "user_id", "feedback": "user_id", "quarantine": "user_id",
    "impressions": "user_id", "recommendation_lists": "user_id", "user_vectors": "user_id",
}  # fmt: skip


class FaultRun:
    """A small system, and the chance that breaks it.

    Parameters
    ----------
    folder
        Everything lies here.
    seed
        Seed of the feedback and of the faults. What a killed process had done by then depends on the machine.

    Attributes
    ----------
    application
        What writes the feedback.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._chance = np.random.default_rng(seed)
        self._postgres = Postgres(folder)
        upgrade_warehouse(self._postgres.url())
        self._mlflow = MLflow(folder, self._postgres.url("mlflow"))
        self._disk = SmallDisk(folder)
        self._settings = _settings(folder, self._postgres.url(), self._mlflow.url, self._disk.folder)
        self.application = Application(self._postgres.url(), self._chance)
        self.application.stock()
        self._counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._nothing: Counter[str] = Counter()
        self._hidden_by_half = 0
        self._has_champion = False
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "FaultRun":
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._reader.join()
        self.application.close()
        self._mlflow.stop()
        self._postgres.stop()
        self._disk.release()

    def hour(self, hour: int, *, faults: bool = True) -> None:
        """Write the hour's feedback, learn from it, publish, and once a day keep house."""
        jump = timedelta(days=1) if faults and self._chance.random() < 0.05 else timedelta(0)
        self.application.set_clock(jump)
        self._counts["clock_jumps"] += bool(jump)
        self.application.write(datetime.now(UTC))
        self.application.set_clock(timedelta(0))
        if faults and hour % 8 == 5:
            self.application.ask_for_erasure()
        # Without a first champion no hour has anything to do, so the next hour is a night as well.
        night = hour % 24 == 0 or not self._has_champion
        learned = self._learn(NIGHTLY if night else HOURLY, hour, faults)
        if learned is not None and learned.outcome == "done":
            self._has_champion = True
            self._counts["learned_hours"] += 1
        ends = [learned]
        ends.append(self._chain("publish_recommendations", hour, [PUBLISH.at_once.__name__], faults))
        if hour % 8 == 7 or not faults:
            for dag, stages in (
                ("warehouse_housekeeping", WAREHOUSE_UPKEEP),
                ("registry_housekeeping", REGISTRY_UPKEEP),
            ):
                ends += [self._chain(dag, hour, [stage.__name__], faults) for stage in stages]
        self._counts["stuck_hours"] += any(end is None for end in ends)

    def describe(self) -> str:
        """Return the counts so far."""
        counts = sorted((self._counts + self._nothing).items())
        return ", ".join(f"{name} {count}" for name, count in counts)

    def close_books(self, hours: int) -> dict[str, Any]:
        """Run a night without faults and return the figures."""
        self.hour(24 * (hours // 24 + 1), faults=False)
        return self.figures(hours)

    def figures(self, hours: int) -> dict[str, Any]:
        """Count what is missing, visible by half, or not erased."""
        engine = sa.create_engine(self._postgres.url())
        with engine.connect() as connection:
            kept = [
                e for e, user in self.application.committed.items() if user not in self.application.erased
            ]
            missing = connection.execute(_MISSING, {"sent": kept}).scalars().all()
            unread = connection.scalar(_UNREAD)
            found = [user for user in self.application.erased if self._is_found(connection, user)]
            self._hidden_by_half += int(connection.scalar(_HALF) or 0)
            publications = connection.scalar(sa.text("SELECT count(*) FROM publications"))
            champions = connection.scalar(sa.text("SELECT count(*) FROM promotion_ledger"))
        engine.dispose()
        return {
            "hours": hours,
            "kills": self._counts["kills"],
            "restarts": self._counts["restarts"],
            "full_disks": self._counts["full_disks"],
            "run_twice": self._counts["run_twice"],
            "held_transactions": self._counts["held_transactions"],
            "clock_jumps": self._counts["clock_jumps"],
            "rows_in": len(kept),
            "rows_accounted": len(kept) - len(missing) - int(unread or 0),
            "half_publications": self._hidden_by_half,
            "erased_people": len(self.application.erased),
            "erased_people_found": len(found),
            "stuck_hours": self._counts["stuck_hours"],
            "learned_hours": self._counts["learned_hours"],
            "publications": publications,
            "ledger_entries": champions,
            "errors": dict(self._errors.most_common()),
            "nothing_to_do": dict(self._nothing.most_common()),
        }

    def _is_found(self, connection: sa.Connection, user: str) -> bool:
        for table, column in _NAMED.items():
            named = sa.text(f"SELECT EXISTS (SELECT FROM {table} WHERE {column} = :user)")
            if connection.scalar(named, {"user": user}):
                return True
        key = self.application.erased[user]
        return bool(key) and any(
            key in pq.read_table(path, columns=["user_key"]).column("user_key").to_pylist()
            for path in Path(self._settings.snapshots).rglob("interactions/*.parquet")
        )

    def _learn(self, learning: Learning, hour: int, faults: bool) -> Answer | None:
        stages = [stage.__name__ for stage in (*learning.until_decision, learning.promote)]
        return self._chain(learning.dag_id, hour, stages, faults)

    def _chain(self, dag_id: str, hour: int, stages: Sequence[str], faults: bool) -> Answer | None:
        """Run stages, each on what the one before returned; None if one of them never succeeded."""
        publishes = stages == [PUBLISH.at_once.__name__]
        run = Run(dag_id, f"{dag_id}/{hour}", params={"scope": "auto"} if publishes else {})
        received: tuple[Any, ...] = ()
        answer: Answer | None = None
        for stage in stages:
            answer = self._until_done(stage, run, received, faults)
            if answer is None or answer.outcome == "nothing":
                if answer is not None:
                    self._nothing[f"{stage}: {answer.value}"] += 1
                return answer
            received = (answer.value,)
        return answer

    def _until_done(self, stage: str, run: Run, received: tuple[Any, ...], faults: bool) -> Answer | None:
        for attempt in range(_ATTEMPTS):
            # The last attempts are undisturbed, as a person would see to.
            disturbed = faults and attempt < _ATTEMPTS - 2
            fault = str(self._chance.choice(list(_FAULTS), p=list(_FAULTS.values()))) if disturbed else "none"
            answer = self._attempt(fault, stage, run, received)
            if answer.outcome != "failed":
                return answer
            self._errors[f"{stage}: {answer.value}"] += 1
        print(f"{run.key}: {stage} never succeeded: {answer.trace or answer.value}", flush=True)
        return None

    def _attempt(self, fault: str, stage: str, run: Run, received: tuple[Any, ...]) -> Answer:
        around: AbstractContextManager[None] = nullcontext()
        if fault == "disk" and self._disk.mounted:
            around = self._disk.full()
            self._counts["full_disks"] += 1
        elif fault == "hold":
            around = self.application.holding_a_transaction()
            self._counts["held_transactions"] += 1
        with around:
            attempts = [Attempt.start(stage, self._settings, run, received)]
            if fault == "twice":
                attempts.append(Attempt.start(stage, self._settings, run, received))
                self._counts["run_twice"] += 1
            if fault in ("kill", "postgres", "mlflow"):
                early = attempts[0].wait(float(self._chance.uniform(0, _LATEST_KILL_SECONDS)))
                if early is not None:
                    return early
                if fault == "kill":
                    attempts[0].kill()
                    self._counts["kills"] += 1
                    return Answer("failed", "killed")
                self._counts["restarts"] += 1
                if fault == "postgres":
                    self._postgres.restart(kill=bool(self._chance.random() < 0.5))
                else:
                    self._mlflow.restart()
            answers = [attempt.wait() or Answer("failed", "killed") for attempt in attempts]
        return min(answers, key=lambda answer: ("done", "nothing", "failed").index(answer.outcome))

    def _watch(self) -> None:
        """Look for users whose list and vector come from different models."""
        engine = sa.create_engine(self._postgres.url(), isolation_level="AUTOCOMMIT", pool_pre_ping=True)
        while not self._stop.wait(0.2):
            with suppress(sa.exc.DBAPIError), engine.connect() as connection:
                self._hidden_by_half += int(connection.scalar(_HALF) or 0)
        engine.dispose()


def _settings(folder: Path, warehouse: str, mlflow: str, disk: Path) -> Settings:
    """Return settings of models that train in a second."""
    return Settings.model_validate(
        {
            "home": folder / "home",
            "warehouse_url": SecretStr(warehouse),
            "mlflow_tracking_uri": mlflow,
            "pseudonym_key": SecretStr("a key that only benchmarks use"),
            "snapshot_root": str(disk / "snapshots"),
            "work_root": disk / "runs",
            "model": {"dim": 16, "layers": 1, "max_events": 20, "fine_tuning": "frozen"},
            "training": {"epochs": 1, "request_steps": 0, "threads": 1},
            "micro_update": {"epochs": 1},
            "evaluation": {"bootstrap_resamples": 200},
            "gate": {
                "min_evaluated_users": 5, "non_inferiority_margin": 0.9, "forgetting_margin": 1.0,
                "coverage_margin": 1.0, "slice_margin": 1.0, "list_margin": 1.0,
                "on_fail": {"better_than_popularity": "ignore"},
                "on_inconclusive": {"better_than_popularity": "ignore"},
            },
            "validation": {"freshness_hours": {"warn_max": None}},
        }
    )  # fmt: skip
