"""Record in the warehouse what each version was trained on, where nobody can change it unnoticed as a tag.

A micro-update knows what its parent knows, which knows what its own parent knows. So a version is recorded
with two bounds: what the full fine-tune that it descends from was trained on, and what it was trained on
itself.
"""

import json
from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from recsys.errors import RegistryError
from recsys.registry.tracking import RUN_KEY
from recsys.registry.versions import (
    KIND,
    LIVE_INTEREST,
    PARENT,
    TRAINED_THROUGH,
    TUNED_SETTINGS,
    RegisteredVersion,
    load_version,
)
from recsys.settings import Settings
from recsys.warehouse.tables import model_versions

_ANYTHING = (1 << 63) - 1


def record_knowledge(engine: sa.Engine, settings: Settings, registered: RegisteredVersion) -> None:
    """Record what a version was trained on, and its weights of live interest, unless it is recorded.

    Settings that a search found are recorded too.

    A version without this tag, or whose parent is neither recorded nor registered any more, is taken to know
    everybody.
    """
    version, parent = registered.version, registered.tags.get(PARENT)
    if version in recorded_versions(engine, [version]):
        return
    known = registered.trained_through.transaction_id if TRAINED_THROUGH in registered.tags else None
    if known is None:
        base = 0
    elif parent is None:
        base = known
    else:
        base = _base_of(engine, settings, parent)
    values = {
        "model_version": version,
        "kind": registered.tags.get(KIND, "full" if parent is None else "micro"),
        "parent": parent,
        "run_key": registered.tags.get(RUN_KEY),
        "base_transaction_id": base,
        "trained_transaction_id": _ANYTHING if known is None else known,
    }
    if TUNED_SETTINGS in registered.tags:
        values["tuned_settings"] = json.loads(registered.tags[TUNED_SETTINGS])
    live = json.loads(registered.tags.get(LIVE_INTEREST, "{}"))
    values |= {f"live_{name}": weight for name, weight in live.items()}
    with engine.begin() as connection:
        connection.execute(insert(model_versions).values(values).on_conflict_do_nothing())


def record_missing(engine: sa.Engine, settings: Settings, versions: Collection[str]) -> None:
    """Record those of these versions that are not recorded yet, such as an older release's, from their tags.

    Versions that the registry does not have either are left out.
    """
    for version in sorted(set(versions) - recorded_versions(engine, versions)):
        try:
            registered = load_version(settings, version)
        except RegistryError:
            continue
        record_knowledge(engine, settings, registered)


def recorded_versions(engine: sa.Engine, versions: Collection[str]) -> set[str]:
    """Return those of these versions that are recorded."""
    this = model_versions.c.model_version
    with engine.connect() as connection:
        return set(connection.scalars(sa.select(this).where(this == sa.any_(sa.literal(list(versions))))))


def _base_of(engine: sa.Engine, settings: Settings, version: str) -> int:
    record_missing(engine, settings, [version])
    statement = sa.select(model_versions.c.base_transaction_id).where(
        model_versions.c.model_version == version
    )
    with engine.connect() as connection:
        return int(connection.scalar(statement) or 0)
