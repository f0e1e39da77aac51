"""Recipes (`sql/recipes`): what events mean in a shop, a newsroom, a video and a music service."""

import sqlalchemy as sa

from recsys.errors import ConfigurationError
from recsys.warehouse.statements import read_statement, sql_path


def recipe_names() -> list[str]:
    """Return the names of all recipes."""
    return sorted(path.stem for path in sql_path("recipes").glob("*.sql"))


def check_recipe(name: str) -> None:
    """Raise ConfigurationError if there is no recipe of this name."""
    if name not in recipe_names():
        raise ConfigurationError(
            f"there is no recipe {name!r}; the recipes are {', '.join(recipe_names())} (docs/events.md)"
        )


def apply_recipe(engine: sa.Engine, name: str) -> None:
    """Add the recipe's event types and change their meaning; other types stay as they are.

    A second time changes nothing.

    Raises
    ------
    ConfigurationError
        There is no recipe of this name.
    """
    check_recipe(name)
    with engine.begin() as connection:
        connection.exec_driver_sql(read_statement(f"recipes/{name}"))
