"""Start a program that refuses to run as root, when we are root.

The program runs under a user id that has no account and that nothing else uses. `nobody` would be no
protection: other services run as that account, and they could read the program's files and reach its socket.
When the installation or the home folder is inside a folder that only root may enter (`/root` is 0700), the
process gets one capability that lets it through. The permissions of existing folders are never changed.
"""

import contextlib
import grp
import os
import pwd
import shutil
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from recsys.errors import StackError

SHARED_ACCOUNT = "nobody"
"""For `initdb`, which wants to know the name of its user."""
# User ids that distributions leave to services without an account (systemd's DynamicUser).
_PRIVATE_IDS = range(61_184, 65_520)
# Bit numbers in the kernel's capability sets.
_CAPABILITIES = {"dac_read_search": 2, "dac_override": 1}


def private_id(folder: Path) -> int:
    """Return the user id under which the program that owns this folder runs; our own when we are not root.

    It stays the same for a folder that exists, also after it was moved.
    """
    if os.getuid() != 0:
        return os.getuid()
    with contextlib.suppress(FileNotFoundError):
        if (owner := folder.stat().st_uid) in _PRIVATE_IDS:
            return owner
    start = int.from_bytes(sha256(os.fsencode(folder.resolve())).digest()[:8])
    candidates = (_PRIVATE_IDS[(start + step) % len(_PRIVATE_IDS)] for step in range(len(_PRIVATE_IDS)))
    return next(number for number in candidates if not _has_account(number))


def shared_id() -> int:
    """Return the user id of the account that many services share; our own when we are not root."""
    return pwd.getpwnam(SHARED_ACCOUNT).pw_uid if os.getuid() == 0 else os.getuid()


def prefix_for_account(binary: Path, folders: Iterable[Path], user_id: int) -> list[str]:
    """Return the words to put before a command so that it runs under this user id.

    Parameters
    ----------
    binary
        Path of the program.
    folders
        Folders that the program must be able to reach.

    Returns
    -------
        A `setpriv` command; empty when we are not root.

    Raises
    ------
    StackError
        `setpriv` is missing, or no capability is left that gives the program access.
    """
    if os.getuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(
            f"{binary.name} does not run as root, and `setpriv`, which starts it as somebody else, is not "
            "installed: install the package util-linux, or run this command as an ordinary user"
        )
    words = [setpriv, f"--reuid={user_id}", f"--regid={user_id}", "--clear-groups"]
    if _everyone_may_enter([binary, *folders]):
        return [*words, "--inh-caps=-all"]
    capability = _capability_to_grant(binary)
    # Without this bit, access(2) ignores the capability, and initdb calls it before it starts the server.
    words.append("--securebits=+no_setuid_fixup")
    return [*words, f"--inh-caps=-all,+{capability}", f"--ambient-caps=+{capability}"]


def give_to(folder: Path, user_id: int) -> None:
    """Make this user id the owner of a folder and its contents, when we are root."""
    if os.getuid() == 0 and folder.stat().st_uid != user_id:
        # The folder comes last: if this is interrupted, the next call does it again.
        for path in (*folder.rglob("*"), folder):
            os.chown(path, user_id, user_id, follow_symlinks=False)


def _has_account(number: int) -> bool:
    for find in (pwd.getpwuid, grp.getgrgid):
        with contextlib.suppress(KeyError):
            find(number)
            return True
    return False


def _everyone_may_enter(paths: Iterable[Path]) -> bool:
    """Return whether every user may enter all parent folders of the paths."""
    parents = {parent for path in paths for parent in path.resolve().parents}
    return all(parent.stat().st_mode & 0o001 for parent in parents)


def _capability_to_grant(binary: Path) -> str:
    """Return the weakest sufficient capability that this process has; containers drop some."""
    held = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff:")
    )
    # dac_read_search does not allow executing a file that only its owner may execute.
    enough = ["dac_override"] if not binary.stat().st_mode & 0o001 else ["dac_read_search", "dac_override"]
    for name in enough:
        if held >> _CAPABILITIES[name] & 1:
            return name
    raise StackError(
        f"{binary.name} does not run as root, and another user cannot reach {binary} or its data: "
        "move the installation and RECSYS_HOME to folders that every user may enter, or run this command as "
        "an ordinary user"
    )
