from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recsys.columns import PURPOSES, Purpose
from recsys.errors import NothingToDoError
from recsys.model.appeal import Appeal
from recsys.model.fusion import COLLABORATIVE, NEURAL, RECENT, Fusion
from recsys.model.recent import RecentPopularity
from recsys.model.recommender import Recommender
from recsys.model.succession import Succession
from recsys.settings import Settings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.snapshot.slates import UNANSWERED, Slates
from recsys.training.full import Fitted
from recsys.training.micro import fit_micro, training_settings
from recsys.training.split import ValidationCases
from recsys.training.trainer import Validator
from tests.small_models import histories, liked, theme_catalogue, theme_world

LATER = datetime(2100, 1, 1, tzinfo=UTC)
CODE = {purpose: PURPOSES.index(purpose) for purpose in PURPOSES}


def only(sequences: Sequences, *purposes: str) -> Sequences:
    return sequences.where(np.isin(sequences.purpose, [PURPOSES.index(purpose) for purpose in purposes]))


def with_purpose(sequences: Sequences, purpose: str) -> Sequences:
    return replace(sequences, purpose=np.full(sequences.events, CODE[purpose], dtype=np.int8))


@pytest.fixture(scope="module")
def larger() -> Catalogue:
    """The catalogue plus one new item."""
    return theme_catalogue(extra=(("new", "rocket galaxy"),))


@pytest.fixture(scope="module")
def parent(fitted: Fitted, larger: Catalogue) -> Recommender:
    return fitted.model.with_catalogue(larger)


@pytest.fixture(scope="module")
def fresh_and_old(larger: Catalogue) -> Sequences:
    """Fresh events: users of space-0 continue with crime-11 and the new item. Replay and guard: as before."""
    fresh = histories(larger, *[liked("space-0", "crime-11", "new")] * 40)
    old = theme_world(larger, users=60, seed=3, left_out=("new",))
    return Sequences.concat(
        [
            with_purpose(fresh, Purpose.FRESH),
            with_purpose(old.take_users(range(30)), Purpose.REPLAY),
            with_purpose(old.take_users(range(30, 60)), Purpose.GUARD),
        ]
    )


@pytest.fixture(scope="module")
def brisk(quick: Settings) -> Settings:
    micro = quick.micro_update.model_copy(update={"epochs": 6, "learning_rate": 2e-3})
    return quick.model_copy(update={"micro_update": micro})


def test_fresh_feedback_is_learned_and_old_behaviour_is_kept(
    parent: Recommender, fresh_and_old: Sequences, larger: Catalogue, brisk: Settings
) -> None:
    result = fit_micro(parent, fresh_and_old, LATER, brisk)
    asked = histories(larger, liked("space-0"))
    target = larger.index["crime-11"]
    before, after = (m.parts(asked)["neural"][0] for m in (parent, result.model))
    assert (after > after[target]).sum() < (before > before[target]).sum()
    assert result.model.items.trained[larger.index["new"]]
    assert result.metrics["guard_ndcg"] >= 0.9 * result.metrics["parent_guard_ndcg"]


def test_an_event_type_that_is_new_since_the_night_is_learned_from(
    parent: Recommender, fresh_and_old: Sequences, larger: Catalogue, brisk: Settings
) -> None:
    known = parent.event_types
    types = EventTypes.from_records(
        [*known.to_records(), {"event_type": "bookmark", "explicit": True, "weight": 1, "polarity": 1}]
    )
    kinds = types.lookup(known.names)[fresh_and_old.event_type]
    fresh = fresh_and_old.purpose == CODE[Purpose.FRESH]
    events = replace(
        fresh_and_old, event_type=np.where(fresh, types.index["bookmark"], kinds).astype(np.int16)
    )
    result = fit_micro(parent.with_event_types(types), events, LATER, brisk)
    assert result.best_epoch > 0
    learned = result.model.users.event_type.weight[types.index["bookmark"]]
    start = parent.with_event_types(types).users.event_type.weight[types.index["bookmark"]]
    assert not torch.allclose(learned, start)


