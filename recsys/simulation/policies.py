"""What is simulated: policies, and sizes."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Policy:
    """What a policy does at night and in each hour. All policies validate and publish every night.

    Attributes
    ----------
    experiment
        Whether users decide in an experiment of one day on what the gate lets through.
    """

    name: str
    nightly: bool
    hourly: Literal["nothing", "publish", "update"]
    experiment: bool = False


POLICIES = {
    policy.name: policy
    for policy in (
        Policy("frozen", nightly=False, hourly="nothing"),
        Policy("nightly", nightly=True, hourly="nothing"),
        # Shows the gain of fresh lists alone, so that the gain of hourly training can be told apart.
        Policy("nightly+lists", nightly=True, hourly="publish"),
        Policy("nightly+hourly", nightly=True, hourly="update"),
        Policy("experiment", nightly=True, hourly="nothing", experiment=True),
    )
}


@dataclass(frozen=True)
class SimulationSettings:
    """Sizes of a simulation.

    Attributes
    ----------
    days
        Simulated days. All policies start with one model, which is trained before the first day.
    hours
        Hours of a day in which users visit and the hourly policy learns.
    users, items
        Number of users and of most rated items that are taken from the ratings.
    visits
        Mean number of slates that a user sees per day.
    history_slates
        Slates of random items that each user saw before the first day; the first model learns from them.
    positions
        Items shown of a published list.
    bad_nights
        Share of the nights whose candidates are trained badly on purpose.
    seed
        Seed of the world, the visits and the reactions.
    """

    days: int = 5
    hours: int = 4
    users: int = 300
    items: int = 400
    visits: float = 2.0
    history_slates: int = 15
    positions: int = 10
    seed: int = 0
    bad_nights: float = 0.0
