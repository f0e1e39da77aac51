from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic_core import to_jsonable_python

from recsys.columns import PURPOSES, Purpose
from recsys.evaluation.compare import compare_candidate
from recsys.evaluation.comparison import Comparison
from recsys.evaluation.earlier import declines
from recsys.evaluation.evaluated_recommender import EvaluatedRecommender
from recsys.evaluation.off_policy.log import screen_slates
from recsys.evaluation.ranking.metrics import ndcg_name
from recsys.evaluation.result import CANDIDATE, CHAMPION
from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.collaborative import Popularity
from recsys.model.fusion import NEURAL, POPULARITY, RECENT, SUCCESSION, Fusion
from recsys.model.item_age import ItemAges
from recsys.model.recent import RecentPopularity
from recsys.model.recommender import EncoderIdentity, Recommender
from recsys.model.succession import Succession
from recsys.promotion.gate import decide
from recsys.settings import ModelSettings, Settings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.reference import TrainedThrough

LIKE = {"event_type": "like", "explicit": True, "weight": 1.0, "polarity": 1}
DISLIKE = {"event_type": "dislike", "explicit": True, "weight": 0.0, "polarity": -1}
VIEW = {"event_type": "view", "explicit": False, "weight": 0.3, "polarity": 0}


@dataclass
class InMemorySnapshot:
    """The parts of a snapshot that `compare_candidate` reads, without files."""

    kind: str
    items: object
    events: object
    held_out_from: object

    @property
    def manifest(self):
        return SimpleNamespace(kind=self.kind)

    def catalogue(self):
        return self.items

    def sequences(self):
        return self.events

    def event_types(self):
        return EventTypes.from_records([DISLIKE, LIKE, VIEW])


@pytest.fixture
def save_model(catalogue, minute, tmp_path):
    def save(name, trained_before, seed=0, types=(DISLIKE, LIKE, VIEW)):
        torch.manual_seed(seed)
        model = Recommender(
            ModelSettings(dim=8, layers=1, heads=1, max_events=5),
            catalogue,
            EventTypes.from_records(types),
            EncoderIdentity("not-installed", "0" * 64, 4),
            torch.randn(len(catalogue), 4),
        ).eval()
        known = to_jsonable_python(TrainedThrough(10, minute(trained_before)))
        save_recommender(model, tmp_path / name / "checkpoint", trained_through=known)
        return tmp_path / name / "checkpoint"

    return save


@pytest.fixture
def rows():
    trained = [(f"u{n}", item, n, "like", "full") for n in range(8) for item in "ab"]
    return [*trained, ("u0", "c", 20, "like", "full"), ("u1", "d", 30, "like", "full")]


def test_only_events_that_neither_model_has_trained_on_are_evaluated(
    save_model, make_sequences, catalogue, minute, rows, evaluation_settings, tmp_path
):
    snapshot = InMemorySnapshot("full", catalogue, make_sequences(rows, catalogue), minute(20))
    candidate, champion = save_model("candidate", 20), save_model("champion", 25, seed=1)
    folder = tmp_path / "evaluation"
    compared = compare_candidate(
        snapshot, [snapshot.sequences()], candidate, champion, "7", evaluation_settings, folder
    )
    assert compared.held_out.slices["all"].user_keys.tolist() == ["u1"]
    assert {CANDIDATE, CHAMPION, "popularity", "collaborative_filtering"} == set(compared.held_out.scorers)
    loaded = Comparison.load(folder)
    assert loaded.held_out.champion_version == "7"
    assert loaded.guard is None
    assert loaded.off_policy is None
    assert loaded.liking == compared.liking
    assert loaded.liking[CANDIDATE].events == 1
    assert (folder / "report.md").is_file()


