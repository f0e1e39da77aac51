"""A small world with known tastes, in the files that `recsys ingest` reads.

The text of an item shows its genre. Each user likes one genre, rates its items high and others low, so that a
working model must learn to recommend unseen items of that genre.
"""

import csv
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

GENRES = {
    "space": ["Star Voyage", "Orbit of Steel", "The Last Astronaut", "Galaxy Patrol", "Moonbase Nine"],
    "romance": ["Letters in Spring", "The Wedding Guest", "Two Hearts", "A Summer Kiss", "Paris for Love"],
    "crime": ["The Silent Witness", "Bank Job", "Detective Noir", "Cold Alibi", "The Night Murders"],
    "cooking": ["Bread and Butter", "The Spice Kitchen", "Pastry School", "A Chef at Home", "Soup Season"],
}
_SEQUELS = ("", " II", " III", " Returns")


class World:
    """Items, users and ratings.

    Parameters
    ----------
    users, events_per_user
        Their numbers. The events of all users are interleaved in time; the last one is about an hour old.
    """

    def __init__(self, users: int = 60, events_per_user: int = 14, seed: int = 0) -> None:
        rng = random.Random(seed)
        self.items: list[dict[str, object]] = []
        for genre, titles in GENRES.items():
            for sequel in _SEQUELS:
                for title in titles:
                    item_id = f"i{len(self.items):03d}"
                    self.items.append(
                        {"item_id": item_id, "title": title + sequel, "attributes": {"genre": genre}}
                    )
        by_genre = {
            genre: [str(item["item_id"]) for item in self.items if item["attributes"] == {"genre": genre}]
            for genre in GENRES
        }
        everything = [str(item["item_id"]) for item in self.items]
        self.taste = {f"u{number:03d}": rng.choice(list(GENRES)) for number in range(users)}
        self.events: list[dict[str, object]] = []
        for user_id, genre in self.taste.items():
            liked = rng.sample(by_genre[genre], k=min(events_per_user, len(by_genre[genre])))
            others = rng.sample([item for item in everything if item not in by_genre[genre]], k=3)
            chosen = [(item, rng.choice([4, 5])) for item in liked] + [
                (item, rng.choice([1, 2])) for item in others
            ]
            rng.shuffle(chosen)
            for item_id, value in chosen:
                self.events.append(
                    {"user_id": user_id, "item_id": item_id, "event_type": "rating", "value": value}
                )
        rng.shuffle(self.events)
        now = datetime.now(UTC) - timedelta(minutes=5)
        for number, event in enumerate(self.events):
            moment = now - timedelta(hours=1) * (len(self.events) - number)
            event["occurred_at"] = moment.isoformat()
            event["event_id"] = f"e{number:06d}"

    def write_items(self, path: Path) -> Path:
        """Write all items as JSONL."""
        path.write_text("".join(json.dumps(item) + "\n" for item in self.items))
        return path

    def write_feedback(self, path: Path, start: float = 0.0, end: float = 1.0) -> Path:
        """Write the events between two shares (0 to 1) of the timeline as CSV."""
        first, last = int(start * len(self.events)), int(end * len(self.events))
        columns = ["event_id", "user_id", "item_id", "event_type", "value", "occurred_at"]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.events[first:last])
        return path
