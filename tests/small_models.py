"""A tiny text encoder and a small world, both built in memory, so that models in tests train in seconds."""

import itertools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertModel, BertTokenizer

from recsys.model.base_encoder import find_base_encoder
from recsys.model.explanation import Explanations, ListExplainer
from recsys.model.recommender import Recommender
from recsys.model.text_encoder import TextEncoder
from recsys.settings import EvaluationSettings, ModelSettings, Settings, TrainingSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences

THEMES = {
    "space": ["rocket", "planet", "orbit", "galaxy", "comet", "moonbase", "astronaut", "nebula"],
    "cooking": ["bread", "pastry", "spice", "soup", "chef", "kitchen", "recipe", "oven"],
    "crime": ["detective", "murder", "alibi", "heist", "witness", "thief", "police", "verdict"],
}
WORDS = ["the", "of", "and", "theme", ":", ".", *THEMES, *itertools.chain(*THEMES.values())]

EVENT_TYPES = EventTypes.from_records(
    [
        {"event_type": "rating", "explicit": True, "weight": 1, "polarity": 0, "min_value": 0.5}
        | {"max_value": 5, "negative_to": 2, "positive_from": 4},
        {"event_type": "like", "explicit": True, "weight": 1, "polarity": 1},
        {"event_type": "dislike", "explicit": True, "weight": 0, "polarity": -1},
        {"event_type": "view", "explicit": False, "weight": 0.3, "polarity": 0},
    ]
)
LIKE, DISLIKE, RATING, VIEW = (EVENT_TYPES.index[n] for n in ("like", "dislike", "rating", "view"))
HOUR = 3_600_000_000


def write_tiny_encoder(folder: Path, layers: int = 3, words: list[str] | None = None, seed: int = 0) -> Path:
    """Save a random BERT with 32 dimensions and a word-level vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(words or WORDS)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def open_encoder(folder: Path, mode: str = "top_layers", **settings: object) -> TextEncoder:
    """Load an encoder for texts of up to 16 tokens."""
    torch.manual_seed(0)
    values = {"fine_tuning": mode, "max_text_tokens": 16} | settings
    return TextEncoder(find_base_encoder(str(folder)), ModelSettings.model_validate(values))


def small_settings(home: Path, encoder: Path | str, **training: object) -> Settings:
    """Return the settings of a model that trains in seconds, its text encoder too."""
    defaults: dict[str, object] = {"epochs": 4, "batch_size": 16, "threads": 1, "text_items_per_step": 8}
    return Settings(
        home=home,
        model=ModelSettings(
            base_encoder=str(encoder),
            fine_tuning="top_layers",
            dim=16,
            layers=1,
            max_events=20,
            dropout=0.1,
            collaborative_penalty=10,
        ),
        training=TrainingSettings.model_validate(defaults | {"device": "cpu"} | training),
        evaluation=EvaluationSettings(),
    )


def theme_catalogue(per_theme: int = 12, extra: tuple[tuple[str, str], ...] = ()) -> Catalogue:
    """Build items whose titles are two words of their theme; `extra` are more (id, title) pairs."""
    pairs = []
    for theme, words in THEMES.items():
        titles = [f"{a} and {b}" for a, b in itertools.combinations(words, 2)][:per_theme]
        pairs += [(f"{theme}-{number}", title, theme) for number, title in enumerate(titles)]
    pairs += [(item, title, "") for item, title in extra]
    return Catalogue.build(
        [item for item, _, _ in pairs],
        [title for _, title, _ in pairs],
        None,
        [{"theme": theme} if theme else {} for _, _, theme in pairs],
    )


def theme_of(item_id: str) -> str:
    """Return the theme of an item of `theme_catalogue`."""
    return item_id.split("-")[0]


def histories(catalogue: Catalogue, *users: list[tuple[str, int, float]]) -> Sequences:
    """Build histories from one list of (item id, event type, value) per user; events are an hour apart."""
    flat = [(u, *event) for u, events in enumerate(users) for event in events]
    return Sequences.build(
        user_keys=[f"user-{u}" for u in range(len(users))],
        user_index=[row[0] for row in flat],
        item_index=catalogue.lookup([row[1] for row in flat]),
        event_type=[row[2] for row in flat],
        value=[row[3] for row in flat],
        occurred_at=[n * HOUR for n in range(len(flat))],
        feedback_id=list(range(len(flat))),
        event_types=EVENT_TYPES,
    )


def liked(*items: str) -> list[tuple[str, int, float]]:
    """Return events of liking these items."""
    return [(item, LIKE, float("nan")) for item in items]


def disliked(*items: str) -> list[tuple[str, int, float]]:
    """Return events of disliking these items."""
    return [(item, DISLIKE, float("nan")) for item in items]


def theme_world(
    catalogue: Catalogue, users: int = 90, events: int = 9, seed: int = 0, left_out: tuple[str, ...] = ()
) -> Sequences:
    """Build users who like the items of one theme in catalogue order, so that the order can be learned.

    The first event of most users is a dislike of an item of another theme, which they avoid from then on.
    """
    rng = np.random.default_rng(seed)
    by_theme = {
        theme: [i for i in catalogue.item_ids if theme_of(i) == theme and i not in left_out]
        for theme in THEMES
    }
    everyone = []
    for _ in range(users):
        own, other = rng.choice(list(THEMES), 2, replace=False)
        dislikes = rng.random() < 0.7
        start = [(str(rng.choice(by_theme[other])), DISLIKE if dislikes else LIKE, float("nan"))]
        if not dislikes:
            own = other
        first = int(rng.integers(len(by_theme[own])))
        chosen = [by_theme[own][(first + step) % len(by_theme[own])] for step in range(events - 1)]
        kinds = rng.choice([LIKE, RATING, VIEW], len(chosen))
        later = [
            (item, int(kind), float(rng.integers(4, 6)) if kind == RATING else float("nan"))
            for item, kind in zip(chosen, kinds, strict=True)
        ]
        everyone.append([event for event in start if event[0] not in chosen] + later)
    return histories(catalogue, *everyone)


def explain(model: Recommender, past: Sequences, items: NDArray[np.int32]) -> Explanations:
    """Explain lists of items [users, k] to users with these histories."""
    scorer = model.scorer()
    return ListExplainer(scorer)(past, scorer.user_vectors(past), items)
