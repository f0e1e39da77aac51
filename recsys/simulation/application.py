"""The application between simulated users and the recommender: it brings both what they know of each other.

It does what a real one does: registers users, loads items as they arrive, and reads what is published.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.catalogues.film_text import Film
from recsys.catalogues.movielens import write_items
from recsys.errors import SimulationError
from recsys.model.ranking import NO_ITEM
from recsys.simulation.world import World
from recsys.warehouse.ingest import ingest_file
from recsys.warehouse.statements import read_statement


class Application:
    """What it loads and reads, in any of the systems.

    Parameters
    ----------
    world
        Its users and items.
    films
        What the items are about, where that is known.
    folder
        For the files that are loaded.
    """

    def __init__(self, world: World, films: Iterable[Film], folder: Path) -> None:
        self._world = world
        self._films = {film.item_id: film for film in films}
        self._position = {item: place for place, item in enumerate(world.item_ids.tolist())}
        self._folder = folder

    def register_users(self, engine: sa.Engine) -> None:
        """Load all users."""
        path = self._folder / "users.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("user_id\n" + "".join(f"{user}\n" for user in self._world.user_ids))
        ingest_file(engine, "users", path)

    def add_items(self, engine: sa.Engine, day: int) -> None:
        """Load the items that arrive on a day, if any do."""
        arriving = self._world.item_ids[self._world.arrival_day == day].tolist()
        if arriving:
            path = self._folder / f"items-{day}.jsonl"
            write_items((self._films.get(item) or Film(item, item, None, ()) for item in arriving), path)
            ingest_file(engine, "items", path)

    def published(
        self, engine: sa.Engine, visitors: NDArray[np.int64], positions: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.object_]]:
        """Read slates and propensities [visitors, positions], and the model versions [visitors].

        Raises
        ------
        SimulationError
            Nothing is published for a visitor.
        """
        names = self._world.user_ids[visitors].tolist()
        with engine.connect() as connection:
            rows = connection.execute(
                sa.text(read_statement("simulation/select_slates")),
                {"user_ids": names, "positions": positions},
            ).all()
        found = {row.user_id: row for row in rows}
        slates = np.full((len(names), positions), NO_ITEM, dtype=np.int32)
        propensities = np.full((len(names), positions), np.nan)
        for place, name in enumerate(names):
            if name not in found:
                raise SimulationError(
                    f"nothing is published for user {name}: there are too few items for everybody; "
                    "simulate more --items or fewer --days"
                )
            row = found[name]
            slates[place, : len(row.item_ids)] = [self._position[item] for item in row.item_ids]
            propensities[place, : len(row.item_ids)] = row.propensities
        return slates, propensities, np.array([found[name].model_version for name in names], dtype=object)
