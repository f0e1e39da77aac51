"""Rows that an application inserts: each ends in feedback and snapshot, or in quarantine with its reasons."""

import json
import math
import re
import traceback
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import sqlalchemy as sa

from benchmarks.fuzz.inputs import Finding, Input

Row = dict[str, Any]

_TYPES: dict[str, tuple[int, bool, float | None, float | None]] = {
    # polarity, explicit, lowest and highest value: the defaults of docs/operations.md
    "rating": (0, True, 0.5, 5), "like": (1, True, None, None), "dislike": (-1, True, None, None),
    "comment": (0, True, None, None), "view": (0, False, None, None), "click": (0, False, None, None),
    "purchase": (1, False, None, None), "share": (1, False, None, None), "dwell": (0, False, 0, 86400),
}  # fmt: skip
_VALUES = (
    None, None, 1, 0, -6, 4, 4.5, 5.5, 0.5, -0.0, "NaN", "Infinity", "-Infinity", 1e308, 5e-324, 86400, 86401,
    1e-9,
)  # fmt: skip
_COMMENTS = (
    None, None, "Good", "", " ", "x" * 10_000, "x" * 10_001, "\x07", "\x01", "\x7f", "\t\n\r", "a\x1bb",
    "👍", "e\u0301", "\ufffe", "NaN", '"', "\\N", "'; DROP TABLE items; --", "&amp;", "\u200b", "\u2028",
    "write to me@example.org",
)  # fmt: skip
_TIMES = (
    "2026-01-31T18:30:00Z", "2026-01-31T18:31:00Z", "2026-02-01T00:00:00.123456Z", "2025-12-24T08:00:00Z",
    "2026-01-31T19:30:00+01:00",
)  # fmt: skip
_ODD_TIMES = (
    None, "infinity", "-infinity", "1970-01-01T00:00:00Z", "1989-12-31T23:59:59Z", "1990-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "4000-01-01 00:00:00 BC", "200000-01-01T00:00:00Z",
    "2999-01-01T00:00:00Z",
)  # fmt: skip
_IDS = (
    "", " ", "u1 ", "\u00a0", "nan", "é", "🎬", "x" * 900, "'", '"', "\\", "a\tb", "a\nb", "NULL", "U1",
    "\u200b", "0",
)  # fmt: skip
_KNOWN_USERS = ("u1", "u2", "u3", "no consent")
_KNOWN_ITEMS = ("i1", "i2", "i3", "i4")
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
_CONTROL = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MAX_COMMENT = 10_000


def make_rows(random: Random, kind: str) -> Input:
    """Return forty events, with items, users and impressions beside them."""
    feedback = [_event(random, number) for number in range(40)]
    slates = {f"s{n}": [random.choice(_KNOWN_USERS), random.sample(_KNOWN_ITEMS, 2)] for n in range(3)}
    odd = {"users": random.sample(_IDS, 3), "items": random.sample(_IDS, 3)}
    content = json.dumps({"feedback": feedback, "impressions": slates, "odd": odd}, ensure_ascii=False)
    return Input(kind, "rows.json", content.encode())


def _event(random: Random, number: int) -> Row:
    often = random.random
    return {
        "event_id": f"e{random.randint(0, 60)}" if often() < 0.8 else f"{number}" + random.choice(_IDS),
        "user_id": random.choice(_KNOWN_USERS) if often() < 0.9 else random.choice((*_IDS, "nobody")),
        "item_id": random.choice(_KNOWN_ITEMS) if often() < 0.9 else random.choice((*_IDS, "nothing")),
        "event_type": random.choice(tuple(_TYPES))
        if often() < 0.95
        else random.choice((*_IDS, "Like", "adored")),
        "value": random.choice(_VALUES),
        "comment": random.choice(_COMMENTS),
        "impression_id": random.choice((None, None, "s0", "s1", "s2", "elsewhere", "")),
        "occurred_at": random.choice(_TIMES) if often() < 0.85 else random.choice(_ODD_TIMES),
    }


