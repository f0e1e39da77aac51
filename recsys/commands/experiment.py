"""`recsys experiment start`, `status` and `stop`."""

import getpass
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer
from rich.console import Console
from rich.table import Table

from recsys.commands.engine import warehouse_engine
from recsys.errors import ExperimentError, NothingToDoError
from recsys.settings import load_settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from recsys.experiments.experiment import Experiment
    from recsys.experiments.readout import Readout
    from recsys.settings import Settings

_WIDTH_WITHOUT_TERMINAL = 120  # columns; the table does not fit into rich's default of 80

_Actor = Annotated[
    str | None, typer.Option("--actor", help="Who decided. Default: your user name on this machine.")
]
_Publish = Annotated[
    bool,
    typer.Option(
        "--publish/--no-publish", help="Give users their lists now, or leave that to publish_recommendations."
    ),
]


def start(
    name: Annotated[str, typer.Argument(help="Name of the experiment.", show_default=False)],
    challenger: Annotated[
        str, typer.Argument(help="Model version to compare with the champion.", show_default=False)
    ],
    share: Annotated[
        float, typer.Option(help="Share of users who get the challenger's lists, 0 to 1. Small: a canary.")
    ] = 0.5,
    hold_out: Annotated[
        float, typer.Option(help="Share of users who get only what is trending and popular.")
    ] = 0.0,
    days: Annotated[int, typer.Option(help="Planned length. It may end on any earlier day.")] = 28,
    success: Annotated[
        list[str] | None, typer.Option(help="Metric to improve, repeatable. Default: click_through.")
    ] = None,
    guardrail: Annotated[
        list[str] | None,
        typer.Option(
            help="Metric that must not get worse and by which share it may, repeatable. Default: "
            "slates=0.05, and none with --interleave."
        ),
    ] = None,
    placement: Annotated[
        list[str] | None, typer.Option(help="Placement whose slates count, repeatable. Default: all.")
    ] = None,
    interleave: Annotated[
        bool,
        typer.Option(
            "--interleave",
            help="Let both versions pick the items of a list in turn: a first comparison that needs far "
            "fewer users. The only guardrail is dislikes.",
        ),
    ] = False,
    actor: _Actor = None,
    publish: _Publish = True,
) -> None:
    """Let users decide between the champion and another version: each user gets the lists of one of them."""
    from recsys.experiments import experiment as experiments

    if interleave and success:
        raise ExperimentError(
            "--success does not apply with --interleave: users prefer what one version picks or what the "
            "other does; leave it out"
        )

    settings = load_settings()
    with warehouse_engine(settings) as engine:
        started = experiments.start(
            engine,
            settings,
            name,
            challenger,
            share=share,
            hold_out=hold_out,
            placements=placement or (),
            success=success or experiments.SUCCESS,
            guardrails=None if guardrail is None else _margins(guardrail),
            days=days,
            interleave=interleave,
            actor=actor or getpass.getuser(),
            now=datetime.now(UTC),
        )
        typer.echo(
            f"Experiment {started.name} runs: version {started.challenger} {_how(started)} the champion. "
            "experiment_readout reads it every hour."
        )
        _publish(engine, settings, publish)


def status() -> None:
    """Show the newest experiment and what the last look at it found. The exit code is 1 if there is none."""
    from recsys.experiments.experiment import latest
    from recsys.experiments.readout import latest_readout

    with warehouse_engine(load_settings()) as engine, engine.connect() as connection:
        found = latest(connection, 1)
        if not found:
            typer.echo("There is no experiment. Start one with `recsys experiment start`.")
            raise typer.Exit(1)
        experiment = found[0]
        readout = latest_readout(connection, experiment.experiment_id)
    since = (
        "not shown yet" if experiment.shown_since is None else f"shown since {experiment.shown_since:%F %R}"
    )
    typer.echo(
        f"{experiment.name}: version {experiment.challenger} {_how(experiment)} the champion, {since}, "
        f"{experiment.days} days planned."
    )
    if experiment.outcome is not None:
        typer.echo(f"Ended {experiment.ended_at:%F %R} ({experiment.outcome}): {experiment.explanation}")
    if readout is None:
        typer.echo("Nobody has looked at it yet.")
    else:
        console = Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
        console.print(_table(readout), highlight=False)


def stop(
    name: Annotated[str, typer.Argument(help="Name of the experiment.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why. It is recorded in the ledger.")],
    actor: _Actor = None,
    publish: _Publish = True,
) -> None:
    """End an experiment; all users get the champion's lists again."""
    from recsys.experiments.experiment import stop as stop_experiment

    settings = load_settings()
    with warehouse_engine(settings) as engine:
        stop_experiment(
            engine, name=name, reason=reason, actor=actor or getpass.getuser(), now=datetime.now(UTC)
        )
        typer.echo(f"Experiment {name} has ended.")
        _publish(engine, settings, publish)


def _how(experiment: "Experiment") -> str:
    return "interleaved with" if experiment.kind == "interleave" else "against"


def _margins(guardrails: list[str]) -> dict[str, float]:
    margins = {}
    for text in guardrails:
        metric, _, margin = text.partition("=")
        try:
            margins[metric] = float(margin)
        except ValueError as error:
            raise ExperimentError(f"guardrail {text!r} is not METRIC=SHARE, such as slates=0.05") from error
    return margins


def _publish(engine: "sa.Engine", settings: "Settings", publish: bool) -> None:
    from recsys.publishing.publish import publish as publish_now

    if not publish:
        typer.echo("Users see it after publish_recommendations has run.")
        return
    try:
        summary = publish_now(engine, settings, run_key=f"recsys experiment/{uuid4()}")
    except NothingToDoError as nothing:
        typer.echo(f"There is nothing to publish: {nothing}.")
        return
    typer.echo(f"Published recommendations for {summary.users} users ({summary.seconds:.0f} s).")


def _table(readout: "Readout") -> Table:
    users = ", ".join(f"{arm.replace('_', ' ')} {number:,}" for arm, number in readout.users.items())
    table = Table(
        title=f"{min(readout.share, 1):.0%} of the planned time; users: {users}", title_justify="left"
    )
    for heading in ("Metric", "Role", "Control", "Challenger", "Difference", "Interval", "Verdict"):
        table.add_column(heading)

    def figure(value: float | None, form: str = ".4f") -> str:
        return "-" if value is None else format(value, form)

    for reading in readout.readings:
        table.add_row(
            reading["metric"],
            reading["role"],
            figure(reading["control"]),
            figure(reading["challenger"]),
            figure(reading["difference"], "+.4f"),
            f"{figure(reading['low'], '+.4f')} to {figure(reading['high'], '+.4f')}",
            reading["verdict"].replace("_", " "),
        )
    return table