@pytest.mark.parametrize("parent_has_appeal", [True, False])
def test_appeal_is_counted_anew_from_the_lists_that_answer_no_request_if_the_parent_has_it(
    parent: Recommender, fresh_and_old: Sequences, brisk: Settings, parent_has_appeal: bool
) -> None:
    n_items = len(parent.catalogue)
    model = parent.clone()
    model.appeal = Appeal(np.full(n_items, 9.0), np.full(n_items, 9.0)) if parent_has_appeal else None
    slates = Slates(
        user_keys=np.array(["ann", "bob", "ann"], dtype=object), shown_at=np.arange(3),
        offsets=np.array([0, 2, 4, 6]), items=np.array([0, 1, 1, 2, 2, 0]), place=np.tile([0, 1], 3),
        answered_at=np.array([1, UNANSWERED, UNANSWERED, 2, UNANSWERED, 3]),
        requests=np.array(["", "", "rocket"], dtype=object),
    )  # fmt: skip
    once = brisk.model_copy(update={"micro_update": brisk.micro_update.model_copy(update={"epochs": 1})})
    updated = fit_micro(model, fresh_and_old, LATER, once, slates=slates).model.appeal
    if parent_has_appeal:
        assert updated is not None
        assert updated.answers.tolist() == [1.0, 0.0, 1.0, *[0.0] * (n_items - 3)]
    else:
        assert updated is None


def test_the_parent_does_not_change(parent: Recommender, fresh_and_old: Sequences, brisk: Settings) -> None:
    before = parent.item_vectors()
    fit_micro(parent, fresh_and_old, LATER, brisk)
    assert np.array_equal(before, parent.item_vectors())
    assert not parent.items.trained[-1]


@pytest.fixture(scope="module")
def wild(brisk: Settings) -> Settings:
    """Settings whose large steps destroy old behaviour, without a margin for forgetting."""
    return brisk.model_copy(
        update={
            "micro_update": brisk.micro_update.model_copy(update={"learning_rate": 0.5}),
            "gate": brisk.gate.model_copy(update={"forgetting_margin": 0.0}),
        }
    )


def test_an_update_that_harms_guard_users_keeps_the_parents_weights(
    parent: Recommender, fresh_and_old: Sequences, wild: Settings
) -> None:
    result = fit_micro(parent, fresh_and_old, LATER, wild)
    assert result.metrics["guard_users"] == wild.gate.min_evaluated_users
    assert result.best_epoch == 0
    assert "parent's weights were kept" in result.stopped_because
    known = list(range(len(parent.catalogue) - 1))
    assert np.allclose(result.model.item_vectors()[known], parent.item_vectors()[known], atol=1e-5)


@pytest.mark.parametrize(("rank", "epochs"), [(2, 6), (9, 0)], ids=["kept", "forgotten"])
def test_only_what_is_forgotten_after_the_last_epoch_counts(
    parent: Recommender,
    fresh_and_old: Sequences,
    brisk: Settings,
    monkeypatch: pytest.MonkeyPatch,
    rank: int,
    epochs: int,
) -> None:
    """The first epoch forgets most, and later ones make good for it."""
    steps: list[str] = []

    def rank_for_guard_users(_: Validator, __: Recommender) -> NDArray[np.int64]:
        steps.append("rank")
        return np.full(60, 2 if steps == ["rank"] else rank)

    monkeypatch.setattr(Validator, "served_ranks", rank_for_guard_users)
    result = fit_micro(parent, fresh_and_old, LATER, brisk, report=lambda _: steps.append("epoch"))
    assert steps == ["rank", *["epoch"] * brisk.micro_update.epochs, "rank"]
    assert result.best_epoch == epochs
    assert len(result.history) == brisk.micro_update.epochs


def test_what_counts_as_forgotten_is_what_users_see(
    parent: Recommender, fresh_and_old: Sequences, wild: Settings
) -> None:
    """Where the neural part has no weight, it may forget."""
    weightless = parent.clone()
    weightless.fusion = weightless.returning_fusion = Fusion({NEURAL: 0.0, COLLABORATIVE: 1.0})
    result = fit_micro(weightless, fresh_and_old, LATER, wild)
    assert result.metrics["guard_users"] == wild.gate.min_evaluated_users
    assert result.best_epoch == wild.micro_update.epochs


