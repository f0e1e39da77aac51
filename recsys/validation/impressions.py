"""Judge slates as they arrive, and keep from learning those that cannot be right.

A slate that breaks a rule stays in `impressions`, where feedback may name it, and gets a row in
`quarantined_impressions`. Who learns from slates leaves out those with such a row until it is released.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa

from recsys.errors import WarehouseError
from recsys.settings import ValidationSettings
from recsys.validation.rules import Rule, parse_rule
from recsys.warehouse.advisory_locks import block_partition_moves, lock
from recsys.warehouse.statements import read_statement, sql_path

KNOWN_LATER = ("unknown_item", "unknown_model_version")
"""Rules that a slate stops breaking when its items, or the version, are added."""
_BATCH = "{batch}"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgedImpressions:
    """Slates that were written by transactions below a bound and from the previous bound on.

    Attributes
    ----------
    arrived, quarantined
        Numbers of slates; the others are valid.
    """

    lower_transaction_id: int
    upper_transaction_id: int
    arrived: int
    quarantined: int


@cache
def impression_rules() -> tuple[Rule, ...]:
    """Return all rules of `sql/rules/impressions/`, sorted by name."""
    return tuple(
        parse_rule(path.stem, read_statement(f"rules/impressions/{path.stem}"))
        for path in sorted(sql_path("rules", "impressions").glob("*.sql"))
    )


def judge_impressions(engine: sa.Engine, settings: ValidationSettings) -> JudgedImpressions:
    """Quarantine the slates that break a rule, of those that have arrived since the last call.

    Each slate is judged once: those from the bound of the last call to the oldest transaction that is still
    open, in one transaction that records the new bound. Of two calls at once the second waits; a killed one
    has judged nothing.
    """
    with engine.begin() as connection:
        lock(connection, "judge impressions")
        block_partition_moves(connection)
        bounds = dict(
            connection.execute(sa.text(read_statement("validation/select_impression_bounds"))).one()._mapping
        )
        if bounds["lower_transaction_id"] == bounds["upper_transaction_id"]:
            return JudgedImpressions(**bounds, arrived=0, quarantined=0)
        row = connection.execute(sa.text(_judging(impression_rules())), settings.model_dump() | bounds).one()
    judged = JudgedImpressions(*row)
    if judged.quarantined:
        logger.warning(
            "%d of %d slates were quarantined; `recsys quarantine impressions` says why",
            judged.quarantined,
            judged.arrived,
        )
    return judged


def count_held(engine: sa.Engine) -> dict[str, int]:
    """Return the number of slates in quarantine by rule; a slate can break several."""
    with engine.connect() as connection:
        rows = connection.execute(sa.text(read_statement("validation/count_held_impressions")))
        return {row.reason: row.slates for row in rows}


def release_impressions(engine: sa.Engine, reason: str, settled_by: str) -> int:
    """Release slates that broke only this rule; return how many. No rule judges them again.

    Those whose items or version were unknown are released if they are known by now.

    Raises
    ------
    WarehouseError
        There is no such rule.
    """
    rules = {rule.name: rule for rule in impression_rules()}
    if reason not in rules:
        raise WarehouseError(f"there is no rule {reason!r} for slates; the rules are {', '.join(rules)}")
    still_broken = "SELECT NULL::text AS impression_id, NULL::timestamptz AS shown_at WHERE false"
    if reason in KNOWN_LATER:
        held = read_statement("validation/select_held_impressions")
        still_broken = rules[reason].statement.replace(_BATCH, f"({held})")
    statement = read_statement("validation/release_impressions").replace("{still_broken}", still_broken)
    with engine.begin() as connection:
        return connection.execute(sa.text(statement), {"reason": reason, "settled_by": settled_by}).rowcount


def _judging(rules: Sequence[Rule]) -> str:
    broken = "\nUNION ALL\n".join(f"({rule.statement})" for rule in rules)
    statement = read_statement("validation/judge_impressions").replace("{broken}", broken)
    return statement.replace(_BATCH, f"({read_statement('validation/select_arrived_impressions')})")
