"""Copies of checkpoints on this machine, found without MLflow."""

import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from recsys.digests import digest_of, folder_digest
from recsys.registry.model_files import recorded_files
from recsys.settings import Settings

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint"
"""Name of a checkpoint's folder, and of the artifact of a version."""
CHECKPOINT_FOLDER = f"artifacts/{CHECKPOINT}"


def find_checkpoint(settings: Settings, version: str) -> Path | None:
    """Return the folder of a version's checkpoint; None: no sound copy is here.

    A copy is sound if its files have the digests that the warehouse holds for the version.
    """
    recorded = recorded_files(settings, version)
    if recorded is None or recorded.files is None:
        return None
    folder, digest = copy_of(settings, version, recorded.files)
    return folder if is_sound(folder, digest) else None


def copy_of(settings: Settings, version: str, files: Mapping[str, str]) -> tuple[Path, str]:
    """Return where the copy of a checkpoint is or will be, and its digest.

    Parameters
    ----------
    files
        Digests of all files of the version, by path.
    """
    digest = digest_of(
        {
            PurePosixPath(name).relative_to(CHECKPOINT_FOLDER).as_posix(): digest
            for name, digest in files.items()
            if PurePosixPath(name).is_relative_to(CHECKPOINT_FOLDER)
        }
    )
    return settings.runs / "checkpoints" / f"{version}-{digest[:16]}", digest


def is_sound(folder: Path, digest: str) -> bool:
    """Return whether the folder is there and has the digest; the log names one that is damaged."""
    if not folder.is_dir():
        return False
    if folder_digest(folder) == digest:
        return True
    logger.warning("%s is damaged and is downloaded again", folder)
    return False
