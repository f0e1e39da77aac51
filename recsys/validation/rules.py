"""Row rules: one SELECT of offending rows each, in `sql/rules/`."""

import re
from dataclasses import dataclass
from functools import cache

from recsys.errors import ConfigurationError
from recsys.settings import ValidationSettings
from recsys.warehouse.literals import render_literals
from recsys.warehouse.statements import read_statement, sql_path
from recsys.warehouse.windows import Window

_HEADER = re.compile(r"\A-- What: (?P<what>.+)\n-- Why: (?P<why>.+)\n-- Reason: (?P<reason>\w+)\n")
_BATCH = "{batch}"
_BATCH_QUERY = (
    "SELECT * FROM feedback"
    " WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id"
    " AND released_from IS NULL"
)


@dataclass(frozen=True)
class Rule:
    """A row rule.

    Attributes
    ----------
    name
        Name of the file and the reason given in quarantine.
    what, why
        What offends and why it matters, for people.
    statement
        SELECT of `feedback_id` and `reason` from `{batch}`, with `:name` parameters out of
        `ValidationSettings` and the window's bounds.
    """

    name: str
    what: str
    why: str
    statement: str

    def description(self, settings: ValidationSettings) -> str:
        """Return what offends and why, with the limits that are set."""
        limits = settings.model_dump()
        what = re.sub(r":(\w+)", lambda name: str(limits.get(name[1], name[0])), self.what)
        return f"{self.name}: {what} {self.why}"

    def render(self, window: Window, settings: ValidationSettings) -> str:
        """Return the statement with its parameters as literals and `{batch}` still in it."""
        parameters = {
            **settings.model_dump(),
            "lower_transaction_id": window.lower_transaction_id,
            "upper_transaction_id": window.upper_transaction_id,
        }
        return render_literals(self.statement, parameters)


@cache
def row_rules() -> tuple[Rule, ...]:
    """Return all rules of `sql/rules/`, by name."""
    return tuple(_read(path.stem) for path in sorted(sql_path("rules").glob("*.sql")))


def batch_query(window: Window) -> str:
    """Return the SELECT of the rows that rules judge: the window's, but not those that people released."""
    return render_literals(
        _BATCH_QUERY,
        {
            "lower_transaction_id": window.lower_transaction_id,
            "upper_transaction_id": window.upper_transaction_id,
        },
    )


def substitute_batch(statement: str, window: Window) -> str:
    """Put the window's rows in place of `{batch}`, as Great Expectations does: as a named sub-select."""
    return statement.replace(_BATCH, f"({batch_query(window)}) AS subselect")


def _read(name: str) -> Rule:
    text = read_statement(f"rules/{name}")
    header = _HEADER.match(text)
    if header is None or header["reason"] != name or _BATCH not in text:
        raise ConfigurationError(
            f"sql/rules/{name}.sql must begin with the comments What, Why and Reason: {name}, "
            f"and select from {_BATCH}"
        )
    body = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return Rule(name, header["what"].strip(), header["why"].strip(), body.strip())
