"""What every view of the schema `analytics` must show, computed from the tables alone in plain Python."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]
"""Rows of each table by its name."""

TABLES = (
    *("items", "users", "feedback", "event_types", "impressions", "windows", "quarantine", "snapshots"),
    *("erased_feedback", "model_evaluations", "promotion_ledger", "publications", "recommendation_lists"),
    *("user_vectors", "item_vectors", "comment_sentiment", "item_phrases", "alerts", "superiority_tests"),
    "champion_comparisons",
    "monitored_figures",
    "experiments",
    "searches",
)


def grouped(rows: Iterable[Row], *columns: str) -> dict[Any, list[Row]]:
    """Group rows by one column, or by a tuple of several."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        key = tuple(row[column] for column in columns)
        groups[key if len(key) > 1 else key[0]].append(row)
    return groups


def day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def people(rows: Iterable[Row]) -> int:
    return len({row["user_id"] for row in rows})


def enough(rows: Iterable[Row]) -> bool:
    """Whether these events are of five people, the fewest of whom a view shows anything."""
    return people(rows) >= 5


def count(rows: Iterable[Row]) -> int | None:
    """Return the number of events, None if they are of one to four people."""
    given = list(rows)
    return len(given) if not given or enough(given) else None


def opinion(rows: Iterable[Row]) -> float | None:
    """Return the mean value of people's events, None if they are fewer than five people."""
    given = list(rows)
    return mean(row["value"] for row in given) if enough(given) else None


def start_of_day(moment: datetime | None) -> datetime | None:
    return None if moment is None else datetime.combine(day(moment), datetime.min.time(), UTC)


def percentile(rows: Iterable[Row], column: str, share: float) -> float | None:
    known = [row for row in rows if row[column] is not None]
    return float(np.quantile([row[column] for row in known], share)) if enough(known) else None


def gini(counts: Sequence[int]) -> float:
    """Half of the mean absolute difference of all pairs, relative to the mean."""
    array = np.asarray(counts, dtype=float)
    return float(np.abs(array[:, None] - array[None, :]).mean() / (2 * array.mean()))


def feedback_by_day(tables: Tables) -> list[dict[str, Any]]:
    dated = [{**row, "day": day(row["occurred_at"])} for row in tables["feedback"]]
    return [
        {
            "day": when,
            "event_type": event_type,
            "events": len(rows),
            "users": people(rows),
            "items": len({row["item_id"] for row in rows}),
            "comments": count(row for row in rows if row["comment"]),
            "average_value": opinion(row for row in rows if row["value"] is not None),
        }
        for (when, event_type), rows in grouped(dated, "day", "event_type").items()
        if enough(rows)
    ]


def rating_distribution(tables: Tables) -> list[dict[str, Any]]:
    explicit = {row["event_type"] for row in tables["event_types"] if row["explicit"]}
    given = [row for row in tables["feedback"] if row["event_type"] in explicit and row["value"] is not None]
    total = Counter(row["event_type"] for row in given)
    return [
        {
            "event_type": event_type,
            "value": value,
            "events": len(rows),
            "share": len(rows) / total[event_type],
        }
        for (event_type, value), rows in grouped(given, "event_type", "value").items()
        if enough(rows)
    ]


