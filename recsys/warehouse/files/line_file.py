"""Read text files in blocks of whole lines."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from recsys.errors import IngestError

BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 20
_MAX_QUOTED_BYTES = 16 << 20


class LineFile:
    """Reader of blocks of whole lines from a plain or gzip-compressed file."""

    def __init__(self, path: Path, compressed: bool) -> None:
        self.path = path
        self.size = path.stat().st_size
        self._raw = path.open("rb")
        self._stream = cast("IO[bytes]", gzip.GzipFile(fileobj=self._raw) if compressed else self._raw)
        self._rest = b""

    def position(self) -> int:
        """Return how many bytes of the stored (possibly compressed) file have been read."""
        return self.size if self._raw.closed else self._raw.tell()

    def first_line(self) -> bytes:
        """Consume the first line; return it without line end and byte order mark."""
        while b"\n" not in self._rest and len(self._rest) <= MAX_LINE_BYTES:
            more = self._read()
            if not more:
                break
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\r")

    def head(self, count: int) -> list[bytes]:
        """Return the first `count` lines, or those of the first block if fewer, and close the file."""
        with self._raw:
            first = self.first_line()
            return [first, *self._rest.split(b"\n")[: count - 1]]

    def blocks(self, first_line: int, quoted: bool) -> Iterator[tuple[int, bytes]]:
        """Yield blocks that end with a line feed, each with the number of its first line.

        With `quoted`, a block does not end inside a quoted field. The limit is 16 MiB, so that a quote that
        is never closed cannot swallow the file.
        """
        line = first_line
        rest, self._rest = self._rest, b""
        with self._raw:
            while more := self._read():
                rest += more
                cut = rest.rfind(b"\n") + 1
                if quoted and rest.count(b'"', 0, cut) % 2:
                    before_quote = rest.rfind(b"\n", 0, rest.rfind(b'"', 0, cut)) + 1
                    if cut - before_quote <= _MAX_QUOTED_BYTES:
                        cut = before_quote
                if cut:
                    block, rest = rest[:cut], rest[cut:]
                    yield line, block
                    line += block.count(b"\n")
                elif len(rest) > MAX_LINE_BYTES:
                    limit = MAX_LINE_BYTES >> 20
                    raise IngestError(f"{self.path}: line {line} is longer than {limit} MiB; remove it")
        if rest:
            yield line, rest + b"\n"

    def _read(self) -> bytes:
        try:
            return self._stream.read(BLOCK_BYTES)
        except (OSError, EOFError) as error:
            raise IngestError(
                f"{self.path} cannot be read to its end: {error}; check that the file is complete"
            ) from error
