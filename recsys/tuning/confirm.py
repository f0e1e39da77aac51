"""Compare the winner of a search with the present settings on users whom the search has not seen."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recsys.errors import EvaluationError
from recsys.evaluation.bootstrap import Interval, paired_bootstrap
from recsys.evaluation.evaluated_recommender import EvaluatedRecommender
from recsys.evaluation.ranking.cases import ALL, held_out_cases
from recsys.evaluation.ranking.evaluate import evaluate
from recsys.evaluation.ranking.metrics import metric_names, ndcg_name
from recsys.model.checkpoint import load_recommender
from recsys.model.recent import EventLog
from recsys.settings import EvaluationSettings
from recsys.snapshot.read import Snapshot
from recsys.training.split import are_unseen


@dataclass(frozen=True)
class Confirmation:
    """Mean NDCG of unseen users with each of the settings, and the paired difference."""

    users: int
    present: float
    winner: float
    difference: Interval


def compare_on_unseen_users(
    snapshot: Snapshot, winner: Path, present: Path, settings: EvaluationSettings, unseen_share: float
) -> Confirmation:
    """Rank the held-out events of unseen users with both models.

    No trial has trained on a held-out event of anybody, or validated on an event of an unseen user.

    Parameters
    ----------
    winner, present
        Checkpoint folders, trained on the snapshot.
    unseen_share
        Share of the users that the trials left out of their validation.
    """
    catalogue, sequences = snapshot.catalogue(), snapshot.sequences()
    nobody = Confirmation(0, np.nan, np.nan, Interval(np.nan, np.nan, np.nan))
    try:
        cases = held_out_cases(
            sequences, catalogue, snapshot.held_out_from, settings, event_types=snapshot.event_types()
        )
    except EvaluationError:
        return nobody
    chosen = are_unseen(sequences.user_keys, unseen_share)[cases.users]
    if not chosen.any():
        return nobody
    cases = replace(
        cases,
        positions=cases.positions[chosen],
        users=cases.users[chosen],
        targets=cases.targets[chosen],
        slices={ALL: np.ones(int(chosen.sum()), dtype=bool)},
    )
    log = EventLog.of(sequences)
    scorers = {
        name: EvaluatedRecommender(
            load_recommender(folder).with_catalogue(catalogue), snapshot.event_types(), log
        )
        for name, folder in (("winner", winner), ("present", present))
    }
    evaluation = evaluate(scorers, cases, settings)
    ndcg = evaluation.slices[ALL].values[:, :, metric_names(settings.k).index(ndcg_name(settings.k))]
    difference = paired_bootstrap(ndcg[:, 0], ndcg[:, 1], settings.bootstrap_resamples, settings.confidence)
    means = ndcg.mean(axis=0)
    return Confirmation(len(ndcg), float(means[1]), float(means[0]), difference)
