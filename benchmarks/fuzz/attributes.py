"""Items with strange attributes: read for publication, evaluation and MLflow."""

import json
import math
import re
import traceback
from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
import sqlalchemy as sa

from benchmarks.fuzz.inputs import Finding, Input
from benchmarks.fuzz.oracle_values import same_json

_NAMES = ("genre", "brand", "price", "tags", "", "a:b", "item.genre", "é", "x" * 300)
_VALUES: tuple[Any, ...] = (
    "drama", "Children's", "H&M", "![x](a.png)", "<script>", "a/b", "a:b", "", " ", "x" * 400, "日本語", "🎬",
    "\\", "|", "`", "'", '"', "a\nb", "drama ", "Drama", "1", "None", "true", 1, 1.0, 1.5, 0, -0.0, 10**25,
    1e308, True, False, None, [], ["drama", "crime"], [1, "1"], [None, "a"], [["a"], "b"], {}, {"a": 1},
    {"a": {"b": "c"}}, [{"a": 1}], ["drama", "drama"], ["a"] * 50,
)  # fmt: skip
_WHOLE: tuple[str, ...] = (
    "[]", "5", "null", '"genre=drama"', "true", '[{"genre": "drama"}]', '{"a": ' + "[" * 90 + "]" * 90 + "}",
    '{"a": ' + "[" * 600 + "]" * 600 + "}", '{"a": ' * 3000 + "1" + "}" * 3000, "[" * 2000 + "]" * 2000,
    '{"n": 1' + "0" * 5000 + "}",
)  # fmt: skip
_MOST_NESTED = 100
_USERS_PER_ITEM = 6
_SLICED = ("genre", "brand", "a:b", "")
_MAX_VALUES = 10


def make_attributes(random: Random, kind: str) -> Input:
    """Return the attributes of a few items as JSON texts."""
    items = []
    for _ in range(random.randint(1, 12)):
        names = random.sample(_NAMES, random.randint(0, 4))
        items.append(json.dumps({name: random.choice(_VALUES) for name in names}, ensure_ascii=False))
    if random.random() < 0.25:
        items[random.randrange(len(items))] = random.choice(_WHOLE)
    return Input(kind, "attributes.json", json.dumps(items, ensure_ascii=False).encode())


def check_attributes(engine: sa.Engine, given: Input) -> list[Finding]:
    """Write items to the table and read them as the pipeline does."""
    from recsys.publishing.histories import read_catalogue

    texts = json.loads(given.content)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM items"))
        for number, text in enumerate(texts):
            connection.execute(
                sa.text(
                    "INSERT INTO items (item_id, title, attributes)"
                    " VALUES (:id, :title, CAST(:text AS jsonb))"
                ),
                {"id": f"i{number:03d}", "title": f"Item {number}", "text": text},
            )
    try:
        with engine.connect() as connection:
            catalogue = read_catalogue(connection)
        return [*_check_catalogue(catalogue, texts), *_check_slices(catalogue)]
    except Exception:
        return [Finding("traceback", traceback.format_exc())]


def _check_catalogue(catalogue: Any, texts: list[str]) -> list[Finding]:
    from recsys.evaluation.ranking.slices import item_features
    from recsys.model.attributes import attribute_labels
    from recsys.model.requests import item_phrases
    from recsys.snapshot.item_text import item_text

    if len(catalogue) != len(texts):
        return [Finding("lost_row", f"{len(catalogue)} items instead of {len(texts)}")]
    findings = []
    for number, text in enumerate(texts):
        read, stated = catalogue.attributes[number], _stated(text)
        if not same_json(stated, read):
            findings.append(Finding("silent_change", f"attributes {text[:100]} were read as {read!r:.100}"))
        turned = dict(reversed(list(read.items())))
        if item_text("", "", turned) != item_text("", "", read):
            findings.append(
                Finding("silent_change", f"the text of {text[:100]} depends on the order of its keys")
            )
        missing = [word for word in _words(stated) if word not in catalogue.texts[number]]
        if missing:
            findings.append(Finding("lost_row", f"the text of {text[:100]} lacks {missing[:3]}"))
    attribute_labels(catalogue.attributes)
    item_features(catalogue)
    item_phrases(catalogue)
    return findings


def _stated(text: str) -> dict[str, Any]:
    """What is no object has no name; what is nested more than 100 deep is left out."""
    depth = deepest = 0
    for character in re.sub(r'"(?:[^"\\]|\\.)*"', "", text):
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    if deepest > _MOST_NESTED:
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        return {}  # more digits than Python reads
    return value if isinstance(value, dict) else {} if value is None else {"": value}


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split()
    if isinstance(value, Mapping):
        return [word for entry in value.values() for word in _words(entry)]
    if isinstance(value, list):
        return [word for entry in value for word in _words(entry)]
    return []


def _check_slices(catalogue: Any) -> list[Finding]:
    """Compare the slices by attribute with the items' attributes."""
    from recsys.evaluation.ranking.cases import Cases
    from recsys.evaluation.ranking.slices import with_slices
    from recsys.settings import EvaluationSettings
    from recsys.snapshot.event_types import EventTypes
    from recsys.snapshot.sequences import Sequences

    events = len(catalogue) * _USERS_PER_ITEM
    like = {"event_type": "like", "explicit": True, "weight": 1.0, "polarity": 1}
    items = np.arange(events) % len(catalogue)
    sequences = Sequences.build(
        user_keys=[f"u{number}" for number in range(events)],
        user_index=range(events), item_index=items, event_type=[0] * events, value=[math.nan] * events,
        occurred_at=range(events), feedback_id=range(events), event_types=EventTypes.from_records([like]),
    )  # fmt: skip
    everyone = np.arange(events)
    cases = Cases(
        sequences=sequences,
        positions=everyone,
        users=everyone,
        targets=items.astype(np.int32),
        catalogue=catalogue,
        slices={},
    )
    sliced = with_slices(cases, catalogue, EvaluationSettings(item_slices=_SLICED)).slices
    findings = []
    for name in _SLICED:
        wanted = _groups([attributes.get(name) for attributes in catalogue.attributes])
        found = {
            each.removeprefix(f"item.{name}:"): {int(item) for item in items[members]}
            for each, members in sliced.items()
            if each.startswith(f"item.{name}:")
        }
        allowed = {value: owners for value, owners in wanted.items() if len(owners) < len(catalogue)}
        if any(owners != allowed.get(value) for value, owners in found.items()):
            findings.append(Finding("silent_change", f"slices by {name!r} are {found}, not {allowed}"))
        elif len(found) < min(_MAX_VALUES, len(allowed)) and len(wanted) <= _MAX_VALUES:
            findings.append(Finding("lost_row", f"slices by {name!r} lack {allowed.keys() - found.keys()}"))
    return findings


def _groups(values: list[Any]) -> dict[str, set[int]]:
    groups: dict[str, set[int]] = {}
    for item, given in enumerate(values):
        for value in given if isinstance(given, list) else [given]:
            if given is not None and given != "":
                groups.setdefault(str(value), set()).add(item)
    return groups
