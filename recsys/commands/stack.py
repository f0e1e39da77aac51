"""`recsys up`, `recsys status`, `recsys down`: start, show and stop the embedded stack."""

from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from recsys.commands.serve import DEFAULT_PORT
from recsys.local.state import ComponentPhase, ComponentState, StackPhase, StackState
from recsys.settings import load_settings

EXIT_NOT_HEALTHY, EXIT_STOPPED, EXIT_INTERRUPTED = 1, 3, 130

_COLOURS = {
    ComponentPhase.HEALTHY: "green",
    ComponentPhase.DONE: "green",
    ComponentPhase.STARTING: "yellow",
    ComponentPhase.RESTARTING: "yellow",
    ComponentPhase.UNHEALTHY: "red",
    ComponentPhase.FAILED: "red",
}

_PORT = "default: the last used port, the usual one, or any free port."


def up(
    schedules: Annotated[
        bool,
        typer.Option(
            help="Run DAGs on their schedules; otherwise only when triggered by a user or a new champion."
        ),
    ] = True,
    airflow_port: Annotated[int | None, typer.Option(help=f"Required port for Airflow; {_PORT}")] = None,
    mlflow_port: Annotated[int | None, typer.Option(help=f"Required port for MLflow; {_PORT}")] = None,
) -> None:
    """Start Postgres, MLflow and Airflow on this machine and print their addresses."""
    from recsys.local.packages import require_packages

    require_packages()
    from recsys.local.stack import stack_state, start_stack

    console = Console()
    home = load_settings().home
    before = stack_state(home)
    if before.supervisor_pid is not None:
        console.print(
            "The stack is already starting."
            if before.phase is StackPhase.STARTING
            else "The stack is already up."
        )
    elif before.phase is StackPhase.DEGRADED:
        console.print("Stopping processes that a killed stack left running.")
    try:
        with StackProgress(console) as progress:
            state = start_stack(
                home,
                schedules=schedules,
                progress=progress.show,
                airflow_port=airflow_port,
                mlflow_port=mlflow_port,
            )
    except KeyboardInterrupt:
        stopped = stack_state(home).phase is StackPhase.STOPPED
        outcome = "all components have been stopped." if stopped else "the stack is still running."
        console.print(f"[yellow]Interrupted:[/] {outcome}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    print_addresses(state, console)


def status() -> None:
    """Show every component. Exit codes: 0 healthy, 1 not healthy, 3 stopped."""
    from recsys.local.stack import stack_state

    console = Console()
    home = load_settings().home
    state = stack_state(home)
    if state.phase is StackPhase.STOPPED:
        console.print(f"The stack in {home.resolve()} is stopped; `recsys up` starts it.", soft_wrap=True)
        raise typer.Exit(EXIT_STOPPED)
    console.print(_table(state))
    message = f": {state.message}" if state.message else ""
    console.print(f"The stack in {home.resolve()} is {state.phase}{escape(message)}", soft_wrap=True)
    if state.components:
        console.print(f"Log files are in {state.components[0].log_file.parent}", soft_wrap=True)
    if state.phase is not StackPhase.HEALTHY:
        raise typer.Exit(EXIT_NOT_HEALTHY)


def down() -> None:
    """Stop every process of the stack. Data, logs and ports are kept."""
    from recsys.local.stack import stack_state, stop_stack

    console = Console()
    home = load_settings().home
    before = stack_state(home)
    if before.phase is StackPhase.STOPPED:
        console.print(f"The stack in {home.resolve()} is not running.", soft_wrap=True)
        return
    with StackProgress(console, shown=before) as progress:
        progress.show(stop_stack(home, progress.show))
    console.print("Stopped. The data is kept; `recsys up` starts the stack again.")


class StackProgress:
    """Progress display of the components: a live table on a terminal, otherwise one line per change.

    Parameters
    ----------
    shown
        State that was displayed before; only differences from it are printed.
    """

    def __init__(self, console: Console, shown: StackState | None = None) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=5, transient=True)
        self._shown = {component.name: component.phase for component in shown.components} if shown else {}

    def __enter__(self) -> "StackProgress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, state: StackState) -> None:
        """Display a new state."""
        if self._console.is_terminal:
            self._live.update(_table(state))
            return
        for component in state.components:
            if self._shown.get(component.name) is not component.phase:
                self._shown[component.name] = component.phase
                if component.phase is not ComponentPhase.WAITING:
                    self._console.print(f"{component.name}: {_description(component)}")


def print_addresses(state: StackState, console: Console) -> None:
    """Print the addresses of the stack and the credentials."""
    from recsys.local.home import StackHome

    home = StackHome(load_settings().home)
    secret = home.secrets()
    seconds = f" after {state.seconds_to_healthy:.0f} s" if state.seconds_to_healthy else ""
    lines = [
        f"The stack is {state.phase}{seconds}; `recsys down` stops it.",
        f"  Airflow    {state.airflow_url}  user {secret.airflow_user}, password {secret.airflow_password}",
        f"  MLflow     {state.mlflow_url}  user {secret.mlflow_user}, password {secret.mlflow_password}",
        f"  Warehouse  {state.warehouse_dsn}",
        f"  Try it     run `recsys serve`, then open http://127.0.0.1:{DEFAULT_PORT}/",
        f"  Settings   {home.env_file}",
        f"  Logs       {home.logs}",
    ]
    # No line breaks on a narrow terminal: users copy these lines.
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _table(state: StackState) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("component", "state", "pid", "restarts", "address", "log file"):
        table.add_column(column, overflow="fold")
    for component in state.components:
        colour = _COLOURS.get(component.phase, "dim")
        table.add_row(
            component.name,
            f"[{colour}]{escape(_description(component))}[/]",
            str(component.pid or ""),
            str(component.restarts or ""),
            escape(component.address),
            component.log_file.name,
        )
    return table


def _description(component: ComponentState) -> str:
    seconds = component.seconds_to_healthy
    took = f" ({seconds:.0f} s)" if component.is_ready and seconds is not None else ""
    return f"{component.phase}{took}" + (f", {component.detail}" if component.detail else "")
