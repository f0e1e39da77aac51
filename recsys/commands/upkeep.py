"""`recsys forget`, `readmit`, `rotate-keys`, `after-restore` and `recompute-analytics`."""

from typing import Annotated

import typer

from recsys.commands.engine import warehouse_engine
from recsys.errors import ConfigurationError
from recsys.settings import load_settings


def forget(
    user: Annotated[str, typer.Argument(metavar="USER", help="User id.", show_default=False)] = "",
    session: Annotated[
        str, typer.Option(help="Id of a session that nobody has joined, in place of a user id.")
    ] = "",
) -> None:
    """Erase a user from tables, recommendations, vectors, snapshots and evaluations; print a receipt.

    This cannot be undone. From now on no training uses the user's data. Models already trained on it are
    replaced by the next full fine-tune. The receipt counts the removed rows and does not name the user. The
    sessions that the user has joined are erased too.
    """
    from recsys.upkeep.erasure import erase_everywhere, find_receipt, request_erasure
    from recsys.warehouse.visitors import unjoined_visitor

    settings = load_settings()
    with warehouse_engine(settings) as engine:
        if bool(user) == bool(session):
            raise ConfigurationError("name whom to forget: either USER or --session ID")
        if session:
            user = unjoined_visitor(engine, session)
        request_id = request_erasure(engine, user)
        erase_everywhere(engine, settings)
        # Another process may have carried out the request.
        receipt = find_receipt(engine, request_id)
    if receipt is not None:
        typer.echo(receipt.model_dump_json(indent=2))
    else:
        typer.echo(
            "The user is removed from all tables, but the request is still open because a snapshot is being "
            "written or is damaged, a fine-tune keeps events on disk, or MLflow is unavailable. Housekeeping "
            "completes the request within a day; running this command again may do it sooner."
        )


def readmit(
    user: Annotated[str, typer.Argument(metavar="USER", help="User id.", show_default=False)],
) -> None:
    """Let a user who was erased and who returns be loaded again.

    Nothing that was erased comes back by this. Consent to training is recorded anew, with the user's row.
    """
    from recsys.warehouse.erased_users import readmit as readmit_user

    settings = load_settings()
    with warehouse_engine(settings) as engine:
        was_erased = readmit_user(engine, user, settings.tombstone_keys())
    typer.echo(
        "Rows of this user are loaded again from now on."
        if was_erased
        else "This user was not erased, so nothing has changed."
    )


def rotate_keys() -> None:
    """Replace the keyed hashes of all users after RECSYS_PSEUDONYM_KEY has changed.

    Before you run it, pause the DAGs, set the new key on every machine, and add the old one to
    RECSYS_PREVIOUS_PSEUDONYM_KEYS, which recognises users who were erased under it. The command deletes all
    snapshots, because they contain the old hashes. Run nightly_training afterwards.
    """
    from recsys.upkeep.key_rotation import rotate_user_keys

    settings = load_settings()
    with warehouse_engine(settings) as engine:
        report = rotate_user_keys(engine, settings)
    typer.echo(
        f"Gave {report.users} users new hashes and deleted {report.snapshots_removed} snapshots with old "
        "hashes. Run nightly_training next."
    )


def after_restore() -> None:
    """Prepare a warehouse restored from a dump: continue its transaction ids and grant role privileges.

    Run it once after pg_restore, before the DAGs start. Running it again changes nothing.
    """
    from recsys.upkeep.restore import continue_after_restore

    with warehouse_engine(load_settings()) as engine:
        report = continue_after_restore(engine)
    typer.echo(f"New feedback gets transaction ids from {report.first_new_id} (offset {report.offset}).")
    if report.rows_moved:
        typer.echo(f"Moved {report.rows_moved} rows written since the restore to the next window.")
    if report.roles_missing:
        typer.echo(f"An administrator must create these roles: {', '.join(report.roles_missing)}.")


def recompute_analytics() -> None:
    """Compute the stored analytics views from all rows.

    Every night and every publication refresh them from the slates and feedback that have changed. This is
    never needed, unless somebody has changed rows in a way that triggers do not see.
    """
    from recsys.warehouse.analytics import refresh_analytics

    with warehouse_engine(load_settings()) as engine:
        refreshed = refresh_analytics(engine, anew=True)
    typer.echo(f"{len(refreshed)} views are computed anew.")