def feedback_lag(tables: Tables) -> list[dict[str, Any]]:
    windows = {row["run_key"]: row for row in tables["windows"]}
    promotions = sorted(
        (row for row in tables["promotion_ledger"] if row["action"] == "promote"),
        key=lambda row: row["decided_at"],
    )
    lags = []
    for event in tables["feedback"]:
        arrived = event["received_at"]
        # The first champion whose window goes past the event knew it first.
        used = next(
            (
                row
                for row in promotions
                if windows[row["run_key"]]["upper_transaction_id"] > event["transaction_id"]
            ),
            None,
        )
        published = [
            row["published_at"]
            for row in tables["publications"]
            if used is not None
            and row["model_version"] == used["model_version"]
            and row["published_at"] >= used["decided_at"]
        ]

        def since_arrival(moment: datetime | None, arrived: datetime = arrived) -> float | None:
            return None if moment is None else (moment - arrived).total_seconds()

        lags.append(
            {
                "user_id": event["user_id"],
                "arrival_day": day(arrived),
                "late": day(arrived) > day(event["occurred_at"]),
                "to_arrival": (arrived - event["occurred_at"]).total_seconds(),
                "to_window": since_arrival(used and windows[used["run_key"]]["opened_at"]),
                "to_champion": since_arrival(used and used["decided_at"]),
                "to_published": since_arrival(min(published, default=None)),
            }
        )
    return [
        {
            "arrival_day": when,
            "events": len(rows),
            "late_events": count(row for row in rows if row["late"]),
            "waiting_events": count(row for row in rows if row["to_champion"] is None),
            "event_to_arrival_median": percentile(rows, "to_arrival", 0.5),
            "event_to_arrival_p95": percentile(rows, "to_arrival", 0.95),
            "arrival_to_window_median": percentile(rows, "to_window", 0.5),
            "arrival_to_champion_median": percentile(rows, "to_champion", 0.5),
            "arrival_to_champion_p95": percentile(rows, "to_champion", 0.95),
            "arrival_to_published_median": percentile(rows, "to_published", 0.5),
        }
        for when, rows in grouped(lags, "arrival_day").items()
        if enough(rows)
    ]


