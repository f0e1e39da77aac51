"""Row rules: each is one SELECT in `sql/rules/` of the rows that break it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from recsys.errors import ConfigurationError
from recsys.settings import ValidationSettings
from recsys.warehouse.statements import read_statement, render_literals, sql_path

_HEADER = re.compile(
    r"\A-- What: (?P<what>.+)\n-- Why: (?P<why>.+)\n-- Reason: (?P<reason>\w+)\n"
    r"-- Scan: (?P<scan>shared|own)\n(?:-- Noise: (?P<noise>yes)\n)?(?:-- Earlier: (?P<earlier>yes)\n)?"
)
_SHARED = re.compile(
    r"\ASELECT batch\.feedback_id, '(?P<reason>\w+)' AS reason\nFROM \{batch\} AS batch\n"
    r"WHERE (?P<condition>.+)\Z",
    re.DOTALL,
)
_BATCH = "{batch}"
_RELATED = "{related}"
PUSHED = "pushed_by_newcomers"
"""Rule whose rows do not count against a window: an attack that was found must not stop the loop."""
RELATED_TABLE = "related_feedback"
"""Temporary table that takes the place of `{related}` in rules."""


@dataclass(frozen=True)
class Rule:
    """A row rule.

    Attributes
    ----------
    name
        Name of the file, and the reason recorded in quarantine.
    what, why
        Which rows break the rule and why that matters, in words.
    statement
        SELECT of `feedback_id` and `reason`, and of `earlier_transaction_id` if `reads_earlier`. Its `:name`
        parameters are fields of `ValidationSettings` and the window's bounds. It reads `{batch}`
        (`sql/validation/select_batch.sql`) or, to compare rows that may repeat or contradict each other,
        `{related}` (`sql/validation/select_related.sql`).
    condition
        SQL condition under which a row of the batch breaks the rule, for rules that look at one row at a
        time. These rules share one scan of the window. None: the statement runs by itself.
    is_noise
        Whether the rows may stay in feedback with a lower weight instead of going to quarantine.
    reads_earlier
        Whether rows of earlier windows can be among the rows. It names their transaction ids.
    """

    name: str
    what: str
    why: str
    statement: str
    condition: str | None
    is_noise: bool
    reads_earlier: bool

    def description(self, settings: ValidationSettings) -> str:
        """Return `what` and `why` with the current limits filled in."""
        limits = settings.model_dump()
        what = re.sub(r":(\w+)", lambda name: str(limits.get(name[1], name[0])), self.what)
        return f"{self.name}: {what} {self.why}"


@cache
def row_rules() -> tuple[Rule, ...]:
    """Return all rules of `sql/rules/`, sorted by name."""
    return tuple(
        parse_rule(path.stem, read_statement(f"rules/{path.stem}"))
        for path in sorted(sql_path("rules").glob("*.sql"))
    )


def down_weighted(rules: Sequence[Rule], settings: ValidationSettings) -> list[str]:
    """Return the names of the rules whose rows stay in feedback with a lower weight."""
    return [rule.name for rule in rules if rule.is_noise and settings.noisy_feedback == "down_weight"]


def broken_rules_query(rules: Sequence[Rule], parameters: Mapping[str, Any]) -> str:
    """Return one SELECT of `feedback_id`, `reason` and `earlier_transaction_id` for all rules.

    Parameters are written into it as literals. `earlier_transaction_id` is null for rows of the window. Rules
    that look at one row at a time are evaluated together in one scan of the window.
    """
    shared = [rule for rule in rules if rule.condition is not None]
    of_window = [rule.statement for rule in rules if rule.condition is None and not rule.reads_earlier]
    if shared:
        of_window.insert(0, _one_scan(shared))
    statements = [rule.statement for rule in rules if rule.reads_earlier]
    if of_window:
        together = "\nUNION ALL\n".join(f"({statement})" for statement in of_window)
        columns = "feedback_id, reason, CAST(NULL AS bigint) AS earlier_transaction_id"
        statements.insert(0, f"SELECT {columns} FROM ({together}) AS of_window")  # noqa: S608
    query = "\nUNION ALL\n".join(f"({statement})" for statement in statements)
    return _with_batch(query, parameters)


def scan_query(rules: Sequence[Rule], parameters: Mapping[str, Any]) -> str:
    """Return one SELECT that counts the violations of each rule that looks at one row at a time."""
    counts = ",\n".join(
        f"count(*) FILTER (WHERE {rule.condition}\n) AS {rule.name}"
        for rule in rules
        if rule.condition is not None
    )
    return _with_batch(f"SELECT {counts}\nFROM {_BATCH} AS batch", parameters)


def parse_rule(name: str, text: str) -> Rule:
    """Parse a rule file; raise ConfigurationError if its header or its shape is wrong."""
    header = _HEADER.match(text)
    if header is None or header["reason"] != name:
        raise ConfigurationError(
            f"sql/rules/{name}.sql must begin with the lines `-- What: ...`, `-- Why: ...`, "
            f"`-- Reason: {name}` and `-- Scan: shared` or `-- Scan: own`; add `-- Noise: yes` if its rows "
            "may stay with a lower weight, and `-- Earlier: yes` if it names rows of earlier windows"
        )
    statement = text[header.end() :].strip()
    condition = None
    if header["scan"] == "shared":
        shape = _SHARED.match(statement)
        if shape is None or shape["reason"] != name:
            raise ConfigurationError(
                f"sql/rules/{name}.sql says `-- Scan: shared`, so it must read `SELECT batch.feedback_id, "
                f"'{name}' AS reason` / `FROM {{batch}} AS batch` / `WHERE ...`; any other SELECT needs "
                "`-- Scan: own`"
            )
        condition = shape["condition"]
    return Rule(
        name=name,
        what=header["what"],
        why=header["why"],
        statement=statement,
        condition=condition,
        is_noise=header["noise"] is not None,
        reads_earlier=header["earlier"] is not None,
    )


def _with_batch(query: str, parameters: Mapping[str, Any]) -> str:
    with_rows = query.replace(_BATCH, f"({read_statement('validation/select_batch')})")
    return render_literals(with_rows.replace(_RELATED, RELATED_TABLE), parameters)


def _one_scan(rules: Sequence[Rule]) -> str:
    reasons = ",\n".join(f"CASE WHEN {rule.condition}\n THEN '{rule.name}' END" for rule in rules)
    conditions = "\nOR ".join(f"({rule.condition}\n)" for rule in rules)
    return (
        f"SELECT batch.feedback_id, unnest(array_remove(ARRAY[{reasons}], NULL)) AS reason\n"
        f"FROM {_BATCH} AS batch\nWHERE {conditions}"
    )
