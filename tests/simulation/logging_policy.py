"""A logging policy for tests: draws slates around given scores and logs its propensities."""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.off_policy.slates import PlackettLuce
from recsys.simulation.slates import Luck, SlateLog, simulate_reactions
from recsys.simulation.world import World


def show_slates(
    world: World,
    users: NDArray[np.int64],
    scores: NDArray[np.float32],
    policy: PlackettLuce,
    *,
    positions: int,
    model_version: str,
    start: datetime,
    generator: np.random.Generator,
    prefix: str,
) -> SlateLog:
    """Show one slate, drawn by the policy from scores [slates, items], to each of the users [slates]."""
    slates, propensities = policy.draw(scores, positions, generator)
    return simulate_reactions(
        world,
        users,
        slates,
        propensities,
        Luck.draw(slates.shape, generator),
        model_version=model_version,
        start=start,
        prefix=prefix,
    )
