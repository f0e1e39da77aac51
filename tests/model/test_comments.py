"""Reading the opinions of comments without a rating."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.comments import MAX_TOKENS, CommentReader
from recsys.model.recommender import Recommender
from recsys.model.untrained_encoder import untrained_encoder
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences
from tests.small_models import EVENT_TYPES, HOUR, small_settings, theme_catalogue, write_tiny_encoder

GOOD, BAD, PLAIN = "good", "bad", "so"
TYPES = EventTypes.from_records(
    [
        *EVENT_TYPES.to_records(),
        {"event_type": "comment", "explicit": True, "weight": 0.5, "polarity": 0},
    ]
)
NONE = float("nan")


def past(*events: tuple[str, float, str | None]) -> Sequences:
    """Return one user's events of (event type, value, comment), each with a different item."""
    return Sequences.build(
        user_keys=["ann"],
        user_index=[0] * len(events),
        item_index=list(range(len(events))),
        event_type=[TYPES.index[kind] for kind, _, _ in events],
        value=[value for _, value, _ in events],
        occurred_at=[n * HOUR for n in range(len(events))],
        feedback_id=list(range(len(events))),
        event_types=TYPES,
        comment=[comment for _, _, comment in events],
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """An untrained recommender whose comment reader knows three words."""
    folder = tmp_path_factory.mktemp("encoder")
    encoder = write_tiny_encoder(folder / "tiny", words=["good", "bad", "so", "theme", ":"])
    torch.manual_seed(0)
    recommender = Recommender.build(small_settings(folder, encoder).model, theme_catalogue(), TYPES).eval()
    recommender.items.trained[:] = True
    teach(recommender.comments)
    return recommender


def teach(reader: CommentReader) -> None:
    """Solve for weights that give good 0.9, bad 0.1 and so 0.5."""
    vectors = reader.encode([GOOD, BAD, PLAIN]).double()
    wanted = torch.tensor([0.9, 0.1, 0.5], dtype=torch.float64)
    reader.weight.copy_(torch.linalg.lstsq(vectors, wanted).solution)
    reader.cuts.copy_(torch.tensor([0.3, 0.7]))


def test_only_comments_without_an_opinion_are_read(model: Recommender) -> None:
    events = past(
        ("comment", NONE, BAD), ("comment", NONE, GOOD), ("comment", NONE, PLAIN), ("comment", NONE, None),
        ("rating", 5.0, BAD), ("dislike", NONE, GOOD), ("view", NONE, BAD),
    )  # fmt: skip
    read = model.read_comments(events)
    assert read.sentiment.tolist() == [-1, 1, 0, 0, 1, -1, -1]
    np.testing.assert_allclose(read.value, [0.1, 0.9, 0.5, NONE, 1.0, NONE, 0.1], atol=1e-3)
    assert read.weight.tolist() == pytest.approx([0, 0.5, 0.5, 0.5, 1, 0, 0])
    assert events.sentiment.tolist() == [0, 0, 0, 0, 1, -1, 0], "the events given are not changed"


@pytest.mark.parametrize("comment", ["👎👎", "👍", "太差了", "сломалось good сразу же", "", " \n"])
def test_what_the_encoder_does_not_understand_is_no_opinion(model: Recommender, comment: str) -> None:
    read = model.read_comments(past(("comment", NONE, comment), ("comment", NONE, f"{BAD} 👎")))
    assert read.sentiment.tolist() == [0, -1]
    assert np.isnan(read.value).tolist() == [True, False]
    assert read.weight[0] == 0.5


def test_reading_twice_changes_nothing(model: Recommender) -> None:
    once = model.read_comments(past(("comment", NONE, BAD), ("comment", NONE, GOOD)))
    assert model.read_comments(once) is once


def test_bad_and_good_comments_change_the_scores(model: Recommender) -> None:
    bad, good, unread = (
        model.score(past(("comment", NONE, text), ("view", NONE, None))) for text in (BAD, GOOD, None)
    )
    assert not np.allclose(bad, good)
    assert not np.allclose(bad, unread)


def test_equal_comments_are_encoded_once_for_all_models_of_a_process(model: Recommender) -> None:
    encoder = untrained_encoder(model.comments.identity, MAX_TOKENS, "comments")
    model.read_comments(past(*[("comment", NONE, "so good")] * 3))
    before = encoder.computed_tokens
    model.clone().read_comments(past(*[("comment", NONE, "so good")] * 9))
    assert encoder.computed_tokens == before


def test_a_long_comment_is_cut(model: Recommender) -> None:
    words = "good " * 5_000
    assert np.isfinite(model.comments.predict([words, words + "bad"])).all()


def test_a_trained_reader_survives_a_checkpoint_and_another_catalogue(
    model: Recommender, tmp_path: Path
) -> None:
    save_recommender(model, tmp_path / "saved")
    loaded = load_recommender(tmp_path / "saved").with_catalogue(theme_catalogue(4))
    assert loaded.read_comments(past(("comment", NONE, BAD))).sentiment.tolist() == [-1]
    assert loaded.clone().comments.reads


def test_comments_are_not_in_checkpoints_or_printed_events(model: Recommender, tmp_path: Path) -> None:
    events = past(("comment", NONE, "good so good"))
    model.read_comments(events)
    save_recommender(model, tmp_path / "saved")
    assert "good" not in repr(events)
    for file in (tmp_path / "saved").rglob("*"):
        assert b"good so good" not in file.read_bytes()
    assert not list(tmp_path.rglob("*cache*"))


def test_a_checkpoint_without_a_comment_reader_loads_and_reads_no_comments(
    model: Recommender, tmp_path: Path
) -> None:
    save_recommender(model, tmp_path / "saved")
    path = tmp_path / "saved" / "weights.safetensors"
    weights = safetensors.torch.load_file(path)
    kept = {name: value for name, value in weights.items() if not name.startswith("comments.")}
    assert len(kept) < len(weights)
    safetensors.torch.save_file(kept, path)
    loaded = load_recommender(tmp_path / "saved")
    assert not loaded.comments.reads
    events = past(("comment", NONE, BAD))
    assert loaded.read_comments(events) is events
    assert np.isfinite(loaded.score(events)).all()
