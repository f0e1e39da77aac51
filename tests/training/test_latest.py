"""What validation holds back: unknown while weights are fitted, and learned in the end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recsys.model.recent import EventLog, RecentPopularity
from recsys.settings import Settings
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.training import full as full_module
from recsys.training import other_parts
from recsys.training.data import TrainingData
from recsys.training.full import Fitted, fit_full
from recsys.training.split import Split, split_validation
from tests.small_models import EVENT_TYPES, histories, liked, theme_world

NEW = "space-0"
"""An item that nobody has had before the latest days."""


@pytest.fixture(scope="module")
def events(catalogue: Catalogue) -> Sequences:
    """Users of three themes, and then users of whom each begins with the new item."""
    before = theme_world(catalogue, users=60, left_out=(NEW,))
    count = before.events // 20
    after = histories(catalogue, *[liked(NEW, "space-1", "space-2")] * (count // 3))
    late = replace(
        after,
        user_keys=np.array([f"late-{n}" for n in range(after.users)], dtype=object),
        occurred_at=after.occurred_at + before.occurred_at.max() + 1,
    )
    return Sequences.concat([before, late])


@pytest.fixture(scope="module")
def one_epoch(quick: Settings) -> Settings:
    """Settings for a fit that learns next to nothing before the last pass."""
    training = quick.training.model_copy(update={"epochs": 1, "request_steps": 0})
    return quick.model_copy(update={"training": training})


@pytest.fixture(scope="module")
def learned(
    catalogue: Catalogue, events: Sequences, one_epoch: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Fitted:
    """A model of the events; treat it as read-only."""
    return fit_full(catalogue, EVENT_TYPES, events, one_epoch, tmp_path_factory.mktemp("run"))


def place_of(catalogue: Catalogue, item: str) -> int:
    return int(catalogue.lookup([item])[0])


def test_an_item_of_the_latest_days_has_its_own_vector_and_counts(
    catalogue: Catalogue, events: Sequences, learned: Fitted
) -> None:
    new = place_of(catalogue, NEW)
    assert not (split_validation(events).train.item_index == new).any()
    model = learned.model
    assert model.items.trained[new]
    assert model.popularity.counts[new] == (events.item_index == new).sum()
    others = model.items.ids[torch.arange(len(catalogue)) != new]
    assert (others - model.items.ids[new]).norm(dim=1).min() > 0
    assert model.recent is not None
    assert model.recent.as_of == events.occurred_at.max()


def test_weights_are_fitted_as_if_nobody_knew_the_latest_days(
    catalogue: Catalogue,
    events: Sequences,
    one_epoch: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counts of the recent past alone go on to an hour before each case, as they do when lists are shown."""
    known_until: list[int] = []
    counted_until: list[int] = []
    ranked: list[NDArray[np.bool_]] = []
    fit, choose = other_parts.fit_closed_form, other_parts.choose_half_life

    def fit_and_note(model: object, parts: list[Sequences], *, with_succession: bool) -> None:
        known_until.append(max(int(part.occurred_at.max()) for part in parts))
        fit(model, parts, with_succession=with_succession)  # type: ignore[arg-type]

    def choose_and_note(
        cases: object, log: EventLog, excluded: NDArray[np.bool_], k: int
    ) -> RecentPopularity:
        counted_until.append(int(log.times.max()))
        ranked.append(~excluded)
        return choose(cases, log, excluded, k)  # type: ignore[arg-type]

    monkeypatch.setattr(other_parts, "fit_closed_form", fit_and_note)
    monkeypatch.setattr(full_module, "fit_closed_form", fit_and_note)
    monkeypatch.setattr(other_parts, "choose_half_life", choose_and_note)
    fit_full(catalogue, EVENT_TYPES, events, one_epoch, tmp_path)
    last = int(events.occurred_at.max())
    cases = split_validation(events).cases
    assert known_until[0] < cases.histories.moments.min()
    assert known_until[-1] == last
    assert counted_until == [last]
    new = place_of(catalogue, NEW)
    wanted_another = cases.targets != new
    assert ranked[0][wanted_another, new].any()


def test_a_run_killed_while_it_learns_the_latest_feedback_ends_like_an_uninterrupted_one(
    catalogue: Catalogue, events: Sequences, one_epoch: Settings, learned: Fitted, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    epochs: list[int] = []

    def kill_in_the_last_pass(epoch: int, done: int, steps: int) -> None:
        epochs.append(done)
        if epochs.count(1) == 2 and done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        fit_full(catalogue, EVENT_TYPES, events, one_epoch, tmp_path, on_step=kill_in_the_last_pass)
    resumed = fit_full(catalogue, EVENT_TYPES, events, one_epoch, tmp_path)
    assert len(resumed.history) == len(learned.history) == 1
    torch.testing.assert_close(resumed.model.items.ids, learned.model.items.ids, rtol=1e-3, atol=1e-4)


def test_what_is_held_back_from_all_times_is_not_learned(
    catalogue: Catalogue, events: Sequences, one_epoch: Settings, tmp_path: Path
) -> None:
    by_time = split_validation(events)
    split = Split(by_time.train, by_time.cases, by_time.returning)
    fitted = fit_full(catalogue, EVENT_TYPES, events, one_epoch, tmp_path, split=split)
    assert not fitted.model.items.trained[place_of(catalogue, NEW)]


def test_all_events_are_learned_when_none_can_be_held_back(
    catalogue: Catalogue, one_epoch: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole feedback of a new shop may be of one moment."""
    passes: list[TrainingData] = []
    monkeypatch.setattr(full_module, "_learn_latest", lambda _model, data, *_: passes.append(data))
    past = theme_world(catalogue, users=20)
    past = replace(past, occurred_at=np.zeros_like(past.occurred_at))
    fitted = fit_full(catalogue, EVENT_TYPES, past, one_epoch, tmp_path)
    assert not passes
    met = np.bincount(past.item_index, minlength=len(catalogue)) > 0
    assert (fitted.model.items.trained.numpy() == met).all()
    assert np.isfinite(fitted.model.score(past)).all()
