"""What each part of the model is worth: the same training with one thing changed.

    python -m benchmarks.ablations --dataset ml-100k --split temporal --seeds 3 --json F

Low ratings are negative feedback here, as in production: they are no targets. Each row is a variant's NDCG@10
and its paired difference to the model as it is, both of means over seeds, with 95 % intervals over users. The
file keeps each user's result and is written after every run: the same command goes on where it ended.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import NAMES, Dataset, load_dataset
from benchmarks.quality import METRICS, Result, add_ours, judge
from benchmarks.splits import SPLITS, Protocol, make_split
from recsys.errors import ConfigurationError
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
    if unknown := set(chosen) - set(VARIANTS):
        raise ConfigurationError(f"unknown variants {sorted(unknown)}; there are {', '.join(VARIANTS)}")
    runs = Runs.open(options.json, dataset.name, options.split, Settings())
    # Seed by seed, so that what is there when somebody stops it compares all variants.
    for seed in range(options.seeds):
        for name in chosen:
            if not runs.have(name, seed):
                print(f"{name}, seed {seed}", flush=True)
                runs.add(seed, _run(name, VARIANTS[name], dataset, split, seed))
    print(render(runs.figures()))


@dataclass
class Runs:
    """What has been measured: each user's NDCG@10 and the seconds, by variant and seed."""

    file: Path | None
    setting: dict[str, Any]
    """Data, split and defaults: what all runs of a file have in common."""
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def open(cls, file: Path | None, dataset: str, split: str, settings: Settings) -> "Runs":
        """Return what the file holds, if it is there.

        Raises
        ------
        ConfigurationError
            When it was measured on other data or with other defaults.
        """
        setting = {
            "dataset": dataset,
            "split": split,
            "model": settings.model.model_dump(mode="json"),
            "training": settings.training.model_dump(mode="json"),
        }
        if file is None or not file.exists():
            return cls(file, setting)
        kept = json.loads(file.read_text())
        if kept["setting"] != setting:
            raise ConfigurationError(
                f"{file} holds runs on other data or with other settings; name another file, or delete it"
            )
        return cls(file, setting, kept["values"], kept["seconds"])

    def have(self, name: str, seed: int) -> bool:
        """Return whether a variant was measured with this seed."""
        return str(seed) in self.values.get(name, {})

    def add(self, seed: int, results: dict[str, tuple[NDArray[np.float64], float]]) -> None:
        """Add each variant's values [users] and seconds, and write the file."""
        for name, (values, seconds) in results.items():
            self.values.setdefault(name, {})[str(seed)] = values.tolist()
            self.seconds.setdefault(name, {})[str(seed)] = seconds
        if self.file is not None:
            whole = {"setting": self.setting, "values": self.values, "seconds": self.seconds}
            written = self.file.with_suffix(".part")
            written.write_text(json.dumps(whole | {"variants": self.figures()}) + "\n")
            written.replace(self.file)

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return means, intervals and paired differences over the seeds that both variants have."""
        figures: dict[str, dict[str, Any]] = {}
        for name, by_seed in self.values.items():
            mean = mean_intervals(np.mean(list(by_seed.values()), axis=0)[:, None], 10_000, 0.95)[0]
            figures[name] = {
                METRICS[0]: mean.value, "low": mean.low, "high": mean.high, "seeds": len(by_seed),
                "seconds": float(np.mean(list(self.seconds[name].values()))),
            }  # fmt: skip
            both = [seed for seed in by_seed if seed in self.values.get(AS_IS, {})]
            if both and name != AS_IS:
                own = np.mean([by_seed[seed] for seed in both], axis=0)
                pair = paired_bootstrap(own, np.mean([self.values[AS_IS][seed] for seed in both], axis=0))
                figures[name]["minus_as_it_is"] = [pair.value, pair.low, pair.high]
        return figures


def _run(
    name: str, variant: Variant, dataset: Dataset, split: Protocol, seed: int
) -> dict[str, tuple[NDArray[np.float64], float]]:
    """Return each user's NDCG@10 and the seconds, of the variant and of what is read off the same model."""
    results = {"ours": Result(), "ours_neural": Result()}
    results |= {part: Result() for part in WITHOUT_PARTS} if name == AS_IS else {}
    if variant.without_text:
        dataset = replace(dataset, catalogue=_silent(dataset.catalogue))
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
    return {
        label: (user_means(result.per_case(), split.cases.users)[2][:, 0], result.seconds[0])
        for label, result in (own | results).items()
    }


def _silent(catalogue: Catalogue) -> Catalogue:
    """Return a catalogue whose items say nothing of themselves."""
    return Catalogue.build(catalogue.item_ids.tolist(), [""] * len(catalogue))


def _without(model: Recommender, part: str) -> Recommender:
    kept = {name: weight for name, weight in model.fusion.weights.items() if name != part}
    copy = model.clone()
    copy.fusion = replace(model.fusion, weights=kept)
    return copy


def render(figures: dict[str, dict[str, Any]]) -> str:
    """Return the table that people read."""
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
    parser.add_argument("--dataset", choices=NAMES, default="ml-100k")
    parser.add_argument("--data", type=Path, help="folder of the data set")
    parser.add_argument("--split", choices=SPLITS, default="temporal")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", help="some of the variants, divided by commas")
    parser.add_argument("--json", type=Path, help="file for the figures, from which a later call goes on")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/recsys-benchmarks")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
