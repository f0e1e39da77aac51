"""Made-up rows of a shop, a newsroom, a music service and a film site, before anything is changed in them."""

from random import Random
from typing import Any

Row = dict[str, Any]

_TITLES = (
    ("Mint tea, loose", "Desk lamp 12\"", "Children's raincoat", "H&M scarf", "Kettle 1.7 l", "100% wool"),
    ("Rail strike ends", "Wahl: Ergebnis offen", "\"We had no choice\"", "Élections", "Storm; no school"),
    ("12\" Remix", "Ágætis byrjun", "\"Heroes\"", "夜に駆ける", "AC/DC – Live", "()"),
    ("[REC]", "The Good, the Bad and the Ugly", "WALL·E", "Se7en", "8½", "Il était une fois\u2026"),
)  # fmt: skip
_TEXTS = (
    "Keeps warm for hours.", "A report in three parts; the second tomorrow.", "Über Nacht aufgenommen", "",
    "Two friends, one road, and a dog that knows the way.", "He said \"no\" and left.", "1,5 l / 2.000 g",
    "line one\nline two", "tab\there",
)  # fmt: skip
_COMMENTS = ("Good", "Slow; I gave up", "«Très bien»", 'he said "buy it"', "👍🏽", "5/5, again", "a\nb", "")
_ATTRIBUTES: tuple[dict[str, Any], ...] = (
    {},
    {"genre": ["drama", "crime"], "year": 1999},
    {"brand": "H&M", "price": 19.9, "sizes": {"eu": 42, "uk": 8.5}},
    {"section": "Politik", "words": 812, "paywall": True},
    {"artist": "Sigur Rós", "bpm": 104.5, "tags": [], "label": None},
)
_TYPES = ("rating", "like", "dislike", "view", "click", "purchase", "share", "dwell", "comment")
_TIMES = (
    "2026-01-31T18:30:00Z", "2026-01-31T18:30:00+01:00", "2025-12-24 08:00:00+00:00",
    "2026-02-01T00:00:00.123456Z", "2026-02-01T00:00:00.5-08:00", "1769884200", "1769884200.25",
)  # fmt: skip


def rows(random: Random, table: str, count: int) -> list[Row]:
    """Return plausible rows of a table."""
    return [_ROW[table](random, number) for number in range(count)]


def _feedback(random: Random, number: int) -> Row:
    kind = random.choice(_TYPES)
    values: dict[str, Any] = {"rating": random.choice((0.5, 1, 3.5, 4, 5)), "dwell": random.randint(0, 900)}
    return {
        "event_id": f"e{number}" if random.random() < 0.8 else None,
        **_person(random),
        "item_id": _item_id(random),
        "event_type": kind,
        "value": values.get(kind),
        "comment": random.choice(_COMMENTS) or None,
        "impression_id": f"s{number}" if random.random() < 0.3 else None,
        "occurred_at": random.choice(_TIMES),
    }


def _items(random: Random, number: int) -> Row:
    domain = random.randrange(len(_TITLES))
    return {
        "item_id": f"i{number}" if random.random() < 0.9 else _item_id(random),
        "title": random.choice(_TITLES[domain]),
        "description": random.choice(_TEXTS) or None,
        "attributes": random.choice(_ATTRIBUTES),
        "available": random.choice((True, True, False, None)),
        "rest_days": random.choice((None, None, 30, 0.5)),
    }


def _users(random: Random, number: int) -> Row:
    return {
        "user_id": f"u{number}",
        "consent": random.choice((True, False, None)),
        "attributes": random.choice(({}, {"country": "DE"}, {"age": 42, "plan": ["a", "b"]})),
    }


def _impressions(random: Random, number: int) -> Row:
    length = random.randint(1, 4)
    return {
        "impression_id": f"s{number}",
        **_person(random),
        "query": random.choice((None, "something warm", 'news from "Köln"')),
        "item_ids": [_item_id(random) for _ in range(length)],
        "propensities": [round(random.random(), 3) for _ in range(length)] if random.random() < 0.6 else None,
        "model_version": random.choice((None, "7")),
        "placement": random.choice((None, "home")),
        "shown_at": random.choice(_TIMES),
    }


def _person(random: Random) -> Row:
    name = f"{random.randint(1, 5)}"
    if random.random() < 0.8:
        return {"user_id": f"u{name}", "visitor_id": f"v{name}" if random.random() < 0.1 else None}
    return {"user_id": None, "visitor_id": f"v{name}"}


def _item_id(random: Random) -> str:
    return random.choice(("i1", "i2", "85123A", "0042", "tt0111161", "b8f2-11"))


_ROW = {"feedback": _feedback, "items": _items, "users": _users, "impressions": _impressions}
