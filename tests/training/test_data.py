"""Training on more events than fit in memory."""

import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.errors import TrainingError
from recsys.model.fusion import COLLABORATIVE
from recsys.settings import Settings
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.snapshot.shards import Shards
from recsys.training import data as data_module
from recsys.training.batching import PartBatches
from recsys.training.comments import fit_comment_reader, latest_opinions
from recsys.training.data import training_data
from recsys.training.full import Fitted, fit_full
from recsys.training.other_parts import least_gains
from tests.small_models import DISLIKE, EVENT_TYPES, HOUR, LIKE, VIEW, disliked, histories, theme_world


class LiveEvents:
    """Counts the events of all `Sequences` in memory; shared arrays count once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._known: set[int] = set()
        self._lock = threading.RLock()

    def add(self, column: NDArray[np.int32]) -> None:
        with self._lock:
            if id(column) not in self._known:
                self._known.add(id(column))
                self.now += len(column)
                self.most = max(self.most, self.now)
                weakref.finalize(column, self._remove, id(column), len(column))

    def _remove(self, number: int, events: int) -> None:
        with self._lock:
            self._known.remove(number)
            self.now -= events


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> LiveEvents:
    counter = LiveEvents()
    check = Sequences.__post_init__

    def counted(self: Sequences) -> None:
        check(self)
        counter.add(self.item_index)

    monkeypatch.setattr(Sequences, "__post_init__", counted)
    return counter


def shards_of(world: Sequences, count: int, folder: Path) -> Shards:
    return Shards.write(folder, (world.take_users(range(n, world.users, count)) for n in range(count)))


def interleaved(world: Sequences) -> Sequences:
    """Return the world with interleaved events, so that every user has late events."""
    place = np.arange(world.events) - np.repeat(world.offsets[:-1], world.lengths)
    return replace(world, occurred_at=(place * world.users + world.event_users()) * HOUR)


def numbered(world: Sequences) -> Sequences:
    """Return the world with a different item in each event, so that events can be identified."""
    return replace(world, item_index=np.arange(world.events, dtype=np.int32))


def batch_items(batches: PartBatches, epoch: int) -> Iterator[list[int]]:
    for batch, _ in batches.epoch(epoch):
        yield batch.item[batch.mask].tolist()


def test_each_event_is_trained_on_once_per_epoch_or_held_back(world: Sequences, tmp_path: Path) -> None:
    shards = shards_of(numbered(world), 3, tmp_path / "shards")
    data = training_data(shards, world.events)
    batches = PartBatches(data.train, max_events=5, batch_size=8, seed=0)
    wanted = sorted(item for part in data.train for item in part.item_index.tolist())
    epochs = [list(batch_items(batches, epoch)) for epoch in range(3)]
    for epoch in epochs:
        assert sorted(item for items in epoch for item in items) == wanted
    assert epochs[0] != epochs[1] != epochs[2]
    assert list(batch_items(batches, 0)) == epochs[0]
    assert batches.steps() == len(epochs[0])
    held_back = set(range(world.events)) - set(wanted)
    assert set(data.cases.targets.tolist()) <= held_back
    assert len(data.cases) > 5


def test_the_order_of_the_parts_changes_each_epoch(world: Sequences, tmp_path: Path) -> None:
    shards = shards_of(numbered(world), 5, tmp_path / "shards")
    batches = PartBatches(shards, max_events=20, batch_size=64, seed=0)
    firsts = {min(next(batch_items(batches, epoch))) for epoch in range(8)}
    assert len(firsts) > 2


def test_counts_are_those_of_the_training_events_in_all_parts(world: Sequences, tmp_path: Path) -> None:
    data = training_data(shards_of(world, 4, tmp_path / "shards"), 36)
    together = np.concatenate([part.item_index for part in data.train])
    np.testing.assert_array_equal(data.counts, np.bincount(together, minlength=36))
    assert data.has_likes_and_dislikes


def test_likes_and_dislikes_in_different_parts_are_both_found(catalogue: Catalogue, tmp_path: Path) -> None:
    kinds = [[(str(item), kind, np.nan) for item in catalogue.item_ids[:5]] for kind in (LIKE, DISLIKE)]
    data = training_data(shards_of(histories(catalogue, *kinds), 2, tmp_path / "shards"), len(catalogue))
    assert data.has_likes_and_dislikes


@pytest.mark.parametrize(
    ("kinds", "may_leave"), [((LIKE, DISLIKE), True), ((VIEW,), True), ((VIEW, DISLIKE), False)]
)
def test_collaborative_filtering_stays_where_nothing_else_reads_dislikes(
    catalogue: Catalogue, kinds: tuple[int, ...], may_leave: bool
) -> None:
    rows = [[(str(item), kind, np.nan) for kind in kinds for item in catalogue.item_ids[:5]]] * 2
    data = training_data([histories(catalogue, *rows)], len(catalogue))
    assert (COLLABORATIVE in least_gains(data)) == may_leave


def test_a_limited_number_of_users_validates_on_the_latest_events(
    world: Sequences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "MAX_VALIDATION_USERS", 6)
    events = interleaved(world)
    data = training_data(shards_of(events, 3, tmp_path / "shards"), 36)
    assert 3 <= len(set(data.cases.histories.user_keys)) <= 6
    late = np.sort(events.occurred_at)[-round(0.1 * events.events)]
    trained_on = {
        (key, time)
        for part in data.train
        for key, time in zip(part.user_keys[part.event_users()], part.occurred_at, strict=True)
    }
    for key in set(data.cases.histories.user_keys):
        own = events.take_users(events.user_keys == key)
        assert {(key, time) in trained_on for time in own.before(late).occurred_at} == {True}
        assert not any((key, time) in trained_on for time in own.occurred_at[own.occurred_at >= late])


def test_negative_feedback_alone_in_all_parts_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    past = histories(catalogue, *[disliked("space-0", "space-1")] * 4)
    with pytest.raises(TrainingError, match="no event can be a training target"):
        training_data(shards_of(past, 2, tmp_path / "shards"), len(catalogue))


def test_the_latest_comments_of_all_parts_are_learned_from(
    catalogue: Catalogue, fitted: Fitted, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    people = interleaved(
        histories(catalogue, *[[("space-0", LIKE, np.nan), ("space-1", DISLIKE, np.nan)]] * 40)
    )
    texts = [f"text {number}" for number in rng.permutation(people.events)]
    commented = Sequences.build(
        user_keys=people.user_keys,
        user_index=people.event_users(),
        item_index=people.item_index,
        event_type=people.event_type,
        value=people.value,
        occurred_at=people.occurred_at,
        feedback_id=np.arange(people.events),
        event_types=EVENT_TYPES,
        comment=texts,
    )
    parts = shards_of(commented, 3, tmp_path / "shards")
    latest = latest_opinions(parts, EVENT_TYPES, 50)
    found = {latest.comments[int(number)].as_py() for number in latest.comment}
    order = np.argsort(commented.occurred_at)
    assert found == {commented.comments[int(number)].as_py() for number in commented.comment[order[-50:]]}
    assert len(latest.comments) == latest.events == 50
    assert latest_opinions([commented], EVENT_TYPES, 50) is commented
    assert latest_opinions(parts, EVENT_TYPES, 0).events == 0
    reader = fitted.model.clone().comments
    assert fit_comment_reader(reader, latest, EVENT_TYPES)["comments"] == 50


def test_at_most_three_parts_are_in_memory(
    catalogue: Catalogue, quick: Settings, tmp_path: Path, live: LiveEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One part is trained on and one is prefetched; while a part is split there are two copies of it."""
    monkeypatch.setattr(data_module, "MAX_VALIDATION_USERS", 12)
    settings = quick.model_copy(update={"training": quick.training.model_copy(update={"epochs": 2})})
    parts = shards_of(interleaved(theme_world(catalogue, users=300)), 12, tmp_path / "shards")
    everything, largest = sum(part.events for part in parts), max(part.events for part in parts)
    cases = training_data(parts, len(catalogue)).cases.histories.events
    live.most = live.now
    assert live.now == 0
    fit_full(catalogue, EVENT_TYPES, parts, settings, tmp_path / "run")
    assert largest < live.most <= 3 * largest + 3 * cases < everything / 2


def test_a_model_trained_part_by_part_ranks_as_well(
    catalogue: Catalogue, world: Sequences, quick: Settings, tmp_path: Path, fitted: Fitted
) -> None:
    divided = fit_full(catalogue, EVENT_TYPES, shards_of(world, 3, tmp_path / "shards"), quick, tmp_path)
    assert divided.history[-1]["next_item"] == pytest.approx(fitted.history[-1]["next_item"], rel=0.1)
    for name in ("validation_ndcg", "validation_ndcg_fused"):
        assert divided.metrics[name] > 0.8 * fitted.metrics[name]
    np.testing.assert_array_equal(divided.model.popularity.counts, fitted.model.popularity.counts)
    assert divided.model.collaborative is not None
    assert fitted.model.collaborative is not None
    assert (divided.model.collaborative.weights != fitted.model.collaborative.weights).nnz == 0