def test_only_slates_shown_after_the_training_of_both_models_are_weighted(
    save_model, make_sequences, catalogue, minute, rows, evaluation_settings, tmp_path
):
    snapshot = InMemorySnapshot("full", catalogue, make_sequences(rows, catalogue), minute(20))
    candidate, champion = save_model("candidate", 20), save_model("champion", 25, seed=1)
    asked = []

    def read(given, since, until):
        asked.append((given is catalogue, since, until > minute(30)))
        shown = {
            "item_ids": ["c", "d"], "propensities": [0.5, 0.5], "model_version": "7", "asked_in_words": False,
            "shown_at": minute(26), "answered": ["c"],
        }  # fmt: skip
        return screen_slates([shown | {"user_key": f"u{n}"} for n in range(8)], given, {"7"})

    folder = tmp_path / "evaluation"
    compare_candidate(
        snapshot, [snapshot.sequences()], candidate, champion, "7", evaluation_settings, folder, slates=read
    )
    assert asked == [(True, minute(25), True)]
    found = Comparison.load(folder).off_policy
    assert (found.slates, found.observed) == (8, 1.0)
    assert set(found.values) == {CANDIDATE, CHAMPION}
    assert "On logged slates" in (folder / "report.md").read_text()


def test_a_model_with_nan_weights_fails_by_name_and_the_champion_is_still_measured(
    save_model, make_sequences, catalogue, minute, rows, evaluation_settings, tmp_path
):
    snapshot = InMemorySnapshot("full", catalogue, make_sequences(rows, catalogue), minute(20))
    champion = save_model("champion", 20, seed=1)
    broken = load_recommender(save_model("candidate", 20))
    with torch.no_grad():
        broken.items.ids.fill_(float("nan"))
    known = to_jsonable_python(TrainedThrough(10, minute(20)))
    save_recommender(broken, tmp_path / "broken" / "checkpoint", trained_through=known)
    compared = compare_candidate(
        snapshot,
        [snapshot.sequences()],
        tmp_path / "broken" / "checkpoint",
        champion,
        "7",
        evaluation_settings,
        tmp_path / "evaluation",
    )
    assert compared.held_out.failures == {CANDIDATE: "scores contain NaN or infinity"}
    assert set(compared.liking) == {CHAMPION}
    decision = decide("full", compared.held_out, Settings(evaluation=evaluation_settings))
    assert (decision.action, decision.reason) == ("reject", "candidate_scores_not_finite")


def test_a_micro_update_is_compared_on_guard_users_too(
    save_model, make_sequences, catalogue, minute, evaluation_settings, tmp_path
):
    rows = [("u0", "a", 5, "like", "fresh"), ("u1", "b", 1, "like", "guard"), ("u1", "c", 2, "like", "guard")]
    snapshot = InMemorySnapshot("micro", catalogue, make_sequences(rows, catalogue), minute(5))
    candidate, champion = save_model("candidate", 5), save_model("champion", 3, seed=1)
    compared = compare_candidate(
        snapshot,
        [snapshot.sequences()],
        candidate,
        champion,
        "7",
        evaluation_settings,
        tmp_path / "evaluation",
    )
    assert compared.guard is not None
    assert compared.guard.slices["guard"].user_keys.tolist() == ["u1"]


def test_what_was_counted_in_a_guard_users_own_history_is_no_knowledge_to_forget(
    save_model, make_sequences, catalogue, minute, evaluation_settings, tmp_path
):
    """The more of the others have d after a, the less it counts that the guard users themselves had b."""
    old = [(user, item, n, "like", "guard") for user in ("u1", "u2") for n, item in enumerate("ab")]
    others = [
        (f"u{n}", item, 500, "like", "fresh") for n in range(3, 11) for item in ("ab" if n == 3 else "ad")
    ]
    model = load_recommender(save_model("night", 400))
    model.fusion = model.returning_fusion = Fusion({NEURAL: 0.0, SUCCESSION: 1.0})
    model.items.trained[:] = True
    events = make_sequences(old + others, catalogue)
    for name, known in ((CHAMPION, others[:6]), (CANDIDATE, others)):
        model.succession = Succession.fit([make_sequences(old + known, catalogue)], len(catalogue))
        save_recommender(
            model, tmp_path / name, trained_through=to_jsonable_python(TrainedThrough(10, minute(400)))
        )
    guard = compare_candidate(
        InMemorySnapshot("micro", catalogue, events, minute(400)),
        [events],
        tmp_path / CANDIDATE,
        tmp_path / CHAMPION,
        "7",
        evaluation_settings,
        tmp_path / "e",
    ).guard
    assert guard is not None
    metric = ndcg_name(guard.k)
    assert guard.mean(CANDIDATE, metric) == guard.mean(CHAMPION, metric) > 0


