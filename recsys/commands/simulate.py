"""`recsys simulate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from recsys.errors import SimulationError

if TYPE_CHECKING:
    from recsys.simulation.loop import SimulationSettings
    from recsys.simulation.report import PolicyReport, Reward
    from recsys.simulation.world import WorldSettings


def simulate(
    days: Annotated[int, typer.Option(min=1, max=28, help="simulated days; they end now")] = 5,
    hours: Annotated[int, typer.Option(min=1, max=24, help="hours of a day in which users come")] = 4,
    users: Annotated[int, typer.Option(min=3, help="users who visit")] = 300,
    items: Annotated[int, typer.Option(min=3, help="items there are: the most rated ones")] = 400,
    visits: Annotated[float, typer.Option(min=0.01, help="slates a user sees a day, in the mean")] = 2.0,
    history: Annotated[int, typer.Option(min=1, help="slates a user saw before the first model")] = 15,
    positions: Annotated[int, typer.Option(min=1, help="items of a list that are shown")] = 10,
    drift: Annotated[float, typer.Option(min=0, max=1, help="share of interests that change a day")] = 0.1,
    new_items: Annotated[float, typer.Option(min=0, max=0.9, help="share of items that come later")] = 0.3,
    explore: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="share of lists that explore; default: as set for publishing"),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="frozen, nightly, nightly+hourly, or nightly+lists: fresh lists every hour, but no "
            "micro-updates; may be repeated. Default: the first three"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="another one is another world")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="folder of MovieLens files; default: MovieLens-100K")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of simulation.png and simulation.json")] = Path(),
    home: Annotated[
        Path | None, typer.Option(help="new folder that keeps everything; default: one that is removed")
    ] = None,
    postgres: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="server for throw-away databases; default: one of the simulation's own"
        ),
    ] = None,
) -> None:
    """Let users with known tastes live with several policies, and plot what each earns day by day.

    Publishing, impressions, feedback, validation, training, gate and promotion are the real ones, on a
    warehouse and a registry of the simulation's own: no other data is touched. A night is what
    nightly_training does, an hour what hourly_micro_update does. frozen keeps its first model, which
    reads new histories every night as the others do. RECSYS_ variables of the environment apply
    (`recsys settings`).

    The reward is the expected number of clicks on a slate, known because the tastes are known. Each night
    and each hour of a policy that learns trains a model: fewer --days and --hours take less time.
    """
    import tempfile

    from recsys.local.packages import require_packages

    require_packages()
    from recsys.local.stack import interrupted_once
    from recsys.simulation.loop import POLICIES, SimulationSettings
    from recsys.simulation.world import WorldSettings

    names = list(dict.fromkeys(policy or ["frozen", "nightly", "nightly+hourly"]))
    for name in names:
        if name not in POLICIES:
            raise SimulationError(f"there is no policy {name!r}; there are {', '.join(POLICIES)}")
    if home is not None and home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise SimulationError(f"{home} is not an empty folder; name another one with --home")
    settings = SimulationSettings(days, hours, users, items, visits, history, positions, seed)
    behaviour = WorldSettings(drift=drift, new_item_share=new_items, days=days)
    with interrupted_once():
        if home is not None:
            home.mkdir(parents=True, exist_ok=True)
            _simulate(names, settings, behaviour, home, out, data, postgres, explore)
            return
        with tempfile.TemporaryDirectory(prefix="recsys-simulation-", ignore_cleanup_errors=True) as folder:
            # Root's Postgres runs as another account, which must get through to its data.
            Path(folder).chmod(0o711)
            _simulate(names, settings, behaviour, Path(folder), out, data, postgres, explore)


def _simulate(
    names: list[str],
    settings: "SimulationSettings",
    behaviour: "WorldSettings",
    folder: Path,
    out: Path,
    data: Path | None,
    postgres: str | None,
    explore: float | None,
) -> None:
    import json
    import time
    from dataclasses import asdict

    from recsys.catalogues.movielens import load_movielens
    from recsys.settings import load_settings
    from recsys.simulation.loop import POLICIES, Simulation
    from recsys.simulation.report import plot, report, to_json
    from recsys.simulation.system import simulated_systems, simulation_settings

    started = time.monotonic()
    console = Console()
    with console.status("reading ratings") as status:

        def tell(text: str) -> None:
            console.print(f"{time.monotonic() - started:6.0f} s  {escape(text)}", highlight=False)

        def show(text: str) -> None:
            status.update(escape(text))

        source = load_movielens(_cache(), data)
        settings_of_systems = simulation_settings(load_settings(), explore)
        with simulated_systems(folder, settings_of_systems, postgres) as systems:
            simulation = Simulation(source, settings, behaviour, systems, folder / "files", tell, show)
            simulated = simulation.run([POLICIES[name] for name in names])
    reports = report(simulated)
    out.mkdir(parents=True, exist_ok=True)
    picture, figures = out / "simulation.png", out / "simulation.json"
    plot(reports).savefig(picture, dpi=120)
    used = {**asdict(settings), "world": asdict(behaviour), "explore": explore}
    figures.write_text(json.dumps(to_json(reports, used), indent=2, allow_nan=False) + "\n")
    _print(console, reports, settings.days)
    minutes = (time.monotonic() - started) / 60
    console.print(f"{picture} and {figures}, {minutes:.1f} minutes", soft_wrap=True)


def _cache() -> Path:
    """The data set's wheel is kept beside the demo's, so that it is fetched once."""
    from recsys.settings import load_settings

    return load_settings().home.resolve() / "demo-data"


def _print(console: Console, reports: "dict[str, PolicyReport]", days: int) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("clicks a slate")
    for name in reports:
        table.add_column(name, justify="right")
    for day in range(days):
        table.add_row(f"day {day + 1}", *(_interval(each.days[day]) for each in reports.values()))
    if days > 1:
        table.add_row("all days but the first", *(_interval(each.later) for each in reports.values()))
        first = next(iter(reports))
        gains = ("" if each.gain is None else _interval(each.gain, "+") for each in reports.values())
        table.add_row(f"more than {first}", *gains)
    for title, counts in (
        ("nights", [each.nights for each in reports.values()]),
        ("hours", [each.hours for each in reports.values()]),
    ):
        if any(counts):
            said = (", ".join(f"{number} {action}" for action, number in each.items()) for each in counts)
            table.add_row(title, *said)
    console.print(table)


def _interval(reward: "Reward", sign: str = "") -> str:
    if reward.value is None:
        return "-"
    low, high = (format(limit, f"{sign}.3f") for limit in (reward.low, reward.high))
    return escape(f"{reward.value:{sign}.3f} [{low}, {high}]")