def test_what_is_popular_now_does_not_move_the_ranks_of_past_events(
    parent: Recommender, fresh_and_old: Sequences, larger: Catalogue, brisk: Settings
) -> None:
    end, found = int(fresh_and_old.occurred_at.max()) + 1, []
    for hit in (0, 1):
        model = parent.clone()
        model.fusion = model.returning_fusion = Fusion({NEURAL: 1.0, RECENT: 3.0})
        model.recent = RecentPopularity(np.eye(len(larger))[hit], end, 1.0)
        found.append(fit_micro(model, fresh_and_old, LATER, brisk).metrics["parent_guard_ndcg"])
    assert found[0] == found[1] > 0


def test_fewer_guard_users_than_the_gate_needs_stop_no_update(
    parent: Recommender, fresh_and_old: Sequences, wild: Settings
) -> None:
    guards = (fresh_and_old.purpose == CODE[Purpose.GUARD]).nonzero()[0]
    owners = fresh_and_old.event_users()
    one_less = fresh_and_old.where(owners != owners[guards[0]]).without_empty_users()
    result = fit_micro(parent, one_less, LATER, wild)
    assert result.metrics["guard_users"] == wild.gate.min_evaluated_users - 1
    assert result.metrics["guard_ndcg"] < result.metrics["parent_guard_ndcg"]
    assert result.best_epoch == wild.micro_update.epochs
    assert result.stopped_because == "all epochs done"


def test_without_guard_users_nothing_is_computed_of_the_whole_catalogue_to_rank_for_them(
    parent: Recommender, fresh_and_old: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Recommender, "scorer")
    nobody = ValidationCases.of(fresh_and_old, np.zeros(0, dtype=np.int64))
    assert not len(Validator.build(nobody, parent, 10).served_ranks(parent))


def test_the_latest_fresh_event_is_learned_too(
    parent: Recommender, larger: Catalogue, fresh_and_old: Sequences, brisk: Settings
) -> None:
    old = only(fresh_and_old, Purpose.REPLAY, Purpose.GUARD).without_empty_users()
    earlier = with_purpose(histories(larger, *[liked("space-0", "space-1")] * 40), Purpose.FRESH)
    latest = with_purpose(histories(larger, *[liked("space-0", "crime-11")] * 20), Purpose.FRESH)
    latest = replace(latest, occurred_at=latest.occurred_at + int(earlier.occurred_at.max()))
    result = fit_micro(parent, Sequences.concat([earlier, latest, old]), LATER, brisk)
    asked, target = histories(larger, liked("space-0")), larger.index["crime-11"]
    before, after = (m.parts(asked)["neural"][0] for m in (parent, result.model))
    assert (after > after[target]).sum() < (before > before[target]).sum()


def test_guard_users_are_not_trained_on(
    parent: Recommender, fresh_and_old: Sequences, larger: Catalogue, brisk: Settings
) -> None:
    """The weights do not depend on the events of guard users, who can only stop an update."""
    ever = brisk.model_copy(update={"gate": brisk.gate.model_copy(update={"forgetting_margin": 1.0})})
    others = only(fresh_and_old, Purpose.FRESH, Purpose.REPLAY).without_empty_users()
    guards = [theme_world(larger, users=30, seed=seed, left_out=("new",)) for seed in (5, 6)]
    updates = [
        fit_micro(parent, Sequences.concat([others, with_purpose(guard, Purpose.GUARD)]), LATER, ever)
        for guard in guards
    ]
    assert np.array_equal(*(update.model.item_vectors() for update in updates))


def test_held_out_events_are_not_trained_on(
    parent: Recommender, fresh_and_old: Sequences, brisk: Settings
) -> None:
    start = datetime(1970, 1, 1, tzinfo=UTC)
    with pytest.raises(NothingToDoError, match="no fresh feedback"):
        fit_micro(parent, fresh_and_old, start, brisk)


