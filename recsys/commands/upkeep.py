"""`recsys after-restore` and `recsys rotate-keys`."""

import typer


def after_restore() -> None:
    """After restoring a dump: let new feedback follow the restored one, and grant roles their rights."""
    from recsys.settings import load_settings
    from recsys.upkeep.restore import continue_after_restore
    from recsys.warehouse.engine import connect

    engine = connect(load_settings().require_warehouse_url())
    report = continue_after_restore(engine)
    engine.dispose()
    typer.echo(f"New feedback gets transaction ids from {report.first_new_id} on (offset {report.offset}).")
    if report.rows_moved:
        typer.echo(f"{report.rows_moved} rows written since the restore were moved to the next window.")
    if report.roles_missing:
        typer.echo(f"Roles that an administrator must make: {', '.join(report.roles_missing)}.")


def rotate_keys() -> None:
    """Give users new names outside the warehouse, from a new RECSYS_PSEUDONYM_KEY; pause the DAGs before.

    Set the new key everywhere first. Snapshots, which have the old names, are removed, so nightly_training
    has to run next.
    """
    from recsys.settings import load_settings
    from recsys.upkeep.key_rotation import rotate_user_keys
    from recsys.warehouse.engine import connect

    settings = load_settings()
    engine = connect(settings.require_warehouse_url())
    report = rotate_user_keys(engine, settings)
    engine.dispose()
    typer.echo(
        f"{report.users} users have new names; {report.snapshots_removed} snapshots with the old ones were "
        "removed. Run nightly_training next."
    )
