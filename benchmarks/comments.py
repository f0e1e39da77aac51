"""Measure how well comments are read, and what reading them changes in recommendations.

    python -m benchmarks.comments --data DIR --seeds 3 --json F

`DIR` holds `reviews.jsonl.gz` with one JSON object per line: user_id, item_id, rating, summary, comment and
timestamp (Unix seconds). The benchmark has three parts:

`reading`
    Predict ratings from comments alone, for users the reader has not learned from.
`ranking`
    Leave-one-out next-item prediction. `rated` has all ratings. In `ignored` and `read`, half of the events
    in the training data and the histories lose their rating and are bare comments. `ignored` does not use
    them; `read` reads them with a reader that learned from the other half. The targets are the same in all
    three: users' last events with a rating of 4 or 5. `liking_auc` measures on all users' last events
    whether the liking head ranks those rated 4 or 5 above those rated 1 or 2.
`steering`
    A synthetic shop. A user has written two bad comments about items of one theme and two good ones about
    another, in words that are not in the training data, and has given no rating. Which theme fills the top
    10?
"""

import argparse
import gzip
import json
import tempfile
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from benchmarks.datasets import PRODUCT_EVENT_TYPES, Dataset
from benchmarks.judging import K, judge
from benchmarks.splits import make_split
from recsys.evaluation.bootstrap import paired_bootstrap
from recsys.evaluation.evaluated_recommender import EvaluatedRecommender
from recsys.evaluation.liking import area_under_curve
from recsys.model.comments import CommentReader
from recsys.model.ranking import mask_hidden, top_k
from recsys.model.recommender import Recommender
from recsys.settings import ModelSettings, Settings, TrainingSettings
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.training.comments import fit_comment_reader
from recsys.training.full import fit_full

RATING, COMMENT, DISLIKED_TO, LIKED_FROM = "rating", "comment", 2.0, 4.0
VARIANTS = ("rated", "ignored", "read")
_FOLDS = 5


