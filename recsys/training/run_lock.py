"""One training process at a time in a run's folder, which ends with the process that started it."""

import fcntl
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = "lock"
_ENDED_WITH_PARENT = 143  # what a shell reports for SIGTERM
_log = logging.getLogger("recsys.training")


@contextmanager
def hold_run_folder(folder: Path) -> Iterator[None]:
    """Wait until no other process trains in the folder, and keep others out until the block ends.

    The lock ends with its process, also after `kill -9`. The file that it is on stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            _log.info("waiting for %s, which trains in %s", file.read() or "another process", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def end_with_parent() -> None:
    """End this process when its standard input closes, because the process that started it is gone."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    # Not through sys.stdin: a thread that waits in its buffer is a fatal error when the interpreter ends.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(_ENDED_WITH_PARENT)
