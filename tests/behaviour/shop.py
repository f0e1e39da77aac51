"""A small shop: items of four genres with plain titles, and customers with known tastes."""

import numpy as np

from recsys.snapshot.sequences import Catalogue, Sequences
from tests.small_models import DISLIKE, LIKE, RATING, VIEW, histories

GENRES = {
    "space": [
        "Journey to Mars", "The Last Astronaut", "Rocket to Saturn", "Galaxy at War", "Stranded on the Moon",
        "The Alien Signal", "Starship Captain", "Orbit in Danger", "The Comet Hunters", "Colony on Titan",
        "Black Hole Rescue", "Robots of Jupiter",
    ],
    "cooking": [
        "Bread at Home", "The Pastry Chef", "Soups of the World", "Italian Pasta", "Baking with Butter",
        "The Spice Handbook", "Vegetarian Dinners", "Grilling for Beginners", "Cakes and Cookies",
        "Fresh Salads", "The Art of Sushi", "Slow Cooker Recipes",
    ],
    "crime": [
        "Murder at Midnight", "The Silent Detective", "Bank Robbery in Boston", "The Poisoned Letter",
        "Inspector on the Case", "The Missing Witness", "Blood on the Stairs", "The Jewel Thief",
        "Prison Break", "A Killer in Town", "The Forged Will", "Police Under Fire",
    ],
    "garden": [
        "Growing Roses", "The Vegetable Patch", "Pruning Fruit Trees", "Herbs on the Balcony", "Lawn Care",
        "Planting Tulips", "Compost and Soil", "The Greenhouse Year", "Wild Meadows", "Hedges and Shrubs",
        "Garden Ponds", "Seeds and Seedlings",
    ],
}  # fmt: skip
NEW = {
    "space-new": "Astronauts on a Distant Planet",
    "cooking-new": "Cooking Pasta and Pizza",
    "crime-new": "The Detective and the Murderer",
    "garden-new": "Planting Flowers and Trees",
}
"""Items without events."""


def shop_catalogue() -> Catalogue:
    """Return the catalogue; the new items come last."""
    rows = [
        (f"{genre}-{number}", title, genre)
        for genre, titles in GENRES.items()
        for number, title in enumerate(titles)
    ]
    rows += [(item, title, item.split("-")[0]) for item, title in NEW.items()]
    return Catalogue.build(
        [item for item, _, _ in rows],
        [title for _, title, _ in rows],
        None,
        [{"subject": genre} for _, _, genre in rows],
    )


def customers(catalogue: Catalogue, count: int = 240, seed: int = 0) -> Sequences:
    """Return customers with two tastes each, who mostly continue with the last one, so that order matters.

    At some point most of them dislike an item of one taste and only follow the other one afterwards.
    """
    rng = np.random.default_rng(seed)
    everyone = []
    for _ in range(count):
        tastes = [str(genre) for genre in rng.choice(list(GENRES), 2, replace=False)]
        left = {genre: [f"{genre}-{number}" for number in rng.permutation(12)] for genre in tastes}
        turning = int(rng.integers(1, 6))
        current, events = tastes[0], []
        for step in range(9):
            if len(tastes) == 2 and rng.random() < 0.3:
                current = tastes[1 - tastes.index(current)]
            if step == turning:
                events.append((left[current].pop(), DISLIKE, float("nan")))
                tastes.remove(current)
                current = tastes[0]
                continue
            kind = int(rng.choice([LIKE, RATING, VIEW]))
            value = float(rng.integers(4, 6)) if kind == RATING else float("nan")
            events.append((left[current].pop(), kind, value))
        everyone.append(events)
    return histories(catalogue, *everyone)
