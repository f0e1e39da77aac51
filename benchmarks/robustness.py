"""Measure what accounts that push an item achieve, with and without validation, and what random labels cost.

    python -m benchmarks.robustness --json F

MovieLens-100K is loaded into a temporary Postgres up to a day in its last third, and validated. Then
accounts appear among the honest users and push an item. Their ratings and the honest ones arrive in nightly
windows, which the row rules judge. A model is trained on what is left, another one on everything, and both
are compared with one that was trained without the attack. Every honest user's last rating is held out.

`exposure_growth` is the number of honest users with the pushed item in their list of ten, plus one, divided
by the same without the attack. `ndcg_loss` is the share of NDCG@10 that honest users lose, and
`ndcg_loss_error` its standard error. All compare means of models with the same seeds. By share of accounts
they are the worst of all attacks that happen within a day. `honest_flagged` is the largest share of honest
users with ratings in quarantine. `slow` is the same for attacks that take weeks, `undefended_growth` the
growth without the rule. If validation removes exactly what the attack added, the model is the same and is not
trained again.

Text is frozen and the models train for a few epochs, all alike: the figures compare and are no records.
"""

import argparse
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacked_warehouse import AttackedWarehouse
from benchmarks.attacks import AVERAGE, BANDWAGON, DAY, KINDS, RANDOM, SEGMENT, Attack, Ratings
from benchmarks.datasets import PRODUCT_EVENT_TYPES
from benchmarks.made_warehouse import PSEUDONYM_KEY
from recsys.catalogues.movielens import load_movielens
from recsys.evaluation.ranking.cases import Cases, cases_at
from recsys.evaluation.ranking.metrics import ranks
from recsys.local.postgres import PostgresServer
from recsys.model.fusion import ndcg_of_ranks
from recsys.model.ranking import NO_ITEM, mask_hidden, top_k
from recsys.model.recommender import Recommender
from recsys.settings import ModelSettings, Settings, TrainingSettings
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.training.full import fit_full

K = 10
SHARES = (0.01, 0.03)
SMALL, LARGE = 0.03, 0.10
BURST, SLOW = 1.0, 28.0
FAST_ATTACKS = tuple((kind, filler, BURST) for kind in KINDS for filler in (SMALL, LARGE))
SLOW_ATTACKS = tuple((kind, SMALL, SLOW) for kind in (AVERAGE, SEGMENT))
UNDEFENDED = (
    (RANDOM, SMALL, BURST),
    (AVERAGE, SMALL, BURST),
    (BANDWAGON, SMALL, BURST),
    (SEGMENT, SMALL, BURST),
)
"""Attacks of which the effect without the rule is measured too, with the most accounts."""
WRONG_LABELS = 0.10
# The pushed item is somewhat known: growth from nothing would be a division by nothing.
_TARGET_RATINGS = (10, 100)
_TARGETS = 30
_CAMPAIGN_BEGINS = 0.70
_BATCH = 512


@dataclass(frozen=True)
class Judged:
    """What honest users get from a model.

    Attributes
    ----------
    ndcg_of_seeds
        Mean NDCG@10 of honest users, by model.
    exposure
        [items] number of honest users with the item in their list of ten; the mean of several models.
    """

    ndcg_of_seeds: tuple[float, ...]
    exposure: NDArray[np.float64]

    @property
    def ndcg(self) -> float:
        """Mean NDCG@10 of honest users and models."""
        return float(np.mean(self.ndcg_of_seeds))


