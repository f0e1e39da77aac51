"""Tables for a terminal that compare two model versions."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from recsys.promotion.compare import PairedMetrics, VersionComparison


def comparison_tables(compared: VersionComparison) -> Iterator[RenderableType]:
    """Yield tables of origin, metrics on the same feedback, each version's metrics, and changed settings."""
    first, second = compared.versions
    origin = _table("Origin", "", f"version {first}", f"version {second}")
    for name, values in compared.origin.items():
        origin.add_row(name, *(escape(_short(value)) for value in values))
    origin.add_row("lineage", *(" < ".join(versions) for versions in compared.lineage))
    yield origin
    if compared.paired is None:
        yield (
            "\nThese versions were never evaluated on the same feedback, so their metrics do not compare.\n"
            "`recsys compare A B --evaluate` evaluates both on feedback that neither was trained on."
        )
    else:
        yield from _paired(compared.paired, first, second)
    if compared.metrics:
        own = _table(
            "Each version as a candidate, on its own held-out feedback",
            "slice",
            "metric",
            f"version {first}",
            f"version {second}",
        )
        for (part, metric), figures in compared.metrics.items():
            own.add_row(
                escape(part), metric, *("-" if value is None else f"{value:.4f}" for value in figures)
            )
        yield own
    if compared.settings:
        changed = _table("Settings that differ", "setting", f"version {first}", f"version {second}")
        for name, values in compared.settings.items():
            changed.add_row(name, *map(escape, values))
        yield changed
    else:
        yield "\nBoth were trained with the same settings."


def _paired(paired: PairedMetrics, first: str, second: str) -> Iterator[RenderableType]:
    title = f"On the same feedback: {paired.users:,} users, {paired.source}"
    table = _table(title, "metric", f"version {first}", f"version {second}", "difference", "interval")
    for metric, difference in paired.difference.items():
        table.add_row(
            metric,
            f"{paired.first[metric]:.4f}",
            f"{paired.second[metric]:.4f}",
            f"{difference.value:+.4f}",
            f"{difference.low:+.4f} to {difference.high:+.4f}",
        )
    yield table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _short(value: str) -> str:
    return f"{value[:12]}..." if len(value) == 64 and value.isalnum() else value
