"""The outcome of an evaluation: metrics per user, from which every figure follows.

It is saved under keyed hashes of users only.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.errors import EvaluationError
from recsys.evaluation.bootstrap import Interval, mean_intervals, paired_bootstrap
from recsys.evaluation.ranking.metrics import metric_names
from recsys.settings import EvaluationSettings

CANDIDATE = "candidate"
CHAMPION = "champion"
FORMAT_VERSION = 2


@dataclass(frozen=True)
class Figure:
    """One mean over users with its interval, as stored in table `model_evaluations`."""

    scorer: str
    slice: str
    metric: str
    value: float
    low: float
    high: float
    users: int


@dataclass(frozen=True, eq=False)
class SliceResult:
    """Metrics per user of the cases in one slice.

    Attributes
    ----------
    user_keys
        [users] keyed hashes.
    cases
        [users] how many cases the user's means are over.
    values
        [users, scorers, metrics]; NaN for a scorer that failed and for metrics that were not asked for. What
        a user's list is like (novelty, diversity) is the same in every slice that the user is in.
    """

    user_keys: NDArray[np.object_]
    cases: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scorers compared on identical users, cases and candidates.

    Attributes
    ----------
    k
        Length of the list that is judged.
    scorers
        Names in the order of `SliceResult.values`.
    slices
        Results by name of slice; users without cases in a slice are not in it.
    coverage
        Share of the available items that are in at least one user's top k, by scorer; NaN if it failed.
    impossible
        Why nothing could be compared; None when something was.
    failures
        Why a scorer has no metrics, by scorer.
    champion_version
        Version that the candidate is compared with; promotion expects it to be champion still.
    figures
        Means with intervals of every scorer, slice and metric.
    """

    k: int
    scorers: tuple[str, ...]
    slices: dict[str, SliceResult]
    coverage: dict[str, float]
    failures: dict[str, str]
    champion_version: str | None = None
    figures: tuple[Figure, ...] = field(default=())
    impossible: str | None = None

    @classmethod
    def of_nothing(
        cls, k: int, scorers: tuple[str, ...], why: str, champion_version: str | None
    ) -> "Evaluation":
        """Return the evaluation of a candidate that cannot be compared, with the reason."""
        empty = SliceResult(
            np.zeros(0, dtype=object),
            np.zeros(0, dtype=np.int64),
            np.zeros((0, len(scorers), len(metric_names(k)))),
        )
        nothing = dict.fromkeys(scorers, float("nan"))
        return cls(k, scorers, {"all": empty}, nothing, {}, champion_version, impossible=why)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics in the order of `SliceResult.values`."""
        return metric_names(self.k)

    @property
    def main_slice(self) -> str:
        """The slice that holds all cases: "all", or "guard" for guard cases."""
        return next(iter(self.slices))

    @property
    def users(self) -> int:
        """Number of users who were evaluated."""
        return len(self.slices[self.main_slice].user_keys)

    @property
    def cases(self) -> int:
        """Number of events that were predicted."""
        return int(self.slices[self.main_slice].cases.sum())

    def per_user(self, scorer: str, metric: str, slice_name: str | None = None) -> NDArray[np.float64]:
        """Return [users] a metric of a scorer, in the same order for all scorers."""
        result = self.slices[slice_name or self.main_slice]
        return result.values[:, self.scorers.index(scorer), self.metrics.index(metric)]

    def mean(self, scorer: str, metric: str, slice_name: str | None = None) -> float:
        """Return the mean over users; NaN without users."""
        values = self.per_user(scorer, metric, slice_name)
        return float(values.mean()) if len(values) else float("nan")

    def compare(
        self,
        scorer: str,
        other: str,
        metric: str,
        settings: EvaluationSettings,
        slice_name: str | None = None,
        shift: float = 0.0,
    ) -> Interval:
        """Return scorer - other by paired bootstrap over users, stratified by how many cases they have.

        `shift` is added to the difference, to ask whether it lies above -shift.
        """
        return paired_bootstrap(
            self.per_user(scorer, metric, slice_name) + shift,
            self.per_user(other, metric, slice_name),
            settings.bootstrap_resamples,
            settings.confidence,
            strata=self._strata(slice_name),
            power=settings.power,
        )

    def compare_all(self, scorer: str, other: str, settings: EvaluationSettings) -> dict[str, Interval]:
        """Return scorer - other in every metric, with the same draws of users."""
        values = self.slices[self.main_slice].values
        difference = values[:, self.scorers.index(scorer)] - values[:, self.scorers.index(other)]
        intervals = mean_intervals(
            difference,
            settings.bootstrap_resamples,
            settings.confidence,
            strata=self._strata(None),
            power=settings.power,
        )
        return dict(zip(self.metrics, intervals, strict=True))

    def _strata(self, slice_name: str | None) -> NDArray[np.int64] | None:
        counts = self.slices[slice_name or self.main_slice].cases
        if len(counts) == 0:
            return None
        return np.asarray(np.searchsorted(np.unique(np.quantile(counts, [1 / 3, 2 / 3])), counts))

    def figure(self, scorer: str, metric: str) -> float:
        """Return a figure of the main slice by name; NaN when there is none."""
        for figure in self.figures:
            if (figure.scorer, figure.metric, figure.slice) == (scorer, metric, self.main_slice):
                return figure.value
        return float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready summary without users."""
        return {
            "format_version": FORMAT_VERSION,
            "k": self.k,
            "users": self.users,
            "cases": self.cases,
            "scorers": list(self.scorers),
            "slices": list(self.slices),
            "champion_version": self.champion_version,
            "impossible": self.impossible,
            "coverage": {name: _json_number(value) for name, value in self.coverage.items()},
            "failures": self.failures,
            "figures": [
                {name: _json_number(value) for name, value in vars(figure).items()} for figure in self.figures
            ],
        }

    def save(self, folder: Path) -> Path:
        """Write `per_user.parquet` and `summary.json`, the latter last; return the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = []
        for name, result in self.slices.items():
            columns = {
                "slice": pa.array([name] * len(result.cases), pa.string()),
                "user_key": pa.array(result.user_keys.tolist(), pa.string()),
                "cases": pa.array(result.cases, pa.int64()),
            }
            for number, scorer in enumerate(self.scorers):
                for position, metric in enumerate(self.metrics):
                    columns[f"{scorer}.{metric}"] = pa.array(result.values[:, number, position])
            parts.append(pa.table(columns))
        pq.write_table(pa.concat_tables(parts), folder / "per_user.parquet", compression="zstd")
        summary = folder / "summary.json.partial"
        summary.write_text(json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")
        summary.rename(folder / "summary.json")
        return folder

    @classmethod
    def load(cls, folder: Path) -> "Evaluation":
        """Read what `save` wrote.

        Raises
        ------
        EvaluationError
            When the folder holds no complete evaluation.
        """
        try:
            summary = json.loads((folder / "summary.json").read_text())
            table = pq.read_table(folder / "per_user.parquet")
        except (OSError, ValueError, pa.ArrowException) as error:
            raise EvaluationError(
                f"{folder} holds no complete evaluation ({error}); evaluate again"
            ) from error
        if summary["format_version"] != FORMAT_VERSION:
            raise EvaluationError(
                f"{folder} has format {summary['format_version']}, not {FORMAT_VERSION}; evaluate again"
            )
        scorers, metrics = tuple(summary["scorers"]), metric_names(summary["k"])
        names = np.asarray(table["slice"].to_pylist(), dtype=object)
        keys = np.asarray(table["user_key"].to_pylist(), dtype=object)
        counts = table["cases"].to_numpy()
        columns = [table[f"{scorer}.{metric}"].to_numpy() for scorer in scorers for metric in metrics]
        values = np.stack(columns, axis=1).reshape(len(names), len(scorers), len(metrics))
        slices = {
            name: SliceResult(keys[names == name], counts[names == name], values[names == name])
            for name in summary["slices"]
        }
        return cls(
            k=summary["k"],
            scorers=scorers,
            slices=slices,
            coverage={name: _number(value) for name, value in summary["coverage"].items()},
            failures=summary["failures"],
            champion_version=summary["champion_version"],
            impossible=summary["impossible"],
            figures=tuple(
                Figure(**{name: _number(value) for name, value in row.items()}) for row in summary["figures"]
            ),
        )


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _number(value: Any) -> Any:
    return float("nan") if value is None else value
