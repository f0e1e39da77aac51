"""An input of the fuzz run, what is found wrong with it, and how both are kept for a replay."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Fault = Literal["traceback", "silent_change", "lost_row", "needless_rejection"]
FAULTS: tuple[Fault, ...] = ("traceback", "silent_change", "lost_row", "needless_rejection")


@dataclass(frozen=True)
class Input:
    """Bytes that the product is given, and how."""

    kind: str
    """csv, tsv, jsonl, parquet, rows, payload, attributes or settings."""
    name: str
    """Name of the file."""
    content: bytes
    options: Mapping[str, Any] = field(default_factory=dict)
    """The table and the options of the load."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with the product's treatment of an input."""

    fault: Fault
    message: str


def keep(folder: Path, number: int, given: Input, findings: list[Finding]) -> None:
    """Write an input with its findings to a folder of its own, for `replay`."""
    place = folder / f"{number:06d}-{given.kind}"
    place.mkdir(parents=True, exist_ok=True)
    (place / given.name).write_bytes(given.content)
    about = {"kind": given.kind, "name": given.name, "options": dict(given.options)}
    found = [{"fault": finding.fault, "message": finding.message} for finding in findings]
    (place / "about.json").write_text(json.dumps(about | {"findings": found}, indent=2, ensure_ascii=False))


def kept(folder: Path) -> list[tuple[int, Input]]:
    """Return the inputs that `keep` wrote, with their numbers."""
    inputs = []
    for about in sorted(folder.glob("*/about.json")):
        stated = json.loads(about.read_text())
        content = (about.parent / stated["name"]).read_bytes()
        given = Input(stated["kind"], stated["name"], content, stated["options"])
        inputs.append((int(about.parent.name.partition("-")[0]), given))
    return inputs