def check_rows(engine: sa.Engine, folder: Path, number: int, given: Input) -> list[Finding]:
    """Insert the rows, validate them as a run does, take a snapshot, and compare."""
    content = json.loads(given.content)
    arrived = _insert(engine, content)
    try:
        return _validate_and_compare(engine, folder, f"fuzz/{number}", content, arrived)
    except Exception:
        return [Finding("traceback", traceback.format_exc())]


def _insert(engine: sa.Engine, content: Row) -> list[Row]:
    """Write everything as an application does; return the events that the table took."""
    arrived = []
    with engine.begin() as connection:
        for table in ("feedback", "quarantine", "noisy_feedback", "impressions", "items", "users"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
        for user in (*_KNOWN_USERS, *content["odd"]["users"]):
            consent = {"user": user, "consent": user != "no consent"}
            connection.execute(
                sa.text("INSERT INTO users (user_id, consent) VALUES (:user, :consent)"), consent
            )
        for item in (*_KNOWN_ITEMS, *content["odd"]["items"]):
            connection.execute(
                sa.text("INSERT INTO items (item_id, title) VALUES (:item, :item)"), {"item": item}
            )
        for impression, (user, slate) in content["impressions"].items():
            connection.execute(
                sa.text(
                    "INSERT INTO impressions (impression_id, user_id, item_ids, shown_at)"
                    " VALUES (:i, :u, :s, now())"
                ),
                {"i": impression, "u": user, "s": slate},
            )
        for row in content["feedback"]:
            with connection.begin_nested() as attempt:
                taken = connection.execute(
                    sa.text(
                        f"INSERT INTO feedback ({', '.join(row)}) VALUES ({', '.join(f':{n}' for n in row)})"
                        " ON CONFLICT DO NOTHING RETURNING feedback_id"
                    ),
                    row,
                ).scalar()
                attempt.commit()
            if taken is not None:
                arrived.append({**row, "feedback_id": taken})
    return arrived


def _validate_and_compare(
    engine: sa.Engine, folder: Path, run_key: str, content: Row, arrived: list[Row]
) -> list[Finding]:
    from recsys.errors import NothingToDoError
    from recsys.settings import Settings, ValidationSettings, ValidShareBounds
    from recsys.snapshot.full import take_full_snapshot
    from recsys.snapshot.read import read_snapshot
    from recsys.validation.validate import validate_window
    from recsys.warehouse.windows import open_window, reconcile_window

    settings = Settings(
        home=folder / "rows",
        pseudonym_key="a key that only benchmarks use",
        validation=ValidationSettings(valid_share=ValidShareBounds(fail_min=None)),
    )
    window = open_window(engine, "nightly_training", run_key)
    validate_window(engine, window, settings, settings.data_docs)
    findings = []
    reconciliation = reconcile_window(engine, window.window_id)
    if not reconciliation.balanced or reconciliation.arrived != len(arrived):
        findings.append(Finding("lost_row", f"{len(arrived)} rows arrived: {reconciliation}"))
    with engine.connect() as connection:
        stored = (
            connection.execute(sa.text("SELECT *, occurred_at::text AS at FROM feedback")).mappings().all()
        )
        held = connection.execute(sa.text("SELECT * FROM quarantine")).mappings().all()
    reasons = {row["feedback_id"]: set(row["reasons"]) for row in held}
    valid = {row["feedback_id"] for row in stored}
    expected = _reasons(arrived, content)
    for row in arrived:
        key = row["feedback_id"]
        if (key in valid) + (key in reasons) != 1:
            findings.append(Finding("lost_row", f"{row} is in neither or both of feedback and quarantine"))
        elif reasons.get(key, set()) != expected[key]:
            findings.append(
                Finding(
                    "silent_change", f"{row} has {sorted(reasons.get(key, []))}, not {sorted(expected[key])}"
                )
            )
    kept = {row["feedback_id"]: row["feedback"] for row in held}
    for row in arrived:
        findings += _unchanged(row, kept[row["feedback_id"]]) if row["feedback_id"] in kept else []
    readable = [row for row in arrived if not expected[row["feedback_id"]] and row["user_id"] != "no consent"]
    try:
        snapshot = read_snapshot(take_full_snapshot(engine, window, settings))
    except NothingToDoError:
        return findings
    if sorted(snapshot.interactions()["feedback_id"].to_pylist()) != [row["feedback_id"] for row in readable]:
        findings.append(
            Finding(
                "lost_row", f"the snapshot has {snapshot.interactions().num_rows} rows, not {len(readable)}"
            )
        )
    if len(snapshot.catalogue()) != len(_KNOWN_ITEMS) + len(content["odd"]["items"]):
        findings.append(Finding("lost_row", f"the snapshot has {len(snapshot.catalogue())} items"))
    return findings


def _unchanged(row: Row, kept: Row) -> Iterable[Finding]:
    for name in ("event_id", "user_id", "item_id", "event_type", "comment", "impression_id"):
        if kept[name] != row[name]:
            yield Finding(
                "silent_change", f"quarantine keeps {name} {kept[name]!r:.100}, not {row[name]!r:.100}"
            )
    if row["value"] is not None and _number(row["value"]) != _number(kept["value"]):
        yield Finding("silent_change", f"quarantine keeps the value {kept['value']}, not {row['value']}")


def _number(value: Any) -> Any:
    number = float(value)
    return "NaN" if math.isnan(number) else number


def _reasons(arrived: list[Row], content: Row) -> dict[int, set[str]]:
    """State which rules of docs/validation.md each row breaks."""
    users = {*_KNOWN_USERS, *content["odd"]["users"]}
    items = {*_KNOWN_ITEMS, *content["odd"]["items"]}
    broken: dict[int, set[str]] = {
        row["feedback_id"]: set(_own_reasons(row, users, items, content)) for row in arrived
    }
    by_id: set[str] = set()
    by_content: set[tuple[Any, ...]] = set()
    opinions = defaultdict(list)
    for row in arrived:
        if row["event_id"] in by_id:
            broken[row["feedback_id"]].add("duplicate_event_id")
        by_id.add(row["event_id"])
        if row["occurred_at"] is None:
            continue
        place = (row["user_id"], row["item_id"], _instant(row["occurred_at"]))
        value = None if row["value"] is None else _number(row["value"])
        same = (*place, row["event_type"], value, row["comment"])
        if same in by_content:
            broken[row["feedback_id"]].add("duplicate_content")
        by_content.add(same)
        polarity, explicit, *_ = _TYPES.get(row["event_type"], (0, False))
        if explicit and polarity:
            opinions[place].append((polarity, row["feedback_id"]))
    for given in opinions.values():
        if len({polarity for polarity, _ in given}) > 1:
            for _, key in given:
                broken[key].add("contradictory")
    return broken


def _own_reasons(row: Row, users: set[str], items: set[str], content: Row) -> Iterable[str]:
    if row["user_id"] not in users:
        yield "unknown_user"
    if row["item_id"] not in items:
        yield "unknown_item"
    if row["event_type"] not in _TYPES:
        yield "unknown_event_type"
    else:
        polarity, _, low, high = _TYPES[row["event_type"]]
        value = None if row["value"] is None else float(row["value"])
        if value is None:
            wrong = low is not None
        else:
            wrong = not math.isfinite(value) or (
                low is not None and high is not None and not low <= value <= high
            )
        if wrong:
            yield "value_out_of_range"
        elif (
            value is not None
            and low is None
            and ((polarity > 0 and value <= 0) or (polarity < 0 and value == 0))
        ):
            yield "value_denies_event"
    moment = _instant(row["occurred_at"]) if row["occurred_at"] else None
    if moment != "far future" and not (isinstance(moment, datetime) and moment >= _EARLIEST):
        yield "malformed_time"
    if moment == "far future" or (
        isinstance(moment, datetime) and moment > datetime.now(UTC) + timedelta(days=1)
    ):
        yield "future_time"
    comment = row["comment"]
    if comment is not None and (len(comment) > _MAX_COMMENT or _CONTROL.search(comment)):
        yield "comment_too_long_or_binary"
    if row["impression_id"] in content["impressions"]:
        user, slate = content["impressions"][row["impression_id"]]
        if user != row["user_id"] or row["item_id"] not in slate:
            yield "item_never_shown"


def _instant(text: str) -> Any:
    if text.startswith("200000"):
        return "far future"
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text