def test_what_appeared_and_became_popular_since_is_no_forgetting(
    save_model, make_sequences, catalogue, minute, evaluation_settings, tmp_path
):
    old = [(user, item, n, "like", "guard") for user in ("u1", "u2") for n, item in enumerate("abc")]
    new = [(f"u{n}", "d", 500, "like", "fresh") for n in range(3, 9)]
    events = make_sequences([*old, *new], catalogue)
    since = events.purpose == PURPOSES.index(Purpose.FRESH)
    model = load_recommender(save_model("night", 400))
    model.fusion = model.returning_fusion = Fusion({NEURAL: 0.0, RECENT: 1.0, POPULARITY: 1.0})
    model.items.trained[:] = True
    for name, known in ((CHAMPION, events.where(~since)), (CANDIDATE, events)):
        model.popularity = Popularity.fit(known, len(catalogue))
        model.recent = RecentPopularity.fit(known, len(catalogue), half_life_days=1)
        model.ages = ItemAges.fit(known, len(catalogue))
        trained = to_jsonable_python(TrainedThrough(10, minute(400)))
        save_recommender(model, tmp_path / name, trained_through=trained)
    snapshot = InMemorySnapshot("micro", catalogue, events, minute(400))
    guard = compare_candidate(
        snapshot,
        [events],
        tmp_path / CANDIDATE,
        tmp_path / CHAMPION,
        "7",
        evaluation_settings,
        tmp_path / "e",
    ).guard
    assert guard is not None
    metric = ndcg_name(guard.k)
    assert guard.mean(CANDIDATE, metric) == guard.mean(CHAMPION, metric) > 0


def test_a_champion_that_has_trained_on_all_events_makes_the_comparison_impossible_with_a_reason(
    save_model, make_sequences, catalogue, minute, rows, evaluation_settings, tmp_path
):
    snapshot = InMemorySnapshot("full", catalogue, make_sequences(rows, catalogue), minute(20))
    candidate, champion = save_model("candidate", 20), save_model("champion", 99, seed=1)
    folder = tmp_path / "evaluation"
    compare_candidate(snapshot, [snapshot.sequences()], candidate, champion, "7", evaluation_settings, folder)
    held_out = Comparison.load(folder).held_out
    assert "no held-out feedback since" in held_out.impossible
    assert (held_out.users, held_out.champion_version) == (0, "7")
    assert "Nothing could be compared" in (folder / "report.md").read_text()


def test_events_of_types_that_a_model_does_not_know_are_left_out(save_model, make_sequences, catalogue):
    now = EventTypes.from_records([DISLIKE, LIKE, VIEW])
    older = EvaluatedRecommender(load_recommender(save_model("older", 1, types=(LIKE,))), now)
    liked = [("ann", "a", 0, "like", "full"), ("ann", "b", 2, "like", "full")]
    viewed = [("ann", "c", 1, "view", "full")]
    alone = older.score(make_sequences(liked, catalogue))
    among_unknown = older.score(make_sequences(liked + viewed, catalogue))
    assert np.isfinite(alone).all()
    assert np.allclose(alone, among_unknown, atol=1e-6)


def test_an_earlier_champion_is_ranked_too_unless_it_has_trained_on_held_out_events(
    save_model, make_sequences, catalogue, minute, rows, evaluation_settings, tmp_path
):
    snapshot = InMemorySnapshot("full", catalogue, make_sequences(rows, catalogue), minute(20))
    candidate, champion = save_model("candidate", 20), save_model("champion", 25, seed=1)
    earlier = {7: save_model("week", 5, seed=2), 28: save_model("rolled back", 30, seed=3)}
    compared = compare_candidate(
        snapshot,
        [snapshot.sequences()],
        candidate,
        champion,
        "7",
        evaluation_settings,
        tmp_path / "evaluation",
        earlier=earlier,
    )
    assert "champion_days_ago:7" in compared.held_out.scorers
    assert "champion_days_ago:28" not in compared.held_out.scorers
    assert compared.held_out.slices["all"].user_keys.tolist() == ["u1"]
    [decline] = declines(compared.held_out, evaluation_settings)
    assert (decline.days, decline.users) == (7, 1)
    metric = ndcg_name(compared.held_out.k)
    assert decline.difference == pytest.approx(
        compared.held_out.mean(CHAMPION, metric) - compared.held_out.mean("champion_days_ago:7", metric)
    )
