"""Write the lines of a file that could not be loaded to a reject file."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from recsys.errors import IngestError
from recsys.warehouse.files.chunks import BadLine


class RejectFile:
    """JSON Lines file of rejected lines: `line`, `reason` and `text`. The first one creates the file.

    Lines hold ids and comments, so only the file's owner may read it.

    Parameters
    ----------
    path
        Path of the file. None: `NAME.rejected.jsonl` beside the file that is read.
    beside
        The file that is read.
    """

    def __init__(self, path: Path | None, beside: Path) -> None:
        self.path = path or beside.with_name(beside.name + ".rejected.jsonl")
        self.count = 0
        self._file: IO[str] | None = None
        if path is None:
            # A reject file of an earlier load would look like this load's.
            self.path.unlink(missing_ok=True)

    def write(self, lines: Iterable[BadLine]) -> None:
        """Append lines in the given order."""
        for bad in lines:
            if self._file is None:
                try:
                    self._file = self._create()
                except OSError as error:
                    raise IngestError(
                        f"the reject file {self.path} cannot be written: {error}; choose another path"
                    ) from error
            entry = {"line": bad.line, "reason": bad.reason, "text": bad.text}
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self.count += 1

    def _create(self) -> IO[str]:
        path = self.path.resolve()
        if path.exists() and not path.is_file():  # /dev/null or a pipe
            return path.open("w", encoding="utf-8", errors="backslashreplace")
        # An earlier file would keep its permissions and its owner.
        path.unlink(missing_ok=True)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        return os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
