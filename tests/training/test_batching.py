from dataclasses import replace

import numpy as np
import pytest

from recsys.errors import TrainingError
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.snapshot.targets import find_targets
from recsys.training.batching import UserBatches
from recsys.training.split import ValidationCases, VisitCases, split_validation
from tests.small_models import HOUR, disliked, histories, liked


def test_every_event_is_in_exactly_one_window(catalogue: Catalogue) -> None:
    items = [str(item) for item in catalogue.item_ids]
    past = histories(catalogue, liked(*items), liked(*items[:3]), [], liked(items[5]))
    batches = UserBatches(past, max_events=7, batch_size=2, seed=0)
    for epoch in range(3):
        starts, ends = batches.windows(epoch)
        covered = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
        assert sorted(covered) == list(range(past.events))
        assert (ends - starts <= 7).all()
        assert (ends > starts).all()
        seen = [item for batch, _ in batches.epoch(epoch) for item in batch.item[batch.mask].tolist()]
        assert sorted(seen) == sorted(past.item_index.tolist())


def test_windows_of_context_only_are_left_out(catalogue: Catalogue) -> None:
    items = [str(item) for item in catalogue.item_ids]
    past = histories(catalogue, liked(*items), liked(*items[:3]))
    learned = np.arange(past.events) == len(items) - 1
    batches = UserBatches(past, max_events=7, batch_size=2, seed=0, learned=learned)
    for epoch in range(3):
        ((start,), (end,)) = batches.windows(epoch)
        assert start < len(items) == end
    assert batches.steps() == 1


def test_the_cuts_of_long_histories_move_each_epoch(catalogue: Catalogue) -> None:
    past = histories(catalogue, liked(*[str(item) for item in catalogue.item_ids]))
    batches = UserBatches(past, max_events=10, batch_size=2, seed=0)
    assert len({tuple(batches.windows(epoch)[0].tolist()) for epoch in range(5)}) > 1


def test_an_epoch_has_the_same_batches_each_time(world: Sequences) -> None:
    batches = UserBatches(world, max_events=10, batch_size=8, seed=1)
    first, again = ([b.item.tolist() for b, _ in batches.epoch(2)] for _ in range(2))
    assert first == again
    assert first != [b.item.tolist() for b, _ in batches.epoch(3)]


def test_only_a_users_first_event_with_an_item_is_a_target(catalogue: Catalogue) -> None:
    past = histories(catalogue, liked("space-0", "space-1", "space-0"))
    ((batch, _),) = UserBatches(past, 10, 8, 0).epoch(0)
    assert batch.weight.tolist() == [[1, 1, 0]]


def test_only_the_first_window_of_a_history_is_marked_as_its_beginning(catalogue: Catalogue) -> None:
    past = histories(catalogue, liked(*[str(item) for item in catalogue.item_ids]))
    flags = [flag for _, flags in UserBatches(past, 10, 8, 0).epoch(0) for flag in flags]
    assert sum(flags) == 1


def test_validation_holds_back_the_latest_events_of_all_users(world: Sequences) -> None:
    """A model that trains on what others do in these days knows of them what it will not know of others."""
    split = split_validation(world, share=0.2, max_users=5, seed=0)
    assert len(split.cases) > 5
    assert len(set(split.cases.histories.user_keys)) == 5
    assert split.train.occurred_at.max() < np.quantile(world.occurred_at, 0.8)
    assert split.cases.histories.moments.min() > split.train.occurred_at.max()
    assert split.train.events == round(0.8 * world.events)
    assert split.everything is world
    assert split.train.users == world.users
    keys = world.user_keys.tolist()
    for case in range(len(split.cases)):
        user = keys.index(split.cases.histories.user_keys[case])
        own = slice(*split.train.offsets[user : user + 2])
        assert split.cases.targets[case] not in split.train.item_index[own]


def test_a_validation_target_is_new_to_its_user_and_not_negative(catalogue: Catalogue) -> None:
    past = histories(catalogue, *[liked("space-0", "space-0", "space-1") + disliked("crime-1")] * 8)
    split = split_validation(past, share=0.5)
    assert len(split.cases) == 8
    assert set(catalogue.item_ids[split.cases.targets]) <= {"space-0", "space-1"}
    assert find_targets(past).chosen.sum() == 16


def test_negative_feedback_alone_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(TrainingError, match="no event can be a training target"):
        split_validation(histories(catalogue, disliked("space-0", "space-1")))


def test_a_single_event_is_trained_on_and_not_validated(catalogue: Catalogue) -> None:
    split = split_validation(histories(catalogue, liked("space-0")))
    assert split.train.events == 1
    assert len(split.cases) == 0
    assert split.everything is None


def test_items_that_were_not_available_are_not_ranked_in_validation(catalogue: Catalogue) -> None:
    past = histories(catalogue, liked("space-0", "space-1", "space-2"))
    cases = ValidationCases.of(past, np.array([1]))
    ended = catalogue.available_until.copy()
    ended[catalogue.index["space-2"]] = cases.histories.moments[0]
    ended[catalogue.index["space-3"]] = cases.histories.moments[0] + 1
    excluded = cases.excluded(len(catalogue), catalogue=replace(catalogue, available_until=ended))
    assert catalogue.item_ids[excluded[0]].tolist() == ["space-0", "space-2"]


def test_who_comes_back_is_a_case_with_all_targets_of_the_visit(
    catalogue: Catalogue,
) -> None:
    day, minute = 24 * HOUR, HOUR // 60
    times = [0, minute, day, day + minute, day + 2 * minute, 2 * day, 2 * day]
    past = histories(
        catalogue, liked("space-0", "space-1", "space-2", "space-3", "space-4", "crime-1", "crime-2")
    )
    past = replace(past, occurred_at=np.array(times), hide_days=np.zeros(7, dtype=np.float32))
    past.item_index[4] = past.item_index[2]  # twice in a visit
    cases = VisitCases.of(past, np.arange(7), most=20)
    assert cases.histories.lengths.tolist() == [2, 5]
    assert cases.histories.moments.tolist() == [day, 2 * day]
    wanted = [sorted(catalogue.item_ids[cases.targets[cases.visit == visit]]) for visit in range(2)]
    assert wanted == [["space-2", "space-3"], ["crime-1", "crime-2"]]
    latest = VisitCases.of(past, np.arange(7), most=1)
    assert latest.histories.lengths.tolist() == [5]
    assert sorted(catalogue.item_ids[latest.targets]) == ["crime-1", "crime-2"]
    assert not cases.excluded(len(catalogue), np.ones(len(catalogue), dtype=bool), catalogue).any()
    joined = VisitCases.concat([latest, cases])
    assert joined.histories.lengths.tolist() == [5, 2, 5]
    assert joined.visit.tolist() == [0, 0, 1, 1, 2, 2]


def test_newcomers_do_not_come_back(catalogue: Catalogue) -> None:
    past = histories(catalogue, liked("space-0"), liked("space-1"))
    assert len(VisitCases.of(past, np.arange(2), most=20)) == 0
    among = VisitCases.among(ValidationCases.of(past, np.arange(2)))
    assert (len(among), len(among.targets)) == (0, 0)
