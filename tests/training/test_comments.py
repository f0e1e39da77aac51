"""Training a comment reader on comments that came with an opinion."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.columns import PURPOSES, Purpose
from recsys.errors import NothingToDoError
from recsys.model.base_encoder import EncoderIdentity, find_base_encoder
from recsys.model.comments import CommentReader
from recsys.model.ranking import mask_hidden, top_k
from recsys.settings import Settings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences
from recsys.training.comments import fit_comment_reader
from recsys.training.full import Fitted, fit_full
from recsys.training.micro import fit_micro
from tests.small_models import (
    EVENT_TYPES,
    HOUR,
    THEMES,
    WORDS,
    small_settings,
    theme_catalogue,
    theme_of,
    write_tiny_encoder,
)

TYPES = EventTypes.from_records(
    [*EVENT_TYPES.to_records(), {"event_type": "comment", "explicit": True, "weight": 0.5, "polarity": 0}]
)
PRAISE, BLAME, FILLER = (
    ["great", "superb", "lovely"],
    ["awful", "dull", "poor"],
    ["book", "it", "was", "very"],
)
NONE = float("nan")
CATALOGUE = theme_catalogue()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    return small_settings(home, write_tiny_encoder(home / "tiny", words=[*WORDS, *PRAISE, *BLAME, *FILLER]))


@pytest.fixture
def reader(settings: Settings) -> CommentReader:
    base = find_base_encoder(settings.model.base_encoder)
    return CommentReader(EncoderIdentity(base.name, base.sha256, 32))


Event = tuple[str, str, float, str | None]


def people(*events: list[Event]) -> Sequences:
    """Return users' events of (item id, event type, value, comment), an hour apart."""
    flat = [(user, *event) for user, own in enumerate(events) for event in own]
    return Sequences.build(
        user_keys=[f"user-{n}" for n in range(len(events))],
        user_index=[row[0] for row in flat],
        item_index=CATALOGUE.lookup([row[1] for row in flat]),
        event_type=[TYPES.index[row[2]] for row in flat],
        value=[row[3] for row in flat],
        occurred_at=[n * HOUR for n in range(len(flat))],
        feedback_id=list(range(len(flat))),
        event_types=TYPES,
        comment=[row[4] for row in flat],
    )


def words(rng: np.random.Generator, kind: list[str]) -> str:
    return " ".join(rng.permutation([*rng.choice(kind, 2), *rng.choice(FILLER, 3)]))


