"""The result of an evaluation: metrics per user, from which every figure is computed.

Saved files name users by their keyed hashes only.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter

from recsys.errors import EvaluationError
from recsys.evaluation.bootstrap import Interval, mean_intervals, paired_bootstrap
from recsys.evaluation.json_files import Number, read_json, write_json
from recsys.evaluation.ranking.metrics import metric_names
from recsys.settings import EvaluationSettings

CANDIDATE = "candidate"
CHAMPION = "champion"
_SUMMARY, _PER_USER = "summary.json", "per_user.parquet"


@dataclass(frozen=True)
class Figure:
    """A mean over users with its interval; a row of table `model_evaluations`."""

    scorer: str
    slice: str
    metric: str
    value: Number
    low: Number
    high: Number
    users: int


@dataclass(frozen=True, eq=False)
class SliceResult:
    """Metrics per user of the cases in one slice.

    Attributes
    ----------
    user_keys
        [users] keyed hashes.
    cases
        [users] number of cases of the user.
    values
        [users, scorers, metrics]; NaN for a scorer that failed and for metrics that were not computed.
        Metrics of a user's list (novelty, diversity) are the same in all slices of the user.
    """

    user_keys: NDArray[np.object_]
    cases: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scorers compared on identical users, cases and catalogue.

    Attributes
    ----------
    k
        Length of the evaluated lists.
    scorers
        Names in the order of `SliceResult.values`.
    slices
        Results by slice name; the first slice holds all cases. A slice holds only users with cases in it.
    coverage
        Share of the available items in at least one user's top k, by scorer; NaN for a scorer that failed.
    failures
        Reason why a scorer has no metrics, by scorer.
    champion_version
        Version that the candidate is compared with; promotion requires that it is still champion.
    figures
        Means with intervals of every scorer, slice and metric.
    impossible
        Reason why no comparison was possible; None when there was one.
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
        """Return an evaluation without users, for a candidate that cannot be compared."""
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
        """Return [users] a scorer's metric; the order of users is the same for all scorers."""
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
        """Return scorer - other by paired bootstrap over users, stratified by their number of cases.

        `shift` is added to the difference, to test whether the difference is above -shift.
        """
        return paired_bootstrap(
            self.per_user(scorer, metric, slice_name) + shift,
            self.per_user(other, metric, slice_name),
            settings.bootstrap_resamples,
            settings.confidence,
            strata=self._strata(slice_name),
        )

    def compare_all(self, scorer: str, other: str, settings: EvaluationSettings) -> dict[str, Interval]:
        """Return scorer - other in every metric; all metrics share the draws."""
        values = self.slices[self.main_slice].values
        difference = values[:, self.scorers.index(scorer)] - values[:, self.scorers.index(other)]
        intervals = mean_intervals(
            difference,
            settings.bootstrap_resamples,
            settings.confidence,
            strata=self._strata(None),
        )
        return dict(zip(self.metrics, intervals, strict=True))

    def _strata(self, slice_name: str | None) -> NDArray[np.int64] | None:
        counts = self.slices[slice_name or self.main_slice].cases
        if len(counts) == 0:
            return None
        return np.asarray(np.searchsorted(np.unique(np.quantile(counts, [1 / 3, 2 / 3])), counts))

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
        pq.write_table(pa.concat_tables(parts), folder / _PER_USER, compression="zstd")
        summary = _Summary(
            k=self.k,
            users=self.users,
            cases=self.cases,
            scorers=self.scorers,
            slices=tuple(self.slices),
            champion_version=self.champion_version,
            impossible=self.impossible,
            coverage=self.coverage,
            failures=self.failures,
            figures=self.figures,
        )
        write_json(folder / _SUMMARY, _ADAPTER, summary)
        return folder

    @classmethod
    def load(cls, folder: Path) -> "Evaluation":
        """Read what `save` wrote.

        Raises
        ------
        EvaluationError
            The folder holds no complete evaluation.
        """
        summary = read_json(folder / _SUMMARY, _ADAPTER)
        scorers, metrics = summary.scorers, metric_names(summary.k)
        try:
            table = pq.read_table(folder / _PER_USER)
            columns = [table[f"{scorer}.{metric}"].to_numpy() for scorer in scorers for metric in metrics]
        except (OSError, KeyError, pa.ArrowException) as error:
            raise EvaluationError(f"{folder / _PER_USER} cannot be read ({error}); evaluate again") from error
        names = np.asarray(table["slice"].to_pylist(), dtype=object)
        keys = np.asarray(table["user_key"].to_pylist(), dtype=object)
        counts = table["cases"].to_numpy()
        values = np.stack(columns, axis=1).reshape(len(names), len(scorers), len(metrics))
        slices = {
            name: SliceResult(keys[names == name], counts[names == name], values[names == name])
            for name in summary.slices
        }
        return cls(
            k=summary.k,
            scorers=scorers,
            slices=slices,
            coverage=summary.coverage,
            failures=summary.failures,
            champion_version=summary.champion_version,
            impossible=summary.impossible,
            figures=summary.figures,
        )


@dataclass(frozen=True)
class _Summary:
    """Contents of `summary.json`: an evaluation without its users."""

    k: int
    users: int
    cases: int
    scorers: tuple[str, ...]
    slices: tuple[str, ...]
    champion_version: str | None
    impossible: str | None
    coverage: dict[str, Number]
    failures: dict[str, str]
    figures: tuple[Figure, ...]


_ADAPTER = TypeAdapter(_Summary)
