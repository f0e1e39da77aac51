"""The application between simulated users and the recommender.

Like a real application it registers users, loads items as they arrive, and reads published recommendations.
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
    """Loads users and items into a warehouse and reads published slates from it.

    Parameters
    ----------
    world
        The users and items.
    films
        Descriptions of items; items without one get their id as title.
    folder
        Where the loaded files are written.
    """

    def __init__(self, world: World, films: Iterable[Film], folder: Path) -> None:
        self._world = world
        self._films = {film.item_id: film for film in films}
        self._position = {item: position for position, item in enumerate(world.item_ids.tolist())}
        self._folder = folder

    def register_users(self, engine: sa.Engine) -> None:
        """Load all users."""
        path = self._folder / "users.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("user_id\n" + "".join(f"{user}\n" for user in self._world.user_ids))
        ingest_file(engine, "users", path)

    def add_items(self, engine: sa.Engine, day: int) -> None:
        """Load the items that arrive on a day, if any."""
        arriving = self._world.item_ids[self._world.arrival_day == day].tolist()
        if arriving:
            path = self._folder / f"items-{day}.jsonl"
            write_items((self._films.get(item) or Film(item, item, None, ()) for item in arriving), path)
            ingest_file(engine, "items", path)

    def published(
        self, engine: sa.Engine, visitors: NDArray[np.int64], positions: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.object_]]:
        """Read slates and propensities, each [visitors, positions], and model versions [visitors].

        Raises
        ------
        SimulationError
            Nothing is published for a visitor.
        """
        user_ids = self._world.user_ids[visitors].tolist()
        with engine.connect() as connection:
            rows = connection.execute(
                sa.text(read_statement("simulation/select_slates")),
                {"user_ids": user_ids, "positions": positions},
            ).all()
        found = {row.user_id: row for row in rows}
        slates = np.full((len(user_ids), positions), NO_ITEM, dtype=np.int32)
        propensities = np.full((len(user_ids), positions), np.nan)
        for row, user_id in enumerate(user_ids):
            if user_id not in found:
                raise SimulationError(
                    f"nothing is published for user {user_id} because there are too few items; "
                    "use more --items or fewer --days"
                )
            published = found[user_id]
            slates[row, : len(published.item_ids)] = [self._position[item] for item in published.item_ids]
            propensities[row, : len(published.item_ids)] = published.propensities
        versions = np.array([found[user_id].model_version for user_id in user_ids], dtype=object)
        return slates, propensities, versions