def raters(count: int, *, seed: int = 0, kinds: tuple[str, ...] = ("rating",)) -> list[list[Event]]:
    """Return users who praise the items of one theme and blame those of another."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(count):
        liked, disliked = rng.choice(list(THEMES), 2, replace=False)
        events: list[Event] = []
        for theme, good, number in [(liked, True, 5), (disliked, False, 2)]:
            for n in rng.choice(12, number, replace=False):
                kind = str(rng.choice(kinds))
                if kind == "like" and not good:
                    kind = "dislike"
                rated = float(rng.integers(4, 6) if good else rng.integers(1, 3))
                value = rated if kind == "rating" else NONE
                events.append((f"{theme}-{n}", kind, value, words(rng, PRAISE if good else BLAME)))
        result.append([events[i] for i in rng.permutation(len(events))])
    return result


@pytest.mark.parametrize("kinds", [("rating",), ("like",), ("rating", "like")])
def test_the_meaning_of_words_is_learned_from_ratings_or_likes(
    reader: CommentReader, kinds: tuple[str, ...]
) -> None:
    metrics = fit_comment_reader(reader, people(*raters(40, kinds=kinds)), TYPES)
    assert metrics["comments"] == 280
    assert metrics["comment_auc"] > 0.95
    good, bad = reader.predict(["very superb lovely book", "it was dull awful"])
    assert good > bad + 0.3
    alone = people([("space-0", "comment", NONE, "lovely great"), ("space-1", "comment", NONE, "poor")])
    assert reader.read(alone).sentiment.tolist() == [1, -1]


def test_as_many_comments_are_read_as_negative_as_there_are(reader: CommentReader) -> None:
    rated = people(*raters(40))
    fit_comment_reader(reader, rated, TYPES)
    bare = replace(rated, value=np.full_like(rated.value, np.nan), sentiment=np.zeros_like(rated.sentiment))
    assert (reader.read(bare).sentiment < 0).mean() == pytest.approx((rated.sentiment < 0).mean(), abs=0.03)


def test_comments_without_information_are_not_read(reader: CommentReader) -> None:
    rng = np.random.default_rng(0)
    events: list[list[Event]] = [
        [("space-0", "rating", float(rng.choice([1, 5])), words(rng, FILLER)) for _ in range(5)]
        for _ in range(40)
    ]
    metrics = fit_comment_reader(reader, people(*events), TYPES)
    assert metrics["comment_auc"] == pytest.approx(0.5, abs=0.15)
    assert not reader.reads


def test_with_too_few_comments_nothing_is_learned(reader: CommentReader) -> None:
    assert fit_comment_reader(reader, people(*raters(4)), TYPES) == {}
    praise_only = [[event for event in own if event[2] > 3] for own in raters(40)]
    assert fit_comment_reader(reader, people(*praise_only), TYPES) == {}
    assert fit_comment_reader(reader, people(*raters(40)), TYPES, max_comments=0) == {}
    assert not reader.reads


def test_only_the_latest_comments_are_learned_from(reader: CommentReader) -> None:
    upside_down = [[(i, k, 6.0 - v, c) for i, k, v, c in own] for own in raters(30, seed=1)]
    metrics = fit_comment_reader(reader, people(*upside_down, *raters(30)), TYPES, max_comments=210)
    assert metrics["comments"] == 210
    good, bad = reader.predict(["superb", "awful"])
    assert good > bad


LETTERS = [mark + letter for letter in "abcdefghijklmnopqrstuvwxyz" for mark in ("", "##")]
FOREIGN = "leider ist es nach zwei wochen kaputt"


def reader_with(folder: Path, *pieces: str) -> CommentReader:
    """Return a reader whose encoder cuts words that it does not know into letters."""
    words = [*WORDS, *PRAISE, *BLAME, *FILLER, *LETTERS, *pieces]
    base = find_base_encoder(str(write_tiny_encoder(folder, words=words)))
    return CommentReader(EncoderIdentity(base.name, base.sha256, 32))


def test_a_comment_in_a_language_that_the_encoder_does_not_know_is_no_opinion(tmp_path: Path) -> None:
    reader = reader_with(tmp_path)
    fit_comment_reader(reader, people(*raters(40)), TYPES)
    own = ["very superb lovely book", "it was a dull awful book", "superb", "it was an awful jbl book it was"]
    short = "leider schon kaputt"
    values, sentiment = reader.opinions([*own, short, FOREIGN, FOREIGN.title() + "!"])
    assert np.isnan(values).tolist() == [False] * 5 + [True] * 2
    assert sentiment[-2:].tolist() == [0, 0]


def test_the_language_that_comments_are_in_is_read_however_small_its_words_are_cut(tmp_path: Path) -> None:
    reader = reader_with(tmp_path)
    rated = [[(i, k, v, f"{c} {FOREIGN}") for i, k, v, c in own] for own in raters(40)]
    fit_comment_reader(reader, people(*rated), TYPES)
    read = reader.opinions([f"it was a dull awful book {FOREIGN}", "it was a dull awful book"])[0]
    assert np.isfinite(read).all()


def test_an_encoder_of_many_scripts_reads_any_language(tmp_path: Path) -> None:
    reader = reader_with(tmp_path, *map("".join, itertools.product("абвгдежз", repeat=3)))
    fit_comment_reader(reader, people(*raters(40)), TYPES)
    assert np.isfinite(reader.opinions([FOREIGN])[0]).all()


def test_few_comments_do_not_tell_which_language_is_known(tmp_path: Path) -> None:
    reader = reader_with(tmp_path)
    fit_comment_reader(reader, people(*raters(20)), TYPES)
    assert reader.reads
    assert np.isfinite(reader.opinions([FOREIGN])[0]).all()


@pytest.fixture(scope="module")
def fitted(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    training = settings.training.model_copy(update={"epochs": 6, "learning_rate": 5e-3})
    settings = settings.model_copy(update={"training": training})
    return fit_full(CATALOGUE, TYPES, people(*raters(80)), settings, tmp_path_factory.mktemp("run"))


def test_a_user_who_only_comments_gets_items_like_those_they_praise(fitted: Fitted) -> None:
    assert fitted.metrics["comment_auc"] > 0.95
    past = people(comments(blamed="space", praised="crime"), comments(blamed="crime", praised="space"))
    index, _ = top_k(mask_hidden(fitted.model.score(past), past), 6)
    shown = [[theme_of(str(CATALOGUE.item_ids[item])) for item in row] for row in index]
    assert shown[0].count("crime") > shown[0].count("space")
    assert shown[1].count("space") > shown[1].count("crime")


def test_a_micro_update_treats_bad_comments_as_dislikes(fitted: Fitted, settings: Settings) -> None:
    fresh = people(*[[event for event in comments("space", "crime") if event[0][0] == "s"]] * 30)
    fresh = replace(fresh, purpose=np.full(fresh.events, PURPOSES.index(Purpose.FRESH), dtype=np.int8))
    later = datetime(2100, 1, 1, tzinfo=UTC)
    with pytest.raises(NothingToDoError, match="negative"):
        fit_micro(fitted.model, fresh, later, settings)
    praised = replace(fresh, comments=pa.array(["great lovely"] * len(fresh.comments), pa.large_string()))
    assert fit_micro(fitted.model, praised, later, settings).model.comments.reads


def comments(blamed: str, praised: str) -> list[Event]:
    """Return the events of a user who only comments."""
    return [
        (f"{blamed}-0", "comment", NONE, "awful dull"),
        (f"{praised}-0", "comment", NONE, "great lovely"),
        (f"{blamed}-1", "comment", NONE, "it was poor"),
        (f"{praised}-1", "comment", NONE, "very superb"),
    ]
