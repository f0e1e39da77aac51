"""Make inputs from a seed, and check each with the part of the product that it is for."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from benchmarks.fuzz.attributes import check_attributes, make_attributes
from benchmarks.fuzz.files import check_file
from benchmarks.fuzz.inputs import Finding, Input
from benchmarks.fuzz.payloads import ServedModel, check_payload, make_payload
from benchmarks.fuzz.rows import check_rows, make_rows
from benchmarks.fuzz.settings import check_settings, make_settings
from benchmarks.fuzz.write_files import make_file
from recsys.local.postgres import PostgresServer
from recsys.warehouse.engine import connect
from recsys.warehouse.migrate import upgrade_warehouse

_Maker = Callable[[Random, str], Input]
_MAKERS: dict[str, tuple[_Maker, int]] = {
    "csv": (make_file, 22),
    "tsv": (make_file, 12),
    "jsonl": (make_file, 15),
    "parquet": (make_file, 12),
    "payload": (make_payload, 8),
    "attributes": (make_attributes, 4),
    "settings": (make_settings, 6),
    "rows": (make_rows, 1),
}
"""By kind: what makes an input, and how many of eighty are of this kind."""
KINDS = tuple(_MAKERS)
_ORDER = [kind for kind, (_, share) in _MAKERS.items() for _ in range(share)]
_INPUTS_PER_DATABASE = 500
_TEMPLATE = "fuzz_template"


def make_input(seed: int, number: int) -> Input:
    """Return an input, which depends only on the seed and its number."""
    kind = kind_of(number)
    return _MAKERS[kind][0](Random(f"{seed}/{number}"), kind)


def kind_of(number: int) -> str:
    """Return the kind of the input with this number."""
    # 37 and the length have no common factor: all kinds come early, in their shares.
    return _ORDER[number * 37 % len(_ORDER)]


class Fuzz:
    """The parts of the product that inputs are given to, in a folder; started when first needed."""

    def __init__(self, folder: Path, server: PostgresServer | None = None) -> None:
        self._folder = folder
        self._server = server
        self._engine: sa.Engine | None = None
        self._made = 0
        self._model: ServedModel | None = None
        self._open = ExitStack()

    def check(self, given: Input) -> list[Finding]:
        """Give an input to the product; return what is wrong."""
        if given.kind == "settings":
            return check_settings(self._folder, given)
        if given.kind == "payload":
            self._model = self._model or ServedModel(self._folder / "served")
            return check_payload(self._model, given)
        if given.kind == "attributes":
            return check_attributes(self._warehouse(), given)
        if given.kind == "rows":
            return check_rows(self._warehouse(), self._folder, self._made, given)
        return check_file(self._warehouse(), self._folder, given)

    def _warehouse(self) -> sa.Engine:
        """Return an engine on a warehouse; a new one from time to time, as strange times make partitions."""
        if self._server is None:
            self._folder.chmod(0o755)
            self._server = PostgresServer(
                self._folder / "postgres",
                settings={"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"},
            )
            self._server.start()
            self._open.callback(self._server.stop)
        if self._made == 0:
            self._server.create_database(_TEMPLATE)
            upgrade_warehouse(self._server.url(_TEMPLATE))
        if self._made % _INPUTS_PER_DATABASE == 0:
            if self._engine is not None:
                self._engine.dispose()
            name = f"fuzz_{self._made}"
            self._server.create_database(name, template=_TEMPLATE)
            self._engine = connect(self._server.url(name))
        self._made += 1
        assert self._engine is not None
        return self._engine

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._engine is not None:
            self._engine.dispose()
        self._open.close()
