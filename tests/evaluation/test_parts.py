"""Evaluation of events in parts: the figures of one part, with little memory."""

import weakref
from collections import abc
from dataclasses import replace

import numpy as np
import pytest

from recsys.evaluation.compare import compare_scorers
from recsys.evaluation.liking import held_out_opinions
from recsys.evaluation.off_policy.log import screen_slates
from recsys.evaluation.ranking.baselines import fit_baselines
from recsys.evaluation.ranking.cases import GuardBoundary, held_out_cases
from recsys.evaluation.result import CANDIDATE, CHAMPION
from recsys.model.recent import EventLog
from recsys.snapshot.parts import sortable, take_keys
from recsys.snapshot.sequences import Sequences, microseconds

USERS = 400
HELD_OUT = 160


class Parts(abc.Sequence):
    """Divides users like shards do, in any order, and counts the parts and users in memory."""

    def __init__(self, sequences, count):
        self.of_user = np.random.default_rng(count).integers(count, size=sequences.users)
        self.whole, self.count = sequences, count
        self.alive = self.most_alive = 0

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        if not 0 <= number < self.count:
            raise IndexError(number)
        part = self.whole.take_users(self.of_user == number)
        self.alive += 1
        self.most_alive = max(self.most_alive, self.alive)
        weakref.finalize(part, self._freed)
        return part

    def _freed(self):
        self.alive -= 1


class ByHistory:
    """Scores items and likes by what is in the history, in a way that differs from user to user."""

    def __init__(self, seed, items):
        self.weights = np.random.default_rng(seed).normal(size=(items, items)).astype(np.float32)

    def score(self, histories):
        scores = np.zeros((histories.users, len(self.weights)), dtype=np.float32)
        np.add.at(scores, histories.event_users(), self.weights[histories.item_index])
        return scores

    def liking(self, histories, items):
        return self.score(histories)[np.arange(len(items)), items].astype(np.float64)


@pytest.fixture
def sequences(make_sequences, catalogue):
    rng = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        # The first digits of a key say who is a guard user and who a visitor.
        key = f"{'fffff' if user % 7 == 0 else f'{rng.integers(16**5 - 1):05x}'}{user:05x}"
        for time in sorted(rng.integers(0, 200, rng.integers(1, 12)).tolist()):
            kind = rng.choice(["like", "dislike", "view"], p=[0.5, 0.2, 0.3])
            rows.append((key, rng.choice(list("abcdef")), time, str(kind), "full"))
    made = make_sequences(rows, catalogue)
    comments = np.array([["good", "bad", "so so"][number % 3] for number in range(made.events)])
    return _commented(made, comments)


def _commented(sequences, texts):
    from recsys.snapshot.sequences import distinct_comments

    comments, comment = distinct_comments(texts.tolist(), sequences.events)
    return replace(sequences, comments=comments, comment=comment)


@pytest.fixture
def compare(sequences, catalogue, minute, evaluation_settings):
    settings = evaluation_settings.model_copy(update={"max_users": 60, "max_cases_per_user": 2})
    models = {CANDIDATE: ByHistory(1, len(catalogue)), CHAMPION: ByHistory(2, len(catalogue))}

    def slates(given, since, until):
        shown = {
            "item_ids": ["c", "d"], "propensities": [0.5, 0.5], "model_version": "7", "asked_in_words": False,
            "shown_at": minute(170), "answered": ["c"],
        }  # fmt: skip
        keys = [*sequences.user_keys[::9], "nobody"]
        return screen_slates([shown | {"user_key": key} for key in keys], given, {"7"})

    def run(events):
        return compare_scorers(
            models, fit_baselines(events, catalogue, minute(HELD_OUT), settings), events, catalogue,
            minute(HELD_OUT), settings, opponent_version="7",
            guard_boundary=GuardBoundary(minute(100), 0.2), slates=slates,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("count", [1, 2, 13])
def test_the_comparison_is_the_same_however_the_users_are_divided(sequences, compare, count):
    whole, divided = compare(sequences), compare(Parts(sequences, count))
    assert whole.held_out.users == 60
    assert repr(divided.held_out.figures) == repr(whole.held_out.figures)
    assert divided.held_out.slices.keys() == whole.held_out.slices.keys()
    for name, expected in whole.held_out.slices.items():
        found = divided.held_out.slices[name]
        assert found.user_keys.tolist() == expected.user_keys.tolist()
        assert found.cases.tolist() == expected.cases.tolist()
        assert found.values.tobytes() == expected.values.tobytes()
    assert divided.liking == whole.liking
    assert divided.liking
    assert repr(divided.off_policy) == repr(whole.off_policy)
    assert whole.off_policy.slates == len(range(0, USERS, 9)) + 1


def test_no_more_than_two_parts_are_in_memory(sequences, compare):
    parts = Parts(sequences, 20)
    compare(parts)
    assert parts.most_alive <= 2
    assert parts.alive == 0


def test_only_sampled_users_are_kept(sequences, catalogue, minute, evaluation_settings):
    settings = evaluation_settings.model_copy(update={"max_users": 30})
    cases = held_out_cases(Parts(sequences, 5), catalogue, minute(HELD_OUT), settings)
    assert cases.sequences.users == 30


def test_a_sample_of_opinions_is_the_same_however_the_users_are_divided(sequences, minute, monkeypatch):
    monkeypatch.setattr("recsys.evaluation.liking._MAX_EVENTS", 50)
    since = microseconds(minute(100))
    positions = np.flatnonzero((sequences.sentiment != 0) & (sequences.occurred_at >= since))
    expected = np.sort(np.random.default_rng(0).choice(positions, 50, replace=False))
    for events in (sequences, Parts(sequences, 7)):
        kept, chosen = held_out_opinions(events, since)
        assert kept.users <= 50
        for name in ("occurred_at", "item_index", "sentiment"):
            assert getattr(kept, name)[chosen].tolist() == getattr(sequences, name)[expected].tolist()


def test_taken_users_carry_only_their_own_comments(sequences):
    keys = sortable(sequences.user_keys)[[3, 8]]
    [first, *others] = [take_keys(Parts(sequences, count), keys) for count in (1, 4, 9)]
    assert first.user_keys.tolist() == sorted(sequences.user_keys[[3, 8]].tolist())
    for taken in [first, *others]:
        assert taken.comments.to_pylist() == first.comments.to_pylist()
        assert taken.comment.tolist() == first.comment.tolist()
        assert taken.item_index.tolist() == first.item_index.tolist()
    one = _commented(sequences, np.where(np.arange(sequences.events) < 1, "mine", "theirs"))
    assert take_keys([one], sortable(one.user_keys[:1])).comments.to_pylist()[0] == "mine"
    assert take_keys([one], sortable(one.user_keys[-1:])).comments.to_pylist() == ["theirs"]


def test_the_log_of_events_is_cut_at_the_same_one_however_the_users_are_divided(sequences, monkeypatch):
    monkeypatch.setattr("recsys.model.recent.LOG_EVENTS", 100)
    whole = EventLog.of(sequences)
    for count in (3, 11):
        divided = EventLog.of(Parts(sequences, count))
        assert divided.items.tolist() == whole.items.tolist()
        assert divided.times.tolist() == whole.times.tolist()


def test_no_users_are_taken_from_nothing():
    assert take_keys([Sequences.empty()], np.zeros(0, dtype=np.bytes_)).users == 0
