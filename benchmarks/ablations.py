"""Measure what each part of the model contributes by training variants with one change.

    python -m benchmarks.ablations --dataset ml-100k --split temporal --seeds 3 --json F

`--data FOLDER` takes own files, with the options and protocols of `benchmarks.quality`. In the MovieLens sets
low ratings are negative feedback here, as in production, and are not targets. Each row is a variant's NDCG@10
and its paired difference to the unchanged model, as means over seeds with 95 % intervals over users.
`--keep FOLDER` saves each fit, so that the same command resumes where it stopped.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import TargetCases, Task
from benchmarks.datasets import Dataset
from benchmarks.fits import Fits, Judged, Outcome
from benchmarks.judging import METRICS, judge
from benchmarks.protocols import task_of
from benchmarks.quality import as_of_each_case, fit_and_judge, fit_setting
from benchmarks.splits import make_split
from benchmarks.task_options import (
    add_task_options,
    load_task,
    parse_task_options,
    read_dataset,
    task_setting,
)
from recsys.errors import ConfigurationError
from recsys.evaluation.bootstrap import mean_intervals, paired_bootstrap
from recsys.evaluation.ranking.metrics import user_means
from recsys.model.fusion import APPEAL, COLLABORATIVE, LIKING, POPULARITY, RECENT, SUCCESSION, Fusion
from recsys.model.item_age import FEATURES as AGES
from recsys.model.item_numbers import is_number
from recsys.model.recommender import Recommender
from recsys.model.repeats import FEATURES as REPEATS
from recsys.settings import Settings, load_settings
from recsys.snapshot.sequences import Catalogue

AS_IS = "as it is"


@dataclass(frozen=True)
class Variant:
    """A change of settings or data."""

    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    without_text: bool = False
    without_numbers: bool = False


VARIANTS = {
    AS_IS: Variant(),
    "id only": Variant(without_text=True, model={"fine_tuning": "frozen"}),
    "text only": Variant(model={"id_dropout": 1.0}),
    "fine_tuning=top_layers": Variant(model={"fine_tuning": "top_layers"}),
    "fine_tuning=lora": Variant(model={"fine_tuning": "lora"}),
    "fine_tuning=full": Variant(model={"fine_tuning": "full"}),
    "without liking": Variant(training={"feedback_weight": 0.0}),
    "without ratings": Variant(training={"rating_weight": 0.0}),
    "without numbers of items": Variant(without_numbers=True),
    "without averaged weights": Variant(training={"weight_averaging": 0.0}),
}
WITHOUT_PARTS = {
    "without EASE in the fusion": (COLLABORATIVE,),
    "without what follows what in the fusion": (SUCCESSION,),
    "without popularity in the fusion": (POPULARITY,),
    "without liking in the fusion": (LIKING,),
    "without ages in the fusion": AGES,
    "without repeats in the fusion": REPEATS,
    "without recent popularity in the fusion": (RECENT,),
    "without appeal in the fusion": (APPEAL,),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _options(arguments)
    if options.dataset:
        dataset = read_dataset(options, low_ratings_are_negative=True)
        split = task_of(make_split(dataset, options.split), dataset)
    else:
        dataset, split = load_task(options)
    chosen = options.variants.split(",") if options.variants else list(VARIANTS)
    if unknown := set(chosen) - set(VARIANTS):
        raise ConfigurationError(f"unknown variants {sorted(unknown)}; there are {', '.join(VARIANTS)}")
    home = Path(tempfile.mkdtemp(prefix="recsys-ablations-"))
    try:
        settings = load_settings(home)
        setting = fit_setting(dataset.name, options.split, settings)
        setting |= task_setting(options) | {"low_ratings_are_negative": True}
        # Seed by seed, so that an interrupted run has finished all variants of the first seeds.
        outcomes = Fits.open(options.jobs, options.keep, setting).run(
            {
                f"{name}, seed {seed}": partial(_run, name, dataset, split, settings, seed, home)
                for seed in range(options.seeds)
                for name in chosen
            }
        )
    finally:
        shutil.rmtree(home, ignore_errors=True)
    figures = summarise(outcomes.values(), split.test)
    print(render(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _run(name: str, dataset: Dataset, split: Task, settings: Settings, seed: int, folder: Path) -> Outcome:
    """Fit and evaluate a variant; the unchanged model is also evaluated without some parts."""
    variant = VARIANTS[name]
    if variant.without_text:
        dataset = replace(dataset, catalogue=_without_text(dataset.catalogue))
    if variant.without_numbers:
        dataset = replace(dataset, catalogue=_without_numbers(dataset.catalogue))
    settings = settings.model_copy(
        update={
            "model": settings.model.model_copy(update=variant.model),
            "training": settings.training.model_copy(update=variant.training),
        }
    )
    with tempfile.TemporaryDirectory(dir=folder) as run:
        fitted, model = fit_and_judge(dataset, split, settings, seed, Path(run))
    outcome = {name: fitted["ours"], f"{name}, neural part alone": fitted["ours_neural"]}
    if name == AS_IS:
        seconds = fitted["ours"].seconds
        for label, parts in WITHOUT_PARTS.items():
            without = as_of_each_case(_without(model, parts), dataset, split)
            outcome[label] = judge(without, {}, seconds, split.test)
    return outcome


def summarise(outcomes: Iterable[Outcome], cases: TargetCases) -> dict[str, dict[str, Any]]:
    """Return each variant's mean over its seeds, and its paired difference to the unchanged model."""
    fits: dict[str, list[Judged]] = {}
    for outcome in outcomes:
        for name, judged in outcome.items():
            fits.setdefault(name, []).append(judged)
    means = {
        name: user_means(np.mean([judged.metrics for judged in seeds], axis=0), cases.users)[2][:, 0]
        for name, seeds in fits.items()
    }
    figures: dict[str, dict[str, Any]] = {}
    for name, seeds in fits.items():
        mean = mean_intervals(means[name][:, None], 10_000, 0.95)[0]
        figures[name] = {
            METRICS[0]: mean.value, "low": mean.low, "high": mean.high, "seeds": len(seeds),
            "seconds": float(np.mean([judged.seconds for judged in seeds])),
        }  # fmt: skip
        if AS_IS in means and name != AS_IS:
            pair = paired_bootstrap(means[name], means[AS_IS])
            figures[name]["minus_as_it_is"] = [pair.value, pair.low, pair.high]
    return figures