class Reviews:
    """Ratings with comments, by user and in time order."""

    def __init__(self, folder: Path) -> None:
        with gzip.open(folder / "reviews.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        users, user = np.unique([row["user_id"] for row in rows], return_inverse=True)
        order = np.lexsort((np.arange(len(rows)), [row["timestamp"] for row in rows], user))
        rows = [rows[i] for i in order]
        self.keys = users.astype(object)
        self.user = user[order]
        self.rating = np.array([row["rating"] for row in rows], dtype=np.float64)
        self.times = np.array([row["timestamp"] for row in rows], dtype=np.int64) * 1_000_000
        self.texts = [". ".join(filter(None, (row["summary"].rstrip(". "), row["comment"]))) for row in rows]
        items = sorted({row["item_id"] for row in rows})
        self.catalogue = Catalogue.build(items, [""] * len(items))
        self.item = self.catalogue.lookup([row["item_id"] for row in rows])
        self.last = np.append(self.user[1:] != self.user[:-1], True)

    def sequences(self, bare: NDArray[np.bool_], *, comments: bool) -> Sequences:
        """Return all events; those marked in `bare` [events] have a comment but no rating."""
        types = PRODUCT_EVENT_TYPES
        return Sequences.build(
            user_keys=self.keys,
            user_index=self.user,
            item_index=self.item,
            event_type=np.where(bare, types.index[COMMENT], types.index[RATING]),
            value=np.where(bare, np.nan, self.rating),
            occurred_at=self.times,
            feedback_id=np.arange(len(self.user)),
            event_types=types,
            comment=self.texts if comments else None,
        )


def reading(reviews: Reviews, settings: Settings, seed: int = 0) -> dict[str, Any]:
    """Predict ratings from comments alone, with cross-validation over users."""
    identity = Recommender.build(settings.model, reviews.catalogue, PRODUCT_EVENT_TYPES).encoder
    rated = reviews.sequences(np.zeros(len(reviews.user), dtype=bool), comments=True)
    fold = np.random.default_rng(seed).integers(_FOLDS, size=len(reviews.keys))[reviews.user]
    predicted, sentiment = np.zeros(len(fold)), np.zeros(len(fold), dtype=np.int64)
    mean = np.zeros(len(fold))
    for number in range(_FOLDS):
        own = fold == number
        reader = CommentReader(identity)
        fit_comment_reader(reader, rated.where(~own), PRODUCT_EVENT_TYPES, max_comments=len(fold))
        bare = reader.read(reviews.sequences(own, comments=True))
        predicted[own], sentiment[own] = bare.value[own], bare.sentiment[own]
        mean[own] = rated.value[~own].mean()
    value = rated.value
    written = ~np.isnan(predicted)
    figures: dict[str, Any] = {"comments": int(written.sum())}
    predicted, mean, value, sentiment = predicted[written], mean[written], value[written], sentiment[written]
    liked, disliked = (reviews.rating >= LIKED_FROM)[written], (reviews.rating <= DISLIKED_TO)[written]
    either = liked | disliked
    figures |= {
        "spearman": float(scipy.stats.spearmanr(predicted, value).statistic),
        "auc": area_under_curve(predicted[either], liked[either]),
        "rmse": float(np.sqrt(np.mean((predicted - value) ** 2))),
        "rmse_of_mean": float(np.sqrt(np.mean((mean - value) ** 2))),
    }
    for name, sign, truth in (("negative", -1, disliked), ("positive", 1, liked)):
        found = sentiment == sign
        figures[name] = {
            "share": float(truth.mean()),
            "precision": float(truth[found].mean()),
            "recall": float(found[truth].mean()),
            "precision_by_chance": float(truth.mean()),
            "opposite": float((disliked if sign > 0 else liked)[found].mean()),
        }
    return figures


def ranking(reviews: Reviews, settings: Settings, seeds: int) -> dict[str, Any]:
    """Train with all ratings, with half of them, and with half of them plus the comments' opinions."""
    liked = reviews.rating[reviews.last] >= LIKED_FROM
    disliked = reviews.rating[reviews.last] <= DISLIKED_TO
    gains: dict[str, list[NDArray[np.float64]]] = {name: [] for name in VARIANTS}
    aucs: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for seed in range(seeds):
        hidden = (np.random.default_rng(seed).random(len(reviews.user)) < 0.5) & ~reviews.last
        for name in VARIANTS:
            bare = hidden if name != "rated" else np.zeros_like(hidden)
            sequences = reviews.sequences(bare, comments=name == "read")
            split = make_split(
                Dataset(name, reviews.catalogue, PRODUCT_EVENT_TYPES, sequences), "leave-one-out"
            )
            model = _fit(reviews.catalogue, split.known, settings, seed)
            metrics = judge(model, {}, 0.0, split.cases).metrics
            gains[name].append(metrics[:, 0])
            rows = np.flatnonzero(liked | disliked)
            logits = EvaluatedRecommender(model, PRODUCT_EVENT_TYPES).liking(
                split.cases.histories(rows), split.cases.targets[rows]
            )
            aucs[name].append(float(area_under_curve(logits, liked[rows]) or 0.5))
            print(
                f"  seed {seed} {name}: NDCG@{K} {metrics[liked, 0].mean():.4f}, AUC {aucs[name][-1]:.3f}",
                flush=True,
            )
    means = {name: np.mean(gains[name], axis=0)[liked] for name in VARIANTS}
    figures: dict[str, Any] = {
        name: {"ndcg_at_10": float(means[name].mean()), "liking_auc": float(np.mean(aucs[name]))}
        for name in VARIANTS
    }
    for other in ("ignored", "rated"):
        interval = paired_bootstrap(means["read"], means[other])
        figures[f"read_minus_{other}"] = {
            "ndcg_at_10": interval.value,
            "low": interval.low,
            "high": interval.high,
        }
    return figures


def _fit(catalogue: Catalogue, known: Sequences, settings: Settings, seed: int) -> Recommender:
    seeded = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})
    with tempfile.TemporaryDirectory(dir=settings.home) as folder:
        return fit_full(catalogue, PRODUCT_EVENT_TYPES, known, seeded, Path(folder)).model


THEMES = {
    "garden": "roses tulips herbs compost hedges orchards lawns greenhouses meadows vegetables ponds pruning",
    "space": "Mars Saturn rockets astronauts galaxies comets orbits moonbases nebulas suns starships moons",
    "cooking": "bread pasta soups pastry spices salads sushi grilling cakes curry noodles chocolate",
    "crime": "murder detectives robbery witnesses alibis thieves prisons forgery poison police trials heists",
}
GOOD = (
    "Loved every page.", "Could not put it down, wonderful.", "Excellent, I learned so much from it.",
    "A real pleasure, highly recommended.", "Great book and great pictures.", "My favourite this year!",
    "Five stars, exactly what I was looking for.", "Beautifully written and very useful.",
)  # fmt: skip
BAD = (
    "Dull and full of mistakes.", "Gave up after ten pages, terrible.", "A waste of money.",
    "Disappointing, do not bother.", "Boring from start to end.", "Badly written and of no use.",
    "The worst I have read this year.", "I regret buying it and sent it back.",
)  # fmt: skip
NEW_GOOD = (
    "This one delighted me.",
    "Superb, I want more like this.",
    "So glad I found it, brilliant stuff.",
)
NEW_BAD = ("What a letdown.", "Awful, not for me at all.", "I hated it, poor quality throughout.")