@dataclass
class World:
    """The data, the honest users' test cases, and the models trained so far."""

    catalogue: Catalogue
    honest: Ratings
    cases: Cases
    settings: Settings
    folder: Path
    keep: Path | None
    seeds: int
    judged: dict[str, Judged] = field(default_factory=dict)

    def judge(self, ratings: Ratings) -> Judged:
        """Train on ratings with each seed and evaluate for honest users; return the mean."""
        of_seeds = [self._judge(ratings, seed) for seed in range(self.seeds)]
        return Judged(
            tuple(judged.ndcg for judged in of_seeds),
            np.mean([judged.exposure for judged in of_seeds], axis=0),
        )

    def _judge(self, ratings: Ratings, seed: int) -> Judged:
        """Train and evaluate; the same ratings are trained on once."""
        training = self.settings.training.model_copy(update={"seed": seed})
        settings = self.settings.model_copy(update={"training": training})
        key = hashlib.sha256(
            repr((settings.model, settings.training)).encode()
            + b"".join(
                np.ascontiguousarray(getattr(ratings, c)).tobytes() for c in ("user", "item", "value", "time")
            )
        ).hexdigest()
        kept = None if self.keep is None else self.keep / f"{key}.json"
        if key not in self.judged and kept is not None and kept.is_file():
            content = json.loads(kept.read_text(encoding="utf-8"))
            self.judged[key] = Judged((content["ndcg"],), np.array(content["exposure"]))
        if key not in self.judged:
            sequences = sequences_of(ratings, PRODUCT_EVENT_TYPES)
            fitted = fit_full(self.catalogue, PRODUCT_EVENT_TYPES, sequences, settings, self.folder / key)
            self.judged[key] = _evaluate(fitted.model, self.cases)
            shutil.rmtree(self.folder / key)
            if kept is not None:
                judged = self.judged[key]
                content = {"ndcg": judged.ndcg, "exposure": judged.exposure.tolist()}
                kept.write_text(json.dumps(content), encoding="utf-8")
        return self.judged[key]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _options(arguments)
    logging.getLogger("recsys").setLevel(logging.ERROR)
    # The folder must be readable for the account that runs Postgres.
    folder = Path(tempfile.mkdtemp(prefix="recsys-robustness-"))
    folder.chmod(0o755)
    server = PostgresServer(folder / "postgres", settings={"fsync": "off", "full_page_writes": "off"})
    server.start()
    try:
        world = make_world(options, folder)
        figures = measure(world, server, options)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(render(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def make_world(options: argparse.Namespace, folder: Path) -> World:
    """Read MovieLens-100K and hold out each user's last rating."""
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    source = load_movielens(options.cache)
    rows = [film.item() for film in source.films]
    columns = [[row[name] for row in rows] for name in ("item_id", "title", "description", "attributes")]
    catalogue = Catalogue.build(*columns)
    _, users = np.unique([rating.user_id for rating in source.ratings], return_inverse=True)
    ratings = Ratings(
        user=users.astype(np.int64),
        item=catalogue.lookup([rating.item_id for rating in source.ratings]).astype(np.int64),
        value=np.array([rating.value for rating in source.ratings]),
        time=np.array([float(rating.timestamp) for rating in source.ratings]),
    )
    everything = sequences_of(ratings, PRODUCT_EVENT_TYPES)
    last_of_user = np.zeros(len(ratings), dtype=bool)
    _, last = np.unique(ratings.user[::-1], return_index=True)
    last_of_user[len(ratings) - 1 - last] = True
    honest = ratings.take(~last_of_user)
    known = sequences_of(honest, PRODUCT_EVENT_TYPES)
    cases = cases_at(everything, catalogue, everything.offsets[1:] - 1, known)
    settings = Settings(
        home=options.keep or folder,
        pseudonym_key=PSEUDONYM_KEY,
        model=ModelSettings(fine_tuning="frozen", layers=1, max_events=50),
        training=TrainingSettings(
            epochs=options.epochs,
            text_epochs=0,
            request_steps=0,
            batch_size=32,
            learning_rate=2e-3,
            threads=1,
        ),
    )
    return World(catalogue, honest, cases, settings, folder / "fits", options.keep, options.fits)


def sequences_of(ratings: Ratings, event_types: Any) -> Sequences:
    """Return ratings as sequences of their users."""
    users = int(ratings.user.max()) + 1
    return Sequences.build(
        user_keys=[f"{number:06d}" for number in range(users)],
        user_index=ratings.user,
        item_index=ratings.item,
        event_type=event_types.lookup(["rating"] * len(ratings)),
        value=ratings.value,
        occurred_at=(ratings.time * 1_000_000).astype(np.int64),
        feedback_id=np.arange(len(ratings)),
        event_types=event_types,
    )


def measure(world: World, server: PostgresServer, options: argparse.Namespace) -> dict[str, Any]:
    """Run all attacks and return the figures."""
    begin = float(np.quantile(world.honest.time, _CAMPAIGN_BEGINS))
    begin = np.floor(begin / DAY) * DAY + DAY * 0.6
    warehouse = AttackedWarehouse(server, world.honest, len(world.catalogue), begin)
    clean = world.judge(world.honest)
    print(f"without an attack: NDCG@10 {clean.ndcg:.4f}", flush=True)
    attacks: list[dict[str, Any]] = []
    for number, (kind, filler, days) in enumerate((*FAST_ATTACKS, *SLOW_ATTACKS)):
        for share in SHARES:
            attack = Attack(kind, filler, days, share)
            row = _attack(world, warehouse, attack, begin, clean, 1_000 * options.seed + number)
            attacks.append(row)
            print(json.dumps(row), flush=True)
    fast = [row for row in attacks if row["days"] <= BURST]
    slow = [row for row in attacks if row["days"] > BURST]
    wrong = world.judge(_with_wrong_labels(world.honest))
    return {
        "users": int(world.honest.user.max()) + 1,
        "accounts": {str(share): round(share * (int(world.honest.user.max()) + 1)) for share in SHARES},
        "ndcg": clean.ndcg,
        "exposure_growth": _worst(fast, "exposure_growth"),
        "ndcg_loss": _worst(fast, "ndcg_loss"),
        "honest_flagged": max(row["honest_flagged"] for row in attacks),
        "accounts_found": {str(s): min(r["found"] for r in fast if r["share"] == s) for s in SHARES},
        "slow": {name: _worst(slow, name) for name in ("exposure_growth", "ndcg_loss")},
        "undefended_growth": {str(max(SHARES)): max(row.get("undefended_growth", 0) for row in fast)},
        "undefended_ndcg_loss": {str(max(SHARES)): max(row.get("undefended_loss", -1) for row in fast)},
        "label_noise_ndcg_loss": 1 - wrong.ndcg / clean.ndcg,
        "attacks": attacks,
    }


def _attack(
    world: World, warehouse: AttackedWarehouse, attack: Attack, begin: float, clean: Judged, seed: int
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    target = _choose_target(world, clean, rng)
    genres = [set(attributes.get("genres", ())) for attributes in world.catalogue.attributes]
    alike = np.array([bool(genres[target] & other) for other in genres])
    pushed = attack.ratings(world.honest, target, begin, alike, rng)
    poisoned = world.honest.with_(pushed)
    honest_users = int(world.honest.user.max()) + 1
    flagged = warehouse.quarantined(poisoned, busy_until=pushed.time.max())
    left = world.judge(poisoned.take(~flagged))
    users_flagged = np.unique(poisoned.user[flagged])
    row = {
        "attack": attack.name,
        "kind": attack.kind,
        "filler": attack.filler_share,
        "days": attack.days,
        "share": attack.share,
        "target_ratings": int((world.honest.item == target).sum()),
        "found": float((users_flagged >= honest_users).sum() / (poisoned.user.max() + 1 - honest_users)),
        "honest_flagged": float((users_flagged < honest_users).sum() / honest_users),
        "exposure_before": float(clean.exposure[target]),
        "exposure_growth": float((left.exposure[target] + 1) / (clean.exposure[target] + 1)),
        "ndcg_loss": 1 - left.ndcg / clean.ndcg,
        "ndcg_loss_error": _standard_error(left, clean),
    }
    if (attack.kind, attack.filler_share, attack.days) in UNDEFENDED and attack.share == max(SHARES):
        without = world.judge(poisoned)
        row["undefended_growth"] = float((without.exposure[target] + 1) / (clean.exposure[target] + 1))
        row["undefended_loss"] = 1 - without.ndcg / clean.ndcg
    return row


def _standard_error(left: Judged, clean: Judged) -> float:
    """Return the standard error of the share of NDCG@10 lost, from models with the same seeds."""
    differences = np.subtract(left.ndcg_of_seeds, clean.ndcg_of_seeds)
    if len(differences) < 2:
        return float("nan")
    return float(differences.std(ddof=1) / np.sqrt(len(differences)) / clean.ndcg)


def _choose_target(world: World, clean: Judged, rng: np.random.Generator) -> int:
    """Return one of the items with few ratings that most users have in their lists."""
    number = np.bincount(world.honest.item, minlength=len(world.catalogue))
    low, high = _TARGET_RATINGS
    exposure = np.where((number >= low) & (number <= high), clean.exposure, -1)
    return int(rng.choice(np.argsort(-exposure, kind="stable")[:_TARGETS]))


def _worst(rows: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    return {str(share): max(row[name] for row in rows if row["share"] == share) for share in SHARES}


def _with_wrong_labels(ratings: Ratings) -> Ratings:
    """Give a share of the ratings another value, drawn at random."""
    rng = np.random.default_rng(0)
    wrong = rng.random(len(ratings)) < WRONG_LABELS
    other = 1 + (ratings.value - 1 + rng.integers(1, 5, len(ratings))) % 5
    return Ratings(ratings.user, ratings.item, np.where(wrong, other, ratings.value), ratings.time)


def _evaluate(model: Recommender, cases: Cases) -> Judged:
    rank = np.zeros(len(cases), dtype=np.int64)
    exposure = np.zeros(len(cases.available))
    for start in range(0, len(cases), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(cases)))
        histories = cases.histories(rows)
        scores = mask_hidden(np.array(model.score(histories), dtype=np.float32), histories)
        rank[rows] = ranks(scores, cases.targets[rows])
        lists, _ = top_k(scores, K)
        exposure += np.bincount(lists[lists != NO_ITEM], minlength=len(exposure))
    return Judged((float(ndcg_of_ranks(rank, K).mean()),), exposure)


def render(figures: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        f"{figures['users']} honest users, NDCG@10 {figures['ndcg']:.4f} without an attack; "
        f"honest users flagged: {figures['honest_flagged']:.2%}; "
        f"random labels: {figures['label_noise_ndcg_loss']:.1%} of NDCG@10 lost",
        "",
        "| attack | accounts | found | exposure grows | without the rule | NDCG@10 lost | honest flagged |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in figures["attacks"]:
        without = f"{row['undefended_growth']:.1f}" if "undefended_growth" in row else ""
        lines.append(
            f"| {row['attack']} | {row['share']:.0%} | {row['found']:.0%} | {row['exposure_growth']:.2f} | "
            f"{without} | {row['ndcg_loss']:.1%} ± {row['ndcg_loss_error']:.1%} | "
            f"{row['honest_flagged']:.2%} |"
        )
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.robustness", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, default=4, help="passes over the ratings, of each model")
    parser.add_argument("--fits", type=int, default=3, help="models of which each figure is the mean")
    parser.add_argument("--seed", type=int, default=0, help="seed of targets and accounts")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/recsys-benchmarks")
    parser.add_argument("--keep", type=Path, help="folder for what a later run can use again")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
