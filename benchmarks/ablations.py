"""What each part of the model is worth: the same training with one thing changed.

    python -m benchmarks.ablations --dataset ml-100k --split temporal --seeds 3 --json F

Low ratings are negative feedback here, as in production: they are no targets. Each row is a variant's NDCG@10
and its paired difference to the model as it is, with a 95 % interval over users.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.datasets import NAMES, Dataset, load_dataset
from benchmarks.quality import METRICS, Result, add_ours, judge
from benchmarks.splits import SPLITS, Protocol, make_split
from recsys.evaluation.bootstrap import mean_intervals, paired_bootstrap
from recsys.evaluation.metrics import user_means
from recsys.model.fusion import COLLABORATIVE, LIKING, POPULARITY
from recsys.model.recommender import Recommender
from recsys.settings import Settings
from recsys.snapshot.sequences import Catalogue

AS_IS = "as it is"


@dataclass(frozen=True)
class Variant:
    """One change of settings or of data."""

    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    without_text: bool = False


VARIANTS = {
    AS_IS: Variant(),
    "id only": Variant(without_text=True, model={"fine_tuning": "frozen"}),
    "text only": Variant(model={"id_dropout": 1.0}),
    "fine_tuning=frozen": Variant(model={"fine_tuning": "frozen"}),
    "fine_tuning=lora": Variant(model={"fine_tuning": "lora"}),
    "fine_tuning=full": Variant(model={"fine_tuning": "full"}),
    "without liking": Variant(training={"feedback_weight": 0.0}),
    "without ratings": Variant(training={"rating_weight": 0.0}),
    "without requests": Variant(training={"request_weight": 0.0}),
    "without averaged weights": Variant(training={"weight_averaging": 0.0}),
}
WITHOUT_PARTS = {
    "without EASE in the fusion": COLLABORATIVE,
    "without popularity in the fusion": POPULARITY,
    "without liking in the fusion": LIKING,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    options = _options(arguments)
    dataset = load_dataset(options.dataset, options.data, options.cache, low_ratings_are_negative=True)
    split = make_split(dataset, options.split)
    chosen = options.variants.split(",") if options.variants else list(VARIANTS)
    results: dict[str, Result] = {}
    for name in chosen:
        print(name, flush=True)
        results |= _run(name, VARIANTS[name], dataset, split, options.seeds)
    figures = {"dataset": dataset.name, "split": options.split, "seeds": options.seeds}
    figures["variants"] = _figures(results, split)
    print(render(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _run(name: str, variant: Variant, dataset: Dataset, split: Protocol, seeds: int) -> dict[str, Result]:
    results = {"ours": Result(), "ours_neural": Result()}
    results |= {part: Result() for part in WITHOUT_PARTS} if name == AS_IS else {}
    if variant.without_text:
        dataset = replace(dataset, catalogue=_silent(dataset.catalogue))
    for seed in range(seeds):
        home = Path(tempfile.mkdtemp(prefix="recsys-ablations-"))
        try:
            settings = Settings(home=home)
            settings = settings.model_copy(
                update={
                    "model": settings.model.model_copy(update=variant.model),
                    "training": settings.training.model_copy(update=variant.training),
                }
            )
            model = add_ours(results, dataset, split, settings, seed, home / "run")
        finally:
            shutil.rmtree(home, ignore_errors=True)
        for label, part in WITHOUT_PARTS.items():
            if label in results:
                results[label].add(judge(_without(model, part), split.cases), 0.0, {})
    own = {name: results.pop("ours"), f"{name}, neural part alone": results.pop("ours_neural")}
    return own | results


def _silent(catalogue: Catalogue) -> Catalogue:
    """Return a catalogue whose items say nothing of themselves."""
    return Catalogue.build(catalogue.item_ids.tolist(), [""] * len(catalogue))


def _without(model: Recommender, part: str) -> Recommender:
    kept = {name: weight for name, weight in model.fusion.weights.items() if name != part}
    copy = model.clone()
    copy.fusion = replace(model.fusion, weights=kept)
    return copy


def _figures(results: dict[str, Result], split: Protocol) -> dict[str, dict[str, Any]]:
    means = {name: user_means(result.per_case(), split.cases.users)[2] for name, result in results.items()}
    figures = {}
    for name, values in means.items():
        interval = mean_intervals(values[:, :1], 10_000, 0.95)[0]
        figures[name] = {
            METRICS[0]: interval.value, "low": interval.low, "high": interval.high,
            "seconds": sum(results[name].seconds) / max(len(results[name].seconds), 1),
        }  # fmt: skip
        if AS_IS in means and name != AS_IS:
            pair = paired_bootstrap(values[:, 0], means[AS_IS][:, 0])
            figures[name]["minus_as_it_is"] = [pair.value, pair.low, pair.high]
    return figures


def render(figures: dict[str, Any]) -> str:
    """Return the table that people read."""
    lines = ["| variant | NDCG@10 | minus the model as it is [95 %] | fit s |", "| --- | --- | --- | --- |"]
    for name, row in figures["variants"].items():
        value, low, high = row.get("minus_as_it_is", (None, None, None))
        difference = "" if value is None else f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
        lines.append(f"| {name} | {row[METRICS[0]]:.4f} | {difference} | {row['seconds']:.0f} |")
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablations", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--dataset", choices=NAMES, default="ml-100k")
    parser.add_argument("--data", type=Path, help="folder of the data set")
    parser.add_argument("--split", choices=SPLITS, default="temporal")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", help="some of the variants, divided by commas")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/recsys-benchmarks")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