def steering(settings: Settings, seed: int = 0) -> dict[str, Any]:
    """Recommend to people who have written comments only."""
    rng = np.random.default_rng(seed)
    items = [
        (f"{theme}-{number}", f"The book of {word}", theme)
        for theme, words in THEMES.items()
        for number, word in enumerate(words.split())
    ]
    ids, titles, themes = map(list, zip(*items, strict=True))
    catalogue = Catalogue.build(ids, titles, None, [{"subject": theme} for theme in themes])
    people = []
    for _ in range(240):
        liked, disliked = rng.choice(list(THEMES), 2, replace=False)
        events = [(item, str(rng.choice(GOOD)), float(rng.integers(4, 6))) for item in _some(rng, liked, 6)]
        events += [
            (item, str(rng.choice(BAD)), float(rng.integers(1, 3))) for item in _some(rng, disliked, 2)
        ]
        people.append([events[i] for i in rng.permutation(len(events))])
    model = _fit(catalogue, _histories(catalogue, people), settings, seed)
    pairs = [pair for pair in permutations(THEMES, 2) for _ in range(10)]
    commenters = []
    for bad, good in pairs:
        events = [(item, str(rng.choice(NEW_BAD)), np.nan) for item in _some(rng, bad, 2)]
        events += [(item, str(rng.choice(NEW_GOOD)), np.nan) for item in _some(rng, good, 2)]
        commenters.append([events[i] for i in rng.permutation(len(events))])
    figures: dict[str, Any] = {"people": len(commenters)}
    theme_of = np.array([item.split("-")[0] for item in catalogue.item_ids])
    for name in ("read", "ignored"):
        past = _histories(catalogue, commenters, comments=name == "read")
        best, _ = top_k(mask_hidden(model.score(past), past), K)
        shown = theme_of[best]
        figures[name] = {
            "good_theme": float(np.mean([shown[row] == good for row, (_, good) in enumerate(pairs)])),
            "bad_theme": float(np.mean([shown[row] == bad for row, (bad, _) in enumerate(pairs)])),
        }
    return figures


def _some(rng: np.random.Generator, theme: str, count: int) -> list[str]:
    return [f"{theme}-{number}" for number in rng.choice(12, count, replace=False)]


def _histories(
    catalogue: Catalogue, people: list[list[tuple[str, str, float]]], *, comments: bool = True
) -> Sequences:
    flat = [(user, *event) for user, events in enumerate(people) for event in events]
    types = PRODUCT_EVENT_TYPES
    return Sequences.build(
        user_keys=[str(user) for user in range(len(people))],
        user_index=[row[0] for row in flat],
        item_index=catalogue.lookup([row[1] for row in flat]),
        event_type=[types.index[COMMENT if np.isnan(row[3]) else RATING] for row in flat],
        value=[row[3] for row in flat],
        occurred_at=[number * 3_600_000_000 for number in range(len(flat))],
        feedback_id=range(len(flat)),
        event_types=types,
        comment=[row[2] for row in flat] if comments else None,
    )


PARTS = ("steering", "reading", "ranking")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12, help="epochs of each training in `ranking`")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="recsys-comments-") as home:
        # The reviewed items have no titles, so there is no text to train on.
        settings = Settings(
            home=Path(home),
            model=ModelSettings(fine_tuning="frozen"),
            training=TrainingSettings(epochs=options.epochs, text_items_per_step=0, request_steps=0),
        )
        if "steering" in options.parts:
            small = {"dim": 32, "layers": 1, "max_events": 20, "dropout": 0.1, "collaborative_penalty": 10}
            quick = {"epochs": 10, "batch_size": 32, "learning_rate": 3e-3}
            figures["steering"] = steering(
                settings.model_copy(
                    update={
                        "model": settings.model.model_copy(update=small),
                        "training": settings.training.model_copy(update=quick),
                    }
                )
            )
            _print_last(figures)
        reviews = Reviews(options.data)
        if "reading" in options.parts:
            figures["reading"] = reading(reviews, settings)
            _print_last(figures)
        if "ranking" in options.parts:
            figures["ranking"] = ranking(reviews, settings, options.seeds)
            _print_last(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _print_last(figures: dict[str, Any]) -> None:
    part = list(figures)[-1]
    print(part, json.dumps(figures[part], indent=2), flush=True)


if __name__ == "__main__":
    main()
