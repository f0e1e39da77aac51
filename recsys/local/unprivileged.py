"""How root starts a program that refuses to run as root.

The program runs as an unprivileged account. Where the checkout or the home folder lies behind a
folder that only root may enter (`/root` is 0700), the account is lent one capability, to pass
through folders; permissions of folders that are not ours are never changed.
"""

import os
import pwd
import shutil
from collections.abc import Iterable
from pathlib import Path

from recsys.errors import StackError

ACCOUNT = "nobody"
# Their bits in the kernel's capability sets.
_CAPABILITIES = {"dac_read_search": 2, "dac_override": 1}


def prefix_for_account(binary: Path, folders: Iterable[Path]) -> list[str]:
    """Return what to put before a command so that it runs as the unprivileged account.

    Parameters
    ----------
    binary
        The program.
    folders
        What the program must be able to reach besides itself.

    Returns
    -------
        Nothing when we are not root ourselves, else the words of a `setpriv` command.
    """
    if os.getuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(
            f"{binary.name} does not run as root and `setpriv` (package util-linux), which would start it as "
            f"{ACCOUNT}, is not installed: install it, or run this as an ordinary user"
        )
    account = pwd.getpwnam(ACCOUNT)
    words = [setpriv, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    if _anyone_may_pass([binary, *folders]):
        return [*words, "--inh-caps=-all"]
    capability = _capability_to_lend(binary)
    # Without that bit access(2), which initdb asks before it starts the server, forgets the capability.
    words.append("--securebits=+no_setuid_fixup")
    return [*words, f"--inh-caps=-all,+{capability}", f"--ambient-caps=+{capability}"]


def give_to_account(folder: Path) -> None:
    """Make the account the owner of a folder and all in it, when we are root."""
    if os.getuid() == 0:
        account = pwd.getpwnam(ACCOUNT)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _anyone_may_pass(paths: Iterable[Path]) -> bool:
    """Whether every folder above the paths lets everybody through."""
    parents = {parent for path in paths for parent in path.resolve().parents}
    return all(parent.stat().st_mode & 0o001 for parent in parents)


def _capability_to_lend(binary: Path) -> str:
    """Return the least capability that we hold (containers drop some) and that is enough."""
    held = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff:")
    )
    # Reading everywhere does not include executing a file that only its owner may execute.
    enough = ["dac_override"] if not binary.stat().st_mode & 0o001 else ["dac_read_search", "dac_override"]
    for name in enough:
        if held >> _CAPABILITIES[name] & 1:
            return name
    raise StackError(
        f"{binary.name} does not run as root, and the account {ACCOUNT} cannot reach {binary} or its data: "
        "put the checkout and RECSYS_HOME where every user may enter, or run this as an ordinary user"
    )
