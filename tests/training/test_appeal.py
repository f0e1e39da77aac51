"""Appeal of items in shown lists: whether it counts, and how much."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.model.appeal import Appeal
from recsys.model.fusion import APPEAL
from recsys.model.recent import EventLog
from recsys.model.recommender import Recommender
from recsys.settings import Settings
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.snapshot.slates import UNANSWERED, Slates
from recsys.training import appeal as appeal_module
from recsys.training.appeal import fit_appeal
from recsys.training.data import training_data
from recsys.training.full import Fitted, fit_full
from tests.small_models import EVENT_TYPES, HOUR, LIKE

USERS, ROUNDS, SIZE = 120, 6, 4
Choice = Callable[[np.random.Generator, NDArray[np.int64]], int]


def shown_world(n_items: int, choose: Choice, seed: int = 0) -> tuple[Slates, Sequences]:
    """Show each user a random list an hour; each likes one item of it a minute later."""
    rng = np.random.default_rng(seed)
    keys = np.array([f"user-{user:03}" for user in range(USERS)], dtype=object)
    shown, user, at, clicked = [], [], [], []
    for moment in range(1, ROUNDS + 1):
        for number in range(USERS):
            items = rng.choice(n_items, SIZE, replace=False)
            shown.append(items)
            user.append(number)
            at.append(moment * HOUR + number)
            clicked.append(choose(rng, items))
    answered = np.array(clicked)[:, None] == np.arange(SIZE)
    times = np.array(at)
    slates = Slates(
        keys[user], times, np.arange(len(shown) + 1) * SIZE, np.concatenate(shown),
        np.tile(np.arange(SIZE), len(shown)),
        np.where(answered, times[:, None] + HOUR // 60, UNANSWERED).ravel(),
        np.full(len(shown), "", dtype=object),
    )  # fmt: skip
    events = Sequences.build(
        user_keys=keys, user_index=user, item_index=np.array(shown)[answered],
        event_type=[LIKE] * len(shown), value=[float("nan")] * len(shown), occurred_at=times + HOUR // 60,
        feedback_id=np.arange(len(shown)), event_types=EVENT_TYPES,
    )  # fmt: skip
    return slates, events


def by_appeal(strength: NDArray[np.float64]) -> Choice:
    """Choose by the strength of the items, and more often what is at the top."""

    def choose(rng: np.random.Generator, items: NDArray[np.int64]) -> int:
        chances = np.exp(strength[items] + np.array([1.0, 0.5, 0.2, 0.0]))
        return int(rng.choice(SIZE, p=chances / chances.sum()))

    return choose


def at_random(rng: np.random.Generator, items: NDArray[np.int64]) -> int:
    return int(rng.integers(SIZE))


def fit(model: Recommender, slates: Slates | None, events: Sequences) -> dict[str, float]:
    data = training_data([events], len(model.catalogue))
    return fit_appeal(model, slates, data, data.cases, EventLog.of(data.everything), 10)


@pytest.fixture
def model(fitted: Fitted) -> Recommender:
    return fitted.model.clone()


@pytest.fixture(scope="module")
def strength(catalogue: Catalogue) -> NDArray[np.float64]:
    return np.where(np.arange(len(catalogue)) % 2, 1.2, -1.2)


def test_appeal_counts_if_it_explains_later_answers(
    model: Recommender, strength: NDArray[np.float64]
) -> None:
    metrics = fit(model, *shown_world(len(strength), by_appeal(strength)))
    assert model.appeal is not None
    assert np.corrcoef(model.appeal.score(), strength)[0, 1] > 0.8
    assert metrics["fusion_appeal"] > 0
    assert metrics["fusion_appeal"] == model.fusion.weights[APPEAL]


def test_appeal_is_worth_as_many_logits_in_each_set_of_weights(
    model: Recommender, strength: NDArray[np.float64]
) -> None:
    world = shown_world(len(strength), by_appeal(strength))
    sets = model.fusion, model.returning_fusion, model.request_fusion
    model.fusion, model.returning_fusion, model.request_fusion = (
        replace(fusion, unit=unit) for fusion, unit in zip(sets, (1.0, 0.5, 2.0), strict=True)
    )
    fit(model, *world)
    weight = model.fusion.weights[APPEAL]
    assert model.returning_fusion.weights[APPEAL] == pytest.approx(weight * 2, rel=1e-3)
    assert model.request_fusion.weights[APPEAL] == pytest.approx(weight / 2, rel=1e-3)


def test_answers_at_random_give_no_appeal(model: Recommender, catalogue: Catalogue) -> None:
    fusion = model.fusion
    metrics = fit(model, *shown_world(len(catalogue), at_random))
    assert (metrics["fusion_appeal"], model.appeal, model.fusion) == (0, None, fusion)


def test_a_list_that_everybody_answers_at_the_top_gives_no_appeal(
    model: Recommender, catalogue: Catalogue
) -> None:
    slates, events = shown_world(len(catalogue), lambda rng, _: int(rng.random() > 0.9))
    assert fit(model, slates, events).get("fusion_appeal", 0) == 0
    assert model.appeal is None


def test_a_worse_list_of_the_whole_catalogue_is_not_bought_with_appeal(
    model: Recommender, strength: NDArray[np.float64]
) -> None:
    slates, events = shown_world(len(strength), by_appeal(2 * strength))
    assert fit(model.clone(), slates, events)["fusion_appeal"] > 0
    # What is answered in lists is not what users like otherwise.
    elsewhere = replace(events, item_index=(events.item_index ^ 1).astype(events.item_index.dtype))
    assert fit(model, slates, elsewhere)["fusion_appeal"] == 0
    assert model.appeal is None


@pytest.mark.parametrize("kind", ["none", "empty", "of few users", "without an answer", "of unknown items"])
def test_too_few_lists_change_nothing(model: Recommender, strength: NDArray[np.float64], kind: str) -> None:
    slates, events = shown_world(len(strength), by_appeal(strength))
    changed: Slates | None = {
        "none": None,
        "empty": slates.take(np.zeros(0, dtype=np.int64)),
        "of few users": slates.take(np.flatnonzero(slates.user_keys < "user-020")),
        "without an answer": replace(slates, answered_at=np.full(len(slates.items), UNANSWERED)),
        "of unknown items": replace(slates, items=np.full(len(slates.items), -1)),
    }[kind]
    fusion = model.fusion
    assert fit(model, changed, events) == {}
    assert (model.appeal, model.fusion) == (None, fusion)


def test_a_bot_does_not_decide_the_weight(model: Recommender, strength: NDArray[np.float64]) -> None:
    slates, events = shown_world(len(strength), by_appeal(strength))
    alone = fit(model.clone(), slates, events)["fusion_appeal"]
    # As many lists again, all of one user, who answers what nobody else does.
    bots, _ = shown_world(len(strength), by_appeal(-5 * strength), seed=1)
    both = Slates(
        np.concatenate([slates.user_keys, np.repeat(slates.user_keys[:1], len(bots))]),
        np.concatenate([slates.shown_at, bots.shown_at]),
        np.append(slates.offsets, slates.offsets[-1] + bots.offsets[1:]),
        *(
            np.concatenate([getattr(slates, n), getattr(bots, n)])
            for n in ("items", "place", "answered_at", "requests")
        ),
    )
    order = np.argsort(both.shown_at, kind="stable")
    attacked = fit(model, both.take(order), events)["fusion_appeal"]
    assert attacked == pytest.approx(alone, rel=0.3)
    assert model.appeal is not None
    assert np.corrcoef(model.appeal.score(), strength)[0, 1] > 0.8


def test_a_full_fine_tune_counts_the_latest_lists_too_but_none_that_answers_a_request(
    catalogue: Catalogue,
    quick: Settings,
    strength: NDArray[np.float64],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Where every item is shown equally often, popularity says the same as appeal.
    monkeypatch.setattr(appeal_module, "_harmless", lambda *_: 0.5)
    slates, events = shown_world(len(catalogue), by_appeal(strength))
    asked = np.arange(len(slates)) % 4 == 0
    given = replace(slates, requests=np.where(asked, "planet", slates.requests))
    fitted = fit_full(catalogue, EVENT_TYPES, events, quick, tmp_path, slates=given)
    model, unasked = fitted.model, slates.take(np.flatnonzero(~asked))
    assert model.appeal is not None
    np.testing.assert_array_equal(model.appeal.answers, Appeal.fit(unasked, len(catalogue)).answers)
    assert fitted.metrics["answered_request_users"] == len(set(slates.user_keys[asked]))
    assert model.fusion.weights[APPEAL] > 0
