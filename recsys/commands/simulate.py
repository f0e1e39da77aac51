"""`recsys simulate`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from recsys.errors import SimulationError
from recsys.settings import load_settings

if TYPE_CHECKING:
    from recsys.simulation.candidates import Decisions
    from recsys.simulation.policies import SimulationSettings
    from recsys.simulation.report import PolicyReport, Reward
    from recsys.simulation.world import WorldSettings


def simulate(
    days: Annotated[int, typer.Option(min=1, max=28, help="Simulated days. The last one ends now.")] = 5,
    hours: Annotated[int, typer.Option(min=1, max=24, help="Hours per day in which users visit.")] = 4,
    users: Annotated[int, typer.Option(min=3, help="Number of users.")] = 300,
    items: Annotated[int, typer.Option(min=3, help="Number of items: the most rated ones.")] = 400,
    visits: Annotated[float, typer.Option(min=0.01, help="Mean number of slates a user sees per day.")] = 2.0,
    history: Annotated[int, typer.Option(min=1, help="Slates each user saw before the first model.")] = 15,
    positions: Annotated[int, typer.Option(min=1, help="Number of items shown per slate.")] = 10,
    drift: Annotated[float, typer.Option(min=0, max=1, help="Share of interests that change per day.")] = 0.1,
    new_items: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of items that arrive after day 0.")
    ] = 0.3,
    explore: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of lists that explore. Default: the setting for publishing."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="What clicks and ratings mean: shop, newsroom, video or music. Default: as in a new "
            "warehouse, where nobody meets an item twice."
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="frozen, nightly, nightly+hourly, nightly+lists (new lists every hour, but no "
            "micro-updates), or experiment (nightly, and users decide for a day on what the gate lets "
            "through). Repeat the option for several policies. Default: the first three."
        ),
    ] = None,
    bad_nights: Annotated[
        float, typer.Option(min=0, max=1, help="Share of nights that train a bad model on purpose.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated world.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Folder with MovieLens files. Default: MovieLens-100K.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Output folder for simulation.png and simulation.json.")] = Path(),
    home: Annotated[
        Path | None, typer.Option(help="New folder for all working files. Default: a temporary folder.")
    ] = None,
    postgres: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Postgres server for temporary databases. Default: start one."),
    ] = None,
) -> None:
    """Simulate users with known tastes under several policies, and plot each policy's reward per day.

    Publishing, impressions, feedback, validation, training, gate and promotion are the real code. They run
    on a separate warehouse and model registry, so no other data changes. A night runs the stages of
    nightly_training, and an hour those of hourly_micro_update. The policy "frozen" never trains again, but
    like the others it reads new histories every night. RECSYS_ environment variables apply (see
    `recsys settings`).

    The reward is the expected number of clicks per slate. It is exact because the tastes are known. The
    policies that learn train a model every night, or every night and hour, so fewer --days and --hours
    take less time.
    """
    import tempfile

    from recsys.local.packages import require_packages

    require_packages()
    from recsys.local.home import create_reachable
    from recsys.local.stack import interrupted_once
    from recsys.simulation.policies import POLICIES, SimulationSettings
    from recsys.simulation.world import WorldSettings
    from recsys.warehouse.recipes import check_recipe

    names = list(dict.fromkeys(policy or ["frozen", "nightly", "nightly+hourly"]))
    for name in names:
        if name not in POLICIES:
            raise SimulationError(f"unknown policy {name!r}; choose from {', '.join(POLICIES)}")
    if recipe is not None:
        check_recipe(recipe)
    if home is not None and home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise SimulationError(f"{home} is not an empty folder; choose another one with --home")
    settings = SimulationSettings(days, hours, users, items, visits, history, positions, seed, bad_nights)
    behaviour = WorldSettings(drift=drift, new_item_share=new_items, days=days)
    with interrupted_once():
        if home is not None:
            create_reachable(home.resolve())
            _simulate(names, settings, behaviour, home, out, data, postgres, explore, recipe)
            return
        with tempfile.TemporaryDirectory(prefix="recsys-simulation-", ignore_cleanup_errors=True) as folder:
            # When root runs this, Postgres runs under another account and must be able to enter the folder.
            Path(folder).chmod(0o711)
            _simulate(names, settings, behaviour, Path(folder), out, data, postgres, explore, recipe)


def _simulate(
    names: list[str],
    settings: "SimulationSettings",
    behaviour: "WorldSettings",
    folder: Path,
    out: Path,
    data: Path | None,
    postgres: str | None,
    explore: float | None,
    recipe: str | None,
) -> None:
    import json
    import time
    from dataclasses import asdict

    from recsys.catalogues.movielens import load_movielens
    from recsys.simulation.loop import Simulation
    from recsys.simulation.policies import POLICIES
    from recsys.simulation.report import plot, report, to_json
    from recsys.simulation.system import simulated_systems, simulation_settings

    started = time.monotonic()
    console = Console()
    with console.status("Reading ratings") as status:

        def log(text: str) -> None:
            console.print(f"{time.monotonic() - started:6.0f} s  {escape(text)}", highlight=False)

        def show(text: str) -> None:
            status.update(escape(text))

        person = load_settings()
        # The demo's folder, so that demo and simulation download the data set once.
        source = load_movielens(person.home.resolve() / "demo-data", data)
        with simulated_systems(folder, simulation_settings(person, explore), postgres, recipe) as systems:
            simulation = Simulation(source, settings, behaviour, systems, folder / "files", log, show)
            simulated = simulation.run([POLICIES[name] for name in names])
    reports = report(simulated)
    out.mkdir(parents=True, exist_ok=True)
    picture, figures = out / "simulation.png", out / "simulation.json"
    plot(reports).savefig(picture, dpi=120)
    used = {**asdict(settings), "world": asdict(behaviour), "explore": explore, "recipe": recipe}
    figures.write_text(json.dumps(to_json(reports, used), indent=2, allow_nan=False) + "\n")
    _print(console, reports, settings.days)
    minutes = (time.monotonic() - started) / 60
    console.print(f"{picture} and {figures}, {minutes:.1f} minutes", soft_wrap=True)


def _print(console: Console, reports: "dict[str, PolicyReport]", days: int) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("clicks per slate")
    for name in reports:
        table.add_column(name, justify="right")
    for day in range(days):
        table.add_row(f"day {day + 1}", *(_interval(each.days[day]) for each in reports.values()))
    if days > 1:
        table.add_row("all days after the first", *(_interval(each.later) for each in reports.values()))
        first = next(iter(reports))
        gains = ("" if each.gain is None else _interval(each.gain, "+") for each in reports.values())
        table.add_row(f"difference from {first}", *gains)
    for title, counts in (
        ("nights", [each.nights for each in reports.values()]),
        ("hours", [each.hours for each in reports.values()]),
    ):
        if any(counts):
            rows = (", ".join(f"{number} {action}" for action, number in each.items()) for each in counts)
            table.add_row(title, *rows)
    for title, count in _COUNTS.items():
        if any(each.decisions for each in reports.values()):
            cells = (
                "" if each.decisions is None else _share(*count(each.decisions)) for each in reports.values()
            )
            table.add_row(title, *cells)
    console.print(table)


_COUNTS: "dict[str, Callable[[Decisions], tuple[int, int]]]" = {
    "passed by the gate, truly worse": lambda found: (found.passed_wrongly, found.candidates),
    "promoted, truly worse": lambda found: (found.promoted_wrongly, found.candidates),
    "not promoted, truly better": lambda found: (found.missed, found.candidates),
}


def _share(part: int, whole: int) -> str:
    from recsys.simulation.report import share_interval

    low, high = share_interval(part, whole)
    return escape(f"{part} of {whole} nights [{low:.0%}, {high:.0%}]")


def _interval(reward: "Reward", sign: str = "") -> str:
    if reward.value is None:
        return "-"
    low, high = (format(limit, f"{sign}.3f") for limit in (reward.low, reward.high))
    return escape(f"{reward.value:{sign}.3f} [{low}, {high}]")