def _without_text(catalogue: Catalogue) -> Catalogue:
    """Return the catalogue without texts and attributes."""
    empty = [""] * len(catalogue)
    return replace(catalogue, titles=empty, texts=empty, attributes=[{}] * len(catalogue))


def _without_numbers(catalogue: Catalogue) -> Catalogue:
    """Return the catalogue with the same texts, in which no attribute is a number."""
    rows = [
        {name: value for name, value in row.items() if not is_number(value)} for row in catalogue.attributes
    ]
    return replace(catalogue, attributes=rows)


def _without(model: Recommender, parts: Sequence[str]) -> Recommender:
    copy = model.clone()
    for fusion in ("fusion", "returning_fusion"):
        kept = {name: weight for name, weight in getattr(model, fusion).weights.items() if name not in parts}
        setattr(copy, fusion, Fusion(kept))
    return copy


def render(figures: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| variant | NDCG@10 [95 %] | minus the model as it is [95 %] | seeds | fit s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in figures.items():
        value, low, high = row.get("minus_as_it_is", (None, None, None))
        difference = "" if value is None else f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
        interval = f"{row[METRICS[0]]:.4f} [{row['low']:.4f}, {row['high']:.4f}]"
        lines.append(f"| {name} | {interval} | {difference} | {row['seeds']} | {row['seconds']:.0f} |")
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablations", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_task_options(parser, split="temporal")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", help="variants to run, separated by commas; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel fits, which share the cores")
    parser.add_argument("--keep", type=Path, help="folder for finished fits, from which a later run resumes")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parse_task_options(parser, arguments)


if __name__ == "__main__":
    main()
