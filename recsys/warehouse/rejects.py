"""The file of lines that could not be loaded."""

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from recsys.errors import IngestError
from recsys.warehouse.files.chunks import BadLine


class RejectFile:
    """Collects bad lines as JSONL of `line`, `reason` and `text`; created with the first of them.

    Parameters
    ----------
    path
        Where to write; None: beside the file that is read, as `NAME.rejected.jsonl`.
    beside
        The file that is read.
    """

    def __init__(self, path: Path | None, beside: Path) -> None:
        self.path = path or beside.with_name(beside.name + ".rejected.jsonl")
        self.count = 0
        self._file: IO[str] | None = None
        if path is None:
            # One that an earlier load of the same file left would be taken for this load's.
            self.path.unlink(missing_ok=True)

    def write(self, lines: Iterable[BadLine]) -> None:
        """Append lines, in the order given."""
        for bad in lines:
            if self._file is None:
                try:
                    self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace")
                except OSError as error:
                    raise IngestError(
                        f"the reject file {self.path} cannot be written: {error}; name another one"
                    ) from error
            entry = {"line": bad.line, "reason": bad.reason, "text": bad.text}
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
