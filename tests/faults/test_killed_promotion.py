"""A promotion killed at any point leaves the old champion or the new one, and a retry completes it."""

import pytest
import sqlalchemy as sa

from recsys.promotion import ledger
from recsys.promotion.promote import reconcile_alias
from recsys.registry.connection import mlflow_client
from recsys.settings import Settings
from tests.faults.dying import Point, die_in
from tests.faults.stages import promote_second


def _alias(settings: Settings) -> str:
    aliases = mlflow_client(settings).get_registered_model(settings.registered_model).aliases
    return str(aliases["champion"])


@pytest.fixture
def versions(warehouse: sa.Engine, settings: Settings) -> None:
    """Versions "1", the champion, and "2", without files: promotion does not read them."""
    client = mlflow_client(settings)
    client.create_registered_model(settings.registered_model)
    for number in range(2):
        tags = {"recsys.checkpoint_digest": str(number)}
        client.create_model_version(settings.registered_model, f"file:///{number}", tags=tags)
    ledger.promote(warehouse, "1", None, reason="first", explanation="First.", actor="nightly")
    reconcile_alias(warehouse, settings)


@pytest.mark.parametrize(
    ("point", "champion", "alias"),
    [
        (Point("after", "INSERT INTO promotion_ledger"), "1", "1"),  # before the commit
        (Point("before", "recsys.promotion.promote:follow_ledger"), "2", "1"),
        (Point("after", "recsys.promotion.promote:follow_ledger"), "2", "2"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("versions")
def test_promotion(warehouse: sa.Engine, settings: Settings, point: Point, champion: str, alias: str) -> None:
    die_in(point, promote_second, settings)
    current = ledger.champion(warehouse)
    assert current is not None
    assert (current.model_version, _alias(settings)) == (champion, alias)

    # Housekeeping and the retry agree, in either order, and do not wait for the killed process.
    assert reconcile_alias(warehouse, settings) == champion
    assert promote_second(settings).champion_sequence == 2
    assert (_alias(settings), len(ledger.history(warehouse))) == ("2", 2)
