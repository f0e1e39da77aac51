"""Run Great Expectations on a window: row rules give warnings, table expectations can stop a run.

Great Expectations validates two batches. The first, in Postgres, is the violations of the row rules: it
expects none of any rule. The second is one row with the figures of the window: it expects each to be within
its limits. The Data Docs show both.
"""

import contextlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Must be set before the import: Great Expectations would send usage statistics to its vendor.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
# It logs a line for every function that it registers.
logging.getLogger("great_expectations").setLevel(logging.ERROR)

import great_expectations as gx  # noqa: E402
import great_expectations.expectations as gxe  # noqa: E402
import pandas as pd  # noqa: E402
import sqlalchemy as sa  # noqa: E402
from great_expectations.core.run_identifier import RunIdentifier  # noqa: E402
from great_expectations.data_context.types.base import (  # noqa: E402
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.expectations.metadata_types import FailureSeverity  # noqa: E402

from recsys.errors import ServiceUnavailableError  # noqa: E402
from recsys.settings import ValidationSettings  # noqa: E402
from recsys.validation.measures import Measure  # noqa: E402
from recsys.validation.rules import Rule  # noqa: E402
from recsys.validation.violations import bounds  # noqa: E402
from recsys.warehouse.statements import read_statement, render_literals  # noqa: E402
from recsys.warehouse.windows import Window  # noqa: E402

WARNING = "warning"
CRITICAL = "critical"
_ROWS_THAT_BREAK = "SELECT feedback_id FROM {batch} WHERE :rule = ANY (reasons)"


@dataclass(frozen=True)
class Result:
    """Outcome of one expectation.

    Attributes
    ----------
    name
        Name of the row rule or of the table expectation.
    observed, expected
        Small JSON-ready dicts without personal data.
    """

    name: str
    success: bool
    severity: str
    observed: dict[str, Any]
    expected: dict[str, Any]


class WindowExpectations:
    """Great Expectations context of one window, which writes its Data Docs to `data_docs_dir`.

    As a context manager it closes its connections to the warehouse.
    """

    def __init__(
        self, engine: sa.Engine, window: Window, settings: ValidationSettings, data_docs_dir: Path
    ) -> None:
        self._window = window
        self._settings = settings
        self._data_docs_dir = data_docs_dir.resolve()
        self._context = gx.get_context(mode="ephemeral", project_config=_configuration(self._data_docs_dir))
        # Percent-encoded: the library would take some characters of a password for a substitution.
        url = engine.url.render_as_string(hide_password=False)
        self._warehouse = self._context.data_sources.add_postgres(
            "warehouse", connection_string=url, kwargs={"hide_parameters": True}
        )

    def __enter__(self) -> "WindowExpectations":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self._warehouse.get_execution_engine().engine.dispose()

    def validate_rows(self, rules: Sequence[Rule]) -> list[Result]:
        """Count in Postgres the recorded violations of each rule."""
        query = render_literals(read_statement("validation/select_violations"), bounds(self._window))
        # The library requires a query to begin with SELECT; ours begin with a comment.
        asset = self._warehouse.add_query_asset("violations", query=query[query.index("SELECT") :])
        batch = asset.add_batch_definition_whole_table("window")
        expectations = [
            gxe.UnexpectedRowsExpectation(
                unexpected_rows_query=render_literals(_ROWS_THAT_BREAK, {"rule": rule.name}),
                description=rule.description(self._settings),
                severity=WARNING,
            )
            for rule in rules
        ]
        outcome = self._run("row-rules", batch, expectations)
        by_query = {
            result.expectation_config.kwargs["unexpected_rows_query"]: result for result in outcome.results
        }
        return [
            Result(
                rule.name,
                bool(result.success),
                WARNING,
                {"unexpected_rows": int(result.result["observed_value"])},
                {"unexpected_rows": 0},
            )
            for rule, expectation in zip(rules, expectations, strict=True)
            for result in [by_query[expectation.unexpected_rows_query]]
        ]

    def validate_measures(self, measures: Sequence[Measure]) -> list[Result]:
        """Compare the figures of the window with their limits."""
        asset = self._context.data_sources.add_pandas("measures").add_dataframe_asset("figures")
        batch = asset.add_batch_definition_whole_dataframe("window")
        frame = pd.DataFrame([{measure.name: measure.value for measure in measures}], dtype=float)
        expectations = [expectation for measure in measures for expectation in _limits(measure)]
        outcome = self._run("table-expectations", batch, expectations, {"dataframe": frame})
        broken = {
            (
                result.expectation_config.kwargs["column"],
                FailureSeverity(result.expectation_config.severity).value,
            )
            for result in outcome.results
            if not result.success
        }
        return [_combined(measure, broken) for measure in measures]

    def write_data_docs(self) -> None:
        """Write the static site; its first page is `index.html`."""
        with _quiet():
            self._context.build_data_docs()
        # Every site would carry 4 MB of fonts and videos that no page shows.
        for file in (self._data_docs_dir / "static").rglob("*"):
            if file.is_file() and file.name != "favicon.ico":
                file.unlink()

    def _run(
        self,
        name: str,
        batch: Any,
        expectations: Sequence[Any],
        batch_parameters: dict[str, Any] | None = None,
    ) -> Any:
        suite = self._context.suites.add(gx.ExpectationSuite(name, expectations=list(expectations)))
        definition = self._context.validation_definitions.add(
            gx.ValidationDefinition(name=name, data=batch, suite=suite)
        )
        # SUMMARY keeps the rows themselves out of the results and so out of the Data Docs.
        with _quiet():
            outcome = definition.run(
                result_format="SUMMARY",
                batch_parameters=batch_parameters,
                run_id=RunIdentifier(run_name=f"window-{self._window.window_id}"),
            )
        for result in outcome.results:
            if failure := _failure(result.exception_info or {}):
                raise ServiceUnavailableError(
                    f"Great Expectations could not evaluate {result.expectation_config.description!r}: "
                    f"{failure}; run the task again"
                )
        return outcome


def _failure(exception_info: Mapping[str, Any]) -> str | None:
    """Return the message of an expectation that could not be evaluated.

    The library reports the error of a query by metric, and any other error directly.
    """
    direct = "raised_exception" in exception_info
    for info in [exception_info] if direct else exception_info.values():
        if info["raised_exception"]:
            return str(info["exception_message"])
    return None


def _limits(measure: Measure) -> list[Any]:
    """Return the expectations on a measure; if it does not apply, one that records the reason."""
    if measure.value is None:
        reason = f"{measure.name}: does not apply: {measure.not_applicable}."
        return [gxe.ExpectColumnValuesToBeNull(column=measure.name, severity=WARNING, description=reason)]
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column=measure.name,
            min_value=lowest,
            max_value=highest,
            severity=severity,
            description=f"{measure.name}: {measure.what} ({severity}).",
        )
        for severity, (lowest, highest) in (
            (WARNING, measure.bounds.limits("warn")),
            (CRITICAL, measure.bounds.limits("fail")),
        )
        if lowest is not None or highest is not None
    ]


def _combined(measure: Measure, broken: Collection[tuple[str, str]]) -> Result:
    """Combine the outcomes of the two expectations on a measure, warning and critical."""
    limits = measure.bounds.model_dump(exclude_none=True)
    fails = (measure.name, CRITICAL) in broken
    warns = (measure.name, WARNING) in broken
    can_fail = any(name.startswith("fail") for name in limits)
    return Result(
        measure.name,
        not (fails or warns),
        CRITICAL if fails or (can_fail and not warns) else WARNING,
        measure.observed,
        limits if measure.not_applicable is None else {"not_applicable": measure.not_applicable},
    )


def _configuration(data_docs_dir: Path) -> DataContextConfig:
    site = {
        "class_name": "SiteBuilder",
        "site_name": "feedback",
        "show_how_to_buttons": False,
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(data_docs_dir),
        },
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    return DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites={"feedback": site},
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Discard what the library prints, which would fill task logs."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
