"""Read text files in blocks of whole lines."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from recsys.errors import IngestError
from recsys.warehouse.files.chunks import BadLine, Chunk

BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 20
_MAX_QUOTED_BYTES = 16 << 20
_HEAD_BYTES = 8 << 20
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class LineFile:
    """Reader of blocks of whole lines from a plain or gzip-compressed file."""

    def __init__(self, path: Path, compressed: bool) -> None:
        self.path = path
        self.size = path.stat().st_size
        self._raw = path.open("rb")
        self._stream = cast("IO[bytes]", gzip.GzipFile(fileobj=self._raw) if compressed else self._raw)
        self._rest = b""
        self._too_long: list[int] = []

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
        if self._rest.startswith(_UTF_16) or b"\0" in self._rest[:4]:
            raise IngestError(
                f"{self.path} is UTF-16; write it as UTF-8, for example with `iconv -f UTF-16 -t UTF-8`"
            )
        line, _, self._rest = self._rest.partition(b"\n")
        line = line.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\r")
        if b"\r" in line:
            raise IngestError(
                f"{self.path}: lines end with CR alone; write LF, for example with `tr '\\r' '\\n'`"
            )
        return line

    def head(self, count: int) -> list[bytes]:
        """Return the first `count` lines, or those of the first 8 MiB if fewer, and close the file."""
        with self._raw:
            first = self.first_line()
            while self._rest.count(b"\n") < count and len(self._rest) < _HEAD_BYTES:
                if not (more := self._read()):
                    break
                self._rest += more
            return [first, *self._rest.split(b"\n")[: count - 1]]

    def blocks(
        self, first_line: int, whole: Callable[[bytes], int] | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Yield blocks that end with a line feed, each with the number of its first line.

        `whole` returns how many bytes of a block of lines are whole records; the others wait for the next
        block. The limit is 16 MiB, so that a quote that is never closed cannot swallow the file. Lines of
        more than 64 MiB are left out, see `lines_skipped`.
        """
        line = first_line
        skipping = False
        rest, self._rest = self._rest, b""
        with self._raw:
            while more := self._read():
                if skipping:
                    _, end, more = more.partition(b"\n")
                    if not end:
                        continue
                    skipping = False
                    line += 1
                rest += more
                cut = rest.rfind(b"\n") + 1
                if whole is not None and cut - (complete := whole(rest[:cut])) <= _MAX_QUOTED_BYTES:
                    cut = complete
                if cut:
                    block, rest = rest[:cut], rest[cut:]
                    yield line, block
                    line += block.count(b"\n")
                elif len(rest) > MAX_LINE_BYTES:
                    self._too_long.append(line)
                    rest, skipping = b"", True
        if rest:
            yield line, rest + b"\n"

    def lines_skipped(self) -> Iterator[Chunk]:
        """Yield a chunk without rows if lines were too long, after `blocks`."""
        if self._too_long:
            reason = f"is longer than {MAX_LINE_BYTES >> 20} MiB"
            yield Chunk({}, 0, lambda _: (0, ""), [BadLine(line, reason, "") for line in self._too_long])

    def _read(self) -> bytes:
        try:
            return self._stream.read(BLOCK_BYTES)
        except (OSError, EOFError) as error:
            raise IngestError(
                f"{self.path} cannot be read to its end: {error}; check that the file is complete"
            ) from error
