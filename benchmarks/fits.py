"""Fits that do not need each other: several at a time, each kept, so that a call goes on where one ended."""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import ConfigurationError


@dataclass(frozen=True)
class Judged:
    """What one model gave on the test cases."""

    metrics: NDArray[np.float64]
    """[cases, metrics]."""
    coverage: float
    """Share of the catalogue in the users' latest lists."""
    seconds: float
    details: dict[str, Any]


Outcome = dict[str, Judged]
"""What one fit gave, by name of the model: ours is judged whole and in parts."""


@dataclass(frozen=True)
class Fits:
    """Runs fits by name, each once.

    Attributes
    ----------
    jobs
        Fits at a time, in processes of their own; the cores are divided among them. 1: in this process.
    keep
        Folder with a file for each fit that is done; None: nothing is kept.
    """

    jobs: int
    keep: Path | None

    @classmethod
    def open(cls, jobs: int, keep: Path | None, setting: Mapping[str, Any]) -> "Fits":
        """Begin, or go on with what `keep` holds.

        Raises
        ------
        ConfigurationError
            When it was measured on other data or with other settings.
        """
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            file, own = keep / "setting.json", json.loads(json.dumps(setting))
            if file.exists() and json.loads(file.read_text()) != own:
                raise ConfigurationError(
                    f"{keep} holds fits on other data or with other settings; name another folder, "
                    "or delete it"
                )
            file.write_text(json.dumps(own, indent=2) + "\n")
        return cls(jobs, keep)

    def run(self, tasks: Mapping[str, Callable[[], Outcome]]) -> dict[str, Outcome]:
        """Return what each task gives; with several jobs they must be picklable.

        When one of several fails, the others are finished and kept before its error is raised.
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
            model: Judged(np.array(row["metrics"]), row["coverage"], row["seconds"], row["details"])
            for model, row in json.loads(file.read_text()).items()
        }

    def _add(self, name: str, outcome: Outcome) -> Outcome:
        for model, judged in outcome.items():
            print(f"{name}, {model}: NDCG@10 {judged.metrics[:, 0].mean():.4f} over cases", flush=True)
        file = self._file(name)
        if file is not None:
            rows = {
                model: {**vars(judged), "metrics": judged.metrics.tolist()}
                for model, judged in outcome.items()
            }
            written = file.with_suffix(".part")
            written.write_text(json.dumps(rows) + "\n")
            written.replace(file)
        return outcome


def _limit_threads(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of processes that a fit starts
    torch.set_num_threads(threads)