def test_the_time_budget_is_respected(parent: Recommender, fresh_and_old: Sequences, brisk: Settings) -> None:
    none = brisk.model_copy(
        update={"micro_update": brisk.micro_update.model_copy(update={"time_budget_minutes": 1e-6})}
    )
    result = fit_micro(parent, fresh_and_old, LATER, none)
    assert len(result.history) == 1
    assert "time budget" in result.stopped_because


def test_a_single_fresh_event_is_learned_from(
    parent: Recommender, larger: Catalogue, brisk: Settings
) -> None:
    one = with_purpose(histories(larger, liked("space-0")), Purpose.FRESH)
    result = fit_micro(parent, one, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=1), brisk)
    assert np.isfinite(result.model.score(one)).all()
    assert result.model.popularity.counts.sum() == parent.popularity.counts.sum() + 1


def test_fresh_events_are_counted_in_collaborative_filtering_too(
    parent: Recommender, fresh_and_old: Sequences, larger: Catalogue, brisk: Settings
) -> None:
    result = fit_micro(parent, fresh_and_old, LATER, brisk)
    new, companion = larger.index["new"], larger.index["crime-11"]
    assert parent.collaborative is not None
    assert result.model.collaborative is not None
    assert parent.collaborative.weights[companion, new] == 0
    assert result.model.collaborative.weights[companion, new] > 0


def test_a_new_item_has_the_age_of_its_first_fresh_event(
    parent: Recommender, fresh_and_old: Sequences, larger: Catalogue, brisk: Settings
) -> None:
    result = fit_micro(parent, fresh_and_old, LATER, brisk)
    new = larger.index["new"]
    assert parent.ages is not None
    assert result.model.ages is not None
    assert result.model.ages.first_event[new] < parent.ages.first_event[new]
    known = np.arange(len(larger)) != new
    assert (result.model.ages.first_event[known] <= parent.ages.first_event[known]).all()


def test_fresh_events_co_occur_with_their_users_earlier_events(
    parent: Recommender, larger: Catalogue, brisk: Settings
) -> None:
    everything = histories(larger, *[liked("cooking-0", "crime-11")] * 3)
    purpose = np.tile([CODE[Purpose.HISTORY], CODE[Purpose.FRESH]], 3).astype(np.int8)
    result = fit_micro(parent, replace(everything, purpose=purpose), LATER, brisk)
    pair = sorted((larger.index["cooking-0"], larger.index["crime-11"]))
    known = [model.collaborative for model in (parent, result.model)]
    before, after = (ease.co_occurrences.counts for ease in known if ease and ease.co_occurrences)
    assert after[*pair] == before[*pair] + 3
    assert after.diagonal()[larger.index["cooking-0"]] == before.diagonal()[larger.index["cooking-0"]]


def test_what_fresh_events_follow_is_counted(
    parent: Recommender, fresh_and_old: Sequences, larger: Catalogue, brisk: Settings
) -> None:
    old = parent.clone()
    old.succession = Succession.fit([histories(larger, liked("space-0", "space-1"))], len(larger))
    everything = histories(larger, *[liked("cooking-0", "crime-11")] * 3)
    purpose = np.tile([CODE[Purpose.HISTORY], CODE[Purpose.FRESH]], 3).astype(np.int8)
    updated = fit_micro(old, replace(everything, purpose=purpose), LATER, brisk).model.succession
    assert updated is not None
    assert updated.counts[larger.index["cooking-0"], larger.index["crime-11"]] == 3
    assert updated.counts[larger.index["space-0"], larger.index["space-1"]] == 1


def test_a_large_update_has_larger_batches_and_then_smaller_steps(brisk: Settings) -> None:
    rate, size = brisk.micro_update.learning_rate, brisk.micro_update.batch_size
    trained = [training_settings(brisk, events) for events in (1, 1_000, 4_000, 64_000)]
    assert [training.batch_size for training in trained] == [size, size, 4 * size, 4 * size]
    assert [training.learning_rate for training in trained] == pytest.approx([rate, rate, rate, rate / 16])
    large = brisk.micro_update.model_copy(update={"batch_size": 1_000})
    kept = training_settings(brisk.model_copy(update={"micro_update": large}), 1)
    assert (kept.batch_size, kept.learning_rate) == (1_000, rate)
