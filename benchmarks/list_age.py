"""Measure what it is worth to renew lists of users who have not reacted, and how soon trends should fade.

    python -m benchmarks.list_age --data FOLDER --recipe newsroom --json F

A model learns the first half of the feedback, and a micro-update each of 24 windows of the second half, as in
`benchmarks.freshness`. A case is what a user wanted first on a day (UTC). Their list was made, with the
weights from before the window, from what was known and from the items that had appeared

- `daily`: at midnight;
- `every_8_hours`, `hourly`: at the last of such times;
- `trending_H`: at the last full hour, by what everybody wanted, which counts half after H hours. That is what
  a visitor sees first.

Recent popularity knows nothing of the hour before a list is made. An item that had not appeared by then
counts as not found (`had_appeared` is the share of the others). NDCG@10 is the mean over users, with 95 %
intervals from a bootstrap over users of the difference from `daily`.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.datasets import NAMES, Dataset, load_dataset
from benchmarks.freshness import cut_windows, full_fine_tune, micro_update, with_keys
from recsys.evaluation.bootstrap import mean_intervals, paired_bootstrap
from recsys.evaluation.ranking.metrics import ranks, user_means
from recsys.model.fusion import ndcg_of_ranks
from recsys.model.ranking import mask_hidden
from recsys.model.recent import EventLog, RecentPopularity
from recsys.model.recommender import Recommender
from recsys.settings import Settings, load_settings
from recsys.snapshot.sequences import Sequences
from recsys.training.live_interest import USUAL_HALF_LIFE_DAYS

_HOUR = 3_600_000_000
_RENEWED_HOURS = {"daily": 24, "every_8_hours": 8, "hourly": 1}
_HALF_LIVES_HOURS = (1, 3, 6, 12, 24, 42)
_BATCH = 256


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.list_age", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--dataset", choices=NAMES)
    parser.add_argument("--data", type=Path, help="folder of the data set, or of own files")
    parser.add_argument("--recipe", help="what event types mean: shop, newsroom, video or music")
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/recsys-benchmarks")
    options = parser.parse_args(arguments)
    if not (options.dataset or options.data):
        parser.error("give --dataset ml-100k, or --data FOLDER")
    torch.set_num_threads(options.threads)
    home = Path(tempfile.mkdtemp(prefix="recsys-list-age-"))
    try:
        dataset = load_dataset(
            options.dataset or options.data.name, options.data, options.cache, recipe=options.recipe
        )
        figures = measure(with_keys(dataset), load_settings(home), options.windows, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(dataset: Dataset, settings: Settings, windows: int, home: Path) -> dict[str, Any]:
    """Return NDCG@10 of each way to make lists."""
    sequences, log = dataset.sequences, EventLog.of(dataset.sequences)
    half = int(np.quantile(sequences.occurred_at, 0.5, method="higher"))
    cut = cut_windows(sequences, half, windows)
    model, _ = full_fine_tune(dataset, sequences.before(half), settings, home / "base")
    half_life_days = model.live_interest.trending_half_life_days or USUAL_HALF_LIFE_DAYS
    values, users = [], []
    for window in cut:
        positions = _first_of_day(dataset, window.positions)
        users.append(sequences.event_users()[positions])
        values.append(_judge(dataset, model, log, positions))
        if window is not cut[-1]:
            model, _ = micro_update(model, sequences, window, half, settings)
    _, _, means = user_means(np.concatenate(values), np.concatenate(users))
    names = [*_RENEWED_HOURS, *(f"trending_{hours}" for hours in _HALF_LIVES_HOURS)]
    figures: dict[str, Any] = {
        "dataset": dataset.name,
        "users": len(means),
        "cases": sum(map(len, values)),
        "trending_half_life_hours_of_the_model": 24 * half_life_days,
    }
    for column, name in enumerate(names):
        difference = paired_bootstrap(means[:, column], means[:, 0])
        figures[name] = {
            "ndcg_at_10": mean_intervals(means[:, column : column + 1], 10_000, 0.95)[0].value,
            "minus_daily": [difference.value, difference.low, difference.high],
        }
    for column, name in enumerate(_RENEWED_HOURS, len(names)):
        figures[name]["had_appeared"] = float(means[:, column].mean())
    return figures


def _first_of_day(dataset: Dataset, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions of those events before which their users have done nothing on the same day."""
    sequences = dataset.sequences
    day = sequences.occurred_at // (24 * _HOUR)
    is_first = positions == sequences.offsets[sequences.event_users()[positions]]
    result: NDArray[np.int64] = positions[is_first | (day[positions - 1] < day[positions])]
    return result


def _judge(
    dataset: Dataset, model: Recommender, log: EventLog, positions: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return NDCG@10 [events, ways], and whether the items had appeared when the lists were made."""
    sequences = dataset.sequences
    appeared = np.full(len(dataset.catalogue), np.iinfo(np.int64).max)
    np.minimum.at(appeared, sequences.item_index, sequences.occurred_at)
    trends = [
        RecentPopularity(np.zeros(len(dataset.catalogue)), 0, hours / 24) for hours in _HALF_LIVES_HOURS
    ]
    scorer, rows = model.scorer(log), [np.zeros((0, 2 * len(_RENEWED_HOURS) + len(trends)))]
    for begin in range(0, len(positions), _BATCH):
        some = positions[begin : begin + _BATCH]
        targets, time = sequences.item_index[some], sequences.occurred_at[some]
        known = sequences.prefixes(some)
        midnight = time // (24 * _HOUR) * (24 * _HOUR)
        columns, existed = [], []
        for hours in _RENEWED_HOURS.values():
            made_at = np.maximum(midnight, time // (hours * _HOUR) * (hours * _HOUR))
            asked = known.asked(made_at)
            scores = scorer.score(scorer.user_vectors(asked), asked).cpu().numpy().copy()
            exists = appeared < made_at[:, None]
            columns.append(_ndcg(np.where(exists, scores, -np.inf), known, targets))
            existed.append((appeared[targets] < made_at).astype(np.float64))
        columns += [
            _ndcg(np.where(exists, trend.scores_at(log, made_at), -np.inf), known, targets)
            for trend in trends
        ]
        rows.append(np.stack([*columns, *existed], axis=1))
    return np.concatenate(rows)


def _ndcg(scores: NDArray[np.floating], known: Sequences, targets: NDArray[np.int32]) -> NDArray[np.float64]:
    return ndcg_of_ranks(ranks(mask_hidden(scores.astype(np.float32), known), targets), 10)


if __name__ == "__main__":
    main()