def cohort_retention(tables: Tables) -> list[dict[str, Any]]:
    weeks = defaultdict(set)
    for row in tables["feedback"]:
        when = day(row["occurred_at"])
        weeks[row["user_id"]].add(when - timedelta(days=when.weekday()))
    cohorts = Counter(min(theirs) for theirs in weeks.values())
    active = Counter(
        (min(theirs), (week - min(theirs)).days // 7) for theirs in weeks.values() for week in theirs
    )
    return [
        {
            "cohort_week": cohort,
            "weeks_after": after,
            "users": cohorts[cohort],
            "active_users": users,
            "retention": users / cohorts[cohort],
        }
        for (cohort, after), users in active.items()
        if users >= 5
    ]


def user_activity(tables: Tables) -> list[dict[str, Any]]:
    explicit = {row["event_type"] for row in tables["event_types"] if row["explicit"]}
    given = grouped(tables["feedback"], "user_id")
    groups = defaultdict(list)
    for user in tables["users"]:
        rows = given.get(user["user_id"], [])
        groups[user["consent"], 2 ** int(math.log2(len(rows))) if rows else 0].append(rows)
    return [
        {
            "consent": consent,
            "events_from": least,
            "events_to": max(2 * least - 1, 0),
            "users": len(users),
            "events": sum(map(len, users)),
            "explicit_events": count(row for rows in users for row in rows if row["event_type"] in explicit),
            "average_items": mean(len({row["item_id"] for row in rows}) for rows in users),
            "average_active_days": mean(len({day(row["occurred_at"]) for row in rows}) for rows in users),
        }
        for (consent, least), users in groups.items()
        if len(users) >= 5
    ]


def _ranks(tables: Tables) -> dict[str, list[int]]:
    """Return the ranks that each item has in users' lists."""
    ranks = defaultdict(list)
    for published in tables["recommendation_lists"]:
        for rank, item_id in enumerate(published["item_ids"], start=1):
            ranks[item_id].append(rank)
    return ranks


def item_popularity(tables: Tables) -> list[dict[str, Any]]:
    given, ranks = grouped(tables["feedback"], "item_id"), _ranks(tables)
    given = {item_id: rows for item_id, rows in given.items() if enough(rows)}
    ranks = {item_id: theirs for item_id, theirs in ranks.items() if len(theirs) >= 5}
    counts = {row["item_id"]: len(given.get(row["item_id"], [])) for row in tables["items"]}
    return [
        {
            "item_id": item["item_id"],
            "title": item["title"],
            "available": item["available"],
            "events": counts[item["item_id"]] or None,
            "users": people(rows) or None,
            "average_rating": opinion(row for row in rows if row["event_type"] == "rating"),
            "last_event_at": start_of_day(max((row["occurred_at"] for row in rows), default=None)),
            "popularity_rank": 1 + sum(other > counts[item["item_id"]] for other in counts.values()),
            "share_of_events": counts[item["item_id"]] / sum(counts.values()) if rows else None,
            "recommended_to_users": len(listed) or None,
            "average_recommended_rank": mean(listed),
        }
        for item in tables["items"]
        for rows in [given.get(item["item_id"], [])]
        for listed in [ranks.get(item["item_id"], [])]
    ]


def item_concentration(tables: Tables) -> list[dict[str, Any]]:
    catalogue = [row["item_id"] for row in tables["items"]]
    dated = [{**row, "month": day(row["occurred_at"]).replace(day=1)} for row in tables["feedback"]]
    months = {
        month: Counter(row["item_id"] for row in rows if row["item_id"] in catalogue)
        for month, rows in grouped(dated, "month").items()
        if enough(rows)
    }
    return [
        {
            "month": month,
            "events": counts.total(),
            "items": len(counts),
            "catalogue_items": len(catalogue),
            "coverage": len(counts) / len(catalogue),
            "gini": gini([counts[item_id] for item_id in catalogue]),
            "top_tenth_share": sum(n for _, n in counts.most_common(math.ceil(len(catalogue) / 10)))
            / counts.total(),
        }
        for month, counts in months.items()
    ]


def recommendation_coverage(tables: Tables) -> list[dict[str, Any]]:
    available = [row["item_id"] for row in tables["items"] if row["available"]]
    result = []
    for version, lists in grouped(tables["recommendation_lists"], "model_version").items():
        if not enough(lists):
            continue
        shown = Counter(item_id for row in lists for item_id in row["item_ids"])
        counts = [shown[item_id] for item_id in available]
        result.append(
            {
                "model_version": version,
                "users": len(lists),
                "recommended_items": sum(count > 0 for count in counts),
                "available_items": len(available),
                "coverage": sum(count > 0 for count in counts) / len(available),
                "gini": gini(counts),
                "last_published_at": max(row["published_at"] for row in lists),
            }
        )
    return result


def cold_items(tables: Tables) -> list[dict[str, Any]]:
    given, ranks = grouped(tables["feedback"], "item_id"), _ranks(tables)
    vectors = {row["item_id"] for row in tables["item_vectors"]}
    return [
        {
            "item_id": item["item_id"],
            "title": item["title"],
            "created_at": item["created_at"],
            "has_vector": item["item_id"] in vectors,
            "recommended_to_users": len(listed) or None,
            "best_rank": min(listed, default=None),
        }
        for item in tables["items"]
        for listed in [ranks[item["item_id"]] if len(ranks[item["item_id"]]) >= 5 else []]
        if item["available"] and not enough(given.get(item["item_id"], []))
    ]


def quarantine_by_reason(tables: Tables) -> list[dict[str, Any]]:
    reasons = defaultdict(list)
    for row in tables["quarantine"]:
        for reason in row["reasons"]:
            reasons[reason].append(row)
    return [
        {
            "reason": reason,
            "rows": len(rows),
            **{
                status: sum(row["status"] == status for row in rows)
                for status in ("held", "released", "discarded")
            },
            "first_quarantined_at": min(row["quarantined_at"] for row in rows),
            "last_quarantined_at": max(row["quarantined_at"] for row in rows),
        }
        for reason, rows in reasons.items()
    ]


def _happened(row: Row) -> datetime:
    """Return when an event happened, or arrived where its time cannot be real."""
    occurred, received = row["occurred_at"], row["received_at"]
    if isinstance(received, str):  # quarantine keeps the row as JSON
        received = datetime.fromisoformat(received)
        infinite = isinstance(occurred, str) and occurred.endswith("infinity")
        occurred = None if occurred is None or infinite else datetime.fromisoformat(occurred)
    return received if occurred is None else min(occurred, received)


def window_reconciliation(tables: Tables) -> list[dict[str, Any]]:
    result = []
    for window in tables["windows"]:

        def inside(row: Row, window: Row = window) -> bool:
            return window["lower_transaction_id"] <= row["transaction_id"] < window["upper_transaction_id"]

        valid = list(filter(inside, tables["feedback"]))
        held = list(filter(inside, tables["quarantine"]))
        duplicates = sum(all(reason.startswith("duplicate") for reason in row["reasons"]) for row in held)
        erased = sum(row["rows"] for row in filter(inside, tables["erased_feedback"]))
        moments = [
            _happened(row)
            for row in sorted(
                [*valid, *(row["feedback"] | {"transaction_id": row["transaction_id"]} for row in held)],
                key=lambda row: (row["transaction_id"], row["feedback_id"]),
            )
        ]
        closed = [
            min(filter(None, (earlier["interval_end"], earlier["opened_at"])))
            for earlier in tables["windows"]
            if earlier["consumer"] == window["consumer"] and earlier["window_id"] < window["window_id"]
        ]
        counts: dict[str, Any] = {
            "valid": len(valid),
            "quarantined": len(held) - duplicates,
            "duplicates": duplicates,
            "erased": erased,
            "missing": 0,
            "balanced": True,
            "late": sum(moment < max(closed) for moment in moments) if closed else 0,
            "out_of_order": sum(
                moment < max(moments[:place]) for place, moment in enumerate(moments) if place
            ),
        }
        if window["reconciled_at"] is None:
            counts = dict.fromkeys(counts)
        kept = (
            *("window_id", "consumer", "run_key", "interval_start", "interval_end", "opened_at"),
            "reconciled_at",
        )
        result.append(
            {
                **{column: window[column] for column in kept},
                "arrived": len(valid) + len(held) + erased,
                **counts,
                "validated_in_window_id": window["window_id"] if counts["valid"] is not None else None,
                "validation_failed": False,
            }
        )
    return result


def model_lineage(tables: Tables) -> list[dict[str, Any]]:
    result = []
    for version, decisions in grouped(tables["promotion_ledger"], "model_version").items():
        first = min(decisions, key=lambda row: row["ledger_id"])
        (window,) = (row for row in tables["windows"] if row["run_key"] == first["run_key"])
        snapshot = max(
            (
                row
                for row in tables["snapshots"]
                if row["window_id"] == window["window_id"] and row["created_at"] <= first["decided_at"]
            ),
            key=lambda row: row["snapshot_id"],
        )
        opponents = {
            row["model_version"]
            for row in tables["model_evaluations"]
            if row["run_key"] == first["run_key"] and row["scorer"] == "champion"
        }
        opponent = opponents.pop() if opponents else None
        published = [row["published_at"] for row in tables["publications"] if row["model_version"] == version]
        result.append(
            {
                "model_version": version,
                "kind": snapshot["kind"],
                "compared_with": opponent,
                "parent": opponent if snapshot["kind"] == "micro" else None,
                **{column: first[column] for column in ("decided_at", "action", "reason", "run_key")},
                "window_id": window["window_id"],
                "knows_below_transaction_id": window["upper_transaction_id"],
                "snapshot_rows": snapshot["rows"],
                "snapshot_digest": snapshot["digest"],
                "times_champion": sum(row["champion_sequence"] is not None for row in decisions),
                "first_published_at": min(published, default=None),
            }
        )
    return result


def model_metrics(tables: Tables) -> list[dict[str, Any]]:
    values = {
        (row["run_key"], row["slice"], row["metric"], row["scorer"]): row["value"]
        for row in tables["model_evaluations"]
    }

    def difference(row: Row, scorer: str) -> float | None:
        other = values.get((row["run_key"], row["slice"], row["metric"], scorer))
        return None if row["value"] is None or other is None else row["value"] - other

    kept = (
        *("run_key", "evaluated_at", "scorer", "model_version", "slice", "metric"),
        *("value", "low", "high", "users"),
    )
    return [
        {
            **{column: row[column] for column in kept},
            "difference_to_champion": difference(row, "champion"),
            "difference_to_popularity": difference(row, "popularity"),
        }
        for row in tables["model_evaluations"]
        if row["users"] >= 5
    ]


def promotion_history(tables: Tables) -> list[dict[str, Any]]:
    result, champion = [], None
    kept = (
        *("ledger_id", "decided_at", "action", "model_version", "previous_champion"),
        *("reason", "explanation", "checks", "actor"),
    )
    for row in sorted(tables["promotion_ledger"], key=lambda row: row["ledger_id"]):
        champion = row["model_version"] if row["action"] in ("promote", "roll_back") else champion
        result.append({**{column: row[column] for column in kept}, "champion_after": champion})
    return result


def champion_history(tables: Tables) -> list[dict[str, Any]]:
    changes = sorted(
        (row for row in tables["promotion_ledger"] if row["action"] in ("promote", "roll_back")),
        key=lambda row: row["decided_at"],
    )
    kept = ("champion_sequence", "model_version", "action", "reason", "explanation", "actor")
    return [
        {
            **{column: row[column] for column in kept},
            "valid_from": row["decided_at"],
            "valid_to": after["decided_at"] if after else None,
            "current": after is None,
        }
        for row, after in zip(changes, [*changes[1:], None], strict=True)
    ]


def publication_history(tables: Tables) -> list[dict[str, Any]]:
    kept = (
        *("publication_id", "published_at", "run_key", "model_version", "scope", "users", "items"),
        "through_transaction_id",
    )
    newest = max(row["published_at"] for row in tables["publications"])
    return [
        {**{column: row[column] for column in kept}, "latest": row["published_at"] == newest}
        for row in tables["publications"]
    ]


VIEWS: dict[str, Callable[[Tables], list[dict[str, Any]]]] = {
    view.__name__: view
    for view in (
        *(feedback_by_day, rating_distribution, feedback_lag, cohort_retention, user_activity),
        *(item_popularity, item_concentration, recommendation_coverage, cold_items, quarantine_by_reason),
        *(window_reconciliation, model_lineage, model_metrics, promotion_history, champion_history),
        publication_history,
    )
}
"""What each view that has something to show must show."""


def _commented_by_enough_people(tables: Tables) -> list[Row]:
    commented = grouped([row for row in tables["feedback"] if row["comment"]], "item_id")
    return [row for rows in commented.values() if enough(rows) for row in rows]


EMPTY: dict[str, Callable[[Tables], Sequence[Row]]] = {
    "champion_comparisons": lambda tables: tables["champion_comparisons"],
    "click_through_by_model": lambda tables: tables["impressions"],
    "click_through_by_position": lambda tables: tables["impressions"],
    "click_through_by_rule": lambda tables: [row for row in tables["impressions"] if row["rules"]],
    "click_through_by_slate": lambda tables: tables["impressions"],
    "comment_sentiment_by_item": _commented_by_enough_people,
    "monitored_figures": lambda tables: tables["monitored_figures"],
    "experiment_results": lambda tables: tables["experiments"],
    "experiment_days": lambda tables: tables["experiments"],
    "open_alerts": lambda tables: [row for row in tables["alerts"] if row["closed_at"] is None],
    "predicted_comment_sentiment": lambda tables: tables["comment_sentiment"],
    "item_phrases": lambda tables: tables["item_phrases"],
    "superiority_tests": lambda tables: tables["superiority_tests"],
    "tuning_trials": lambda tables: tables["searches"],
}
"""Views of data that MovieLens does not have, and the rows that they would show."""
