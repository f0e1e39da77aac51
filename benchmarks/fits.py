"""Run independent fits, several in parallel, and save each result so that a later run can resume."""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import ConfigurationError


@dataclass(frozen=True)
class Judged:
    """Evaluation of one model on the test cases.

    Attributes
    ----------
    metrics
        [cases, metrics]
    coverage
        Share of the catalogue in the users' latest lists.
    seconds
        Duration of the fit.
    details
        Report of the fit.
    ranks
        [targets] rank of each target; empty if they are not kept.
    """

    metrics: NDArray[np.float64]
    coverage: float
    seconds: float
    details: dict[str, Any]
    ranks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


Outcome = dict[str, Judged]
"""Evaluations of one fit by model name; our model is evaluated as a whole and in parts."""


@dataclass(frozen=True)
class Fits:
    """Runs fits by name, each once.

    Attributes
    ----------
    jobs
        Number of parallel fits in separate processes, which share the cores. With 1, fits run in this
        process.
    keep
        Folder with one file per finished fit; None saves nothing.
    """

    jobs: int
    keep: Path | None

    @classmethod
    def open(cls, jobs: int, keep: Path | None, setting: Mapping[str, Any]) -> "Fits":
        """Start with an empty folder, or resume with the fits in `keep`.

        Raises
        ------
        ConfigurationError
            The fits in `keep` have other data or other settings.
        """
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            file, wanted = keep / "setting.json", json.loads(json.dumps(setting))
            if file.exists() and json.loads(file.read_text()) != wanted:
                raise ConfigurationError(
                    f"{keep} holds fits on other data or with other settings; choose another folder, "
                    "or delete it"
                )
            file.write_text(json.dumps(wanted, indent=2) + "\n")
        return cls(jobs, keep)

    def run(self, tasks: Mapping[str, Callable[[], Outcome]]) -> dict[str, Outcome]:
        """Run the tasks that are not saved yet and return all outcomes.

        With several jobs, tasks must be picklable. If one fails, the others finish and are saved before its
        error is raised.
        """
        done = {name: kept for name in tasks if (kept := self._read(name)) is not None}
        missing = {name: task for name, task in tasks.items() if name not in done}
        if self.jobs == 1 or len(missing) < 2:
            for name, task in missing.items():
                done[name] = self._add(name, task())
        else:
            threads = max(1, torch.get_num_threads() // self.jobs)
            with ProcessPoolExecutor(self.jobs, get_context("spawn"), _limit_threads, (threads,)) as pool:
                names = {pool.submit(task): name for name, task in missing.items()}
                errors = []
                for future in as_completed(names):
                    error = future.exception()
                    if error is None:
                        done[names[future]] = self._add(names[future], future.result())
                    else:
                        errors.append(error)
            if errors:
                raise errors[0]
        return {name: done[name] for name in tasks}

    def _file(self, name: str) -> Path | None:
        return None if self.keep is None else self.keep / f"{name}.json"

    def _read(self, name: str) -> Outcome | None:
        file = self._file(name)
        if file is None or not file.exists():
            return None
        return {
            model: Judged(
                np.array(row["metrics"]),
                row["coverage"],
                row["seconds"],
                row["details"],
                np.array(row["ranks"], dtype=np.int64),
            )
            for model, row in json.loads(file.read_text()).items()
        }

    def _add(self, name: str, outcome: Outcome) -> Outcome:
        for model, judged in outcome.items():
            print(f"{name}, {model}: NDCG@10 {judged.metrics[:, 0].mean():.4f} over cases", flush=True)
        file = self._file(name)
        if file is not None:
            rows = {
                model: {**vars(judged), "metrics": judged.metrics.tolist(), "ranks": judged.ranks.tolist()}
                for model, judged in outcome.items()
            }
            written = file.with_suffix(".part")
            written.write_text(json.dumps(rows) + "\n")
            written.replace(file)
        return outcome


def _limit_threads(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for the processes that a fit starts
    torch.set_num_threads(threads)
