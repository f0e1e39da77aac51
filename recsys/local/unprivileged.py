"""Start a program that refuses to run as root, when we are root.

The program runs under an unprivileged account. When the installation or the home folder is inside a folder
that only root may enter (`/root` is 0700), the process gets one capability that lets it through. The
permissions of existing folders are never changed.
"""

import os
import pwd
import shutil
from collections.abc import Iterable
from pathlib import Path

from recsys.errors import StackError

ACCOUNT = "nobody"
# Bit numbers in the kernel's capability sets.
_CAPABILITIES = {"dac_read_search": 2, "dac_override": 1}


def prefix_for_account(binary: Path, folders: Iterable[Path]) -> list[str]:
    """Return the words to put before a command so that it runs under the unprivileged account.

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
        `setpriv` is missing, or no capability is left that gives the account access.
    """
    if os.getuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(
            f"{binary.name} does not run as root, and `setpriv`, which starts it as {ACCOUNT}, is not "
            "installed: install the package util-linux, or run this command as an ordinary user"
        )
    account = pwd.getpwnam(ACCOUNT)
    words = [setpriv, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    if _everyone_may_enter([binary, *folders]):
        return [*words, "--inh-caps=-all"]
    capability = _capability_to_grant(binary)
    # Without this bit, access(2) ignores the capability, and initdb calls it before it starts the server.
    words.append("--securebits=+no_setuid_fixup")
    return [*words, f"--inh-caps=-all,+{capability}", f"--ambient-caps=+{capability}"]


def give_to_account(folder: Path) -> None:
    """Make the account the owner of a folder and its contents, when we are root."""
    if os.getuid() == 0:
        account = pwd.getpwnam(ACCOUNT)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


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
        f"{binary.name} does not run as root, and the account {ACCOUNT} cannot reach {binary} or its data: "
        "move the installation and RECSYS_HOME to folders that every user may enter, or run this command as "
        "an ordinary user"
    )
