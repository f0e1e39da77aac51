"""Plans of publications that are computed in shards: who may write, who waits, and what is missing.

A plan fixes what all its shards go by. It is open from the moment it is complete until it is swapped or
closed, and there is one open plan at most. A publisher holds the lock of `publishing_session` while it plans
and while it swaps; in between, the open plan itself makes other publishers wait.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from recsys.errors import NothingToDoError, WarehouseError
from recsys.settings import PublishingSettings
from recsys.warehouse.statements import read_statement

logger = logging.getLogger(__name__)

SILENCE = timedelta(minutes=30)
"""A plan of which no shard has written for so long is given up when another publication wants to begin.

A worker that dies is noticed after five minutes, and its task begins again within ten.
"""


@dataclass(frozen=True)
class Plan:
    """What all shards of a publication go by.

    Attributes
    ----------
    champion_sequence
        Of the promotion that made the version champion.
    through_transaction_id
        The model reads feedback with lower transaction ids.
    moment
        Time for which it is decided what is off a user's list and what is available.
    serving_bytes
        Memory that a process which scores needs for model and catalogue.
    publishing
        Settings for all shards, whatever those of their workers are.
    challenger, challenger_first
        The version that users from this position on get while an experiment runs.
    interleaved
        They get lists that both versions pick in turn.
    """

    plan_id: int
    run_key: str
    model_version: str
    champion_sequence: int
    everyone: bool
    through_transaction_id: int
    moment: datetime
    publishing: PublishingSettings
    users: int
    items: int
    serving_bytes: int
    shards: int
    state: str
    experiment_id: int | None
    challenger: str | None
    challenger_first: int | None
    interleaved: bool


@dataclass(frozen=True)
class OpenPlan:
    """A plan whose shards are being computed.

    Attributes
    ----------
    silent_for
        Time since one of its shards last wrote.
    is_replaced
        Its champion is no longer champion.
    """

    plan_id: int
    run_key: str
    shards: int
    staged: int
    silent_for: timedelta
    is_replaced: bool

    def __str__(self) -> str:
        """Name it for people."""
        return (
            f"publication plan {self.plan_id} of run {self.run_key}, of which {self.staged} of {self.shards} "
            "shards are staged"
        )


def load_plan(connection: sa.Connection, plan_id: int) -> Plan:
    """Return a plan."""
    row = connection.execute(
        sa.text(
            "select plans.*, coalesce(kind = 'interleave', false) as interleaved from staging.plans"
            " left join experiments using (experiment_id) where plan_id = :plan_id"
        ),
        {"plan_id": plan_id},
    ).one()
    connection.commit()
    return Plan(
        plan_id=row.plan_id,
        run_key=row.run_key,
        model_version=row.model_version,
        champion_sequence=row.champion_sequence,
        everyone=row.everyone,
        through_transaction_id=row.through_transaction_id,
        moment=row.moment,
        publishing=PublishingSettings.model_validate(row.settings),
        users=row.users,
        items=row.items,
        serving_bytes=row.serving_bytes,
        shards=-(-row.users // row.users_per_shard),
        state=row.state,
        experiment_id=row.experiment_id,
        challenger=row.challenger,
        challenger_first=row.challenger_first,
        interleaved=row.interleaved,
    )


def use_plan(connection: sa.Connection, plan_id: int) -> None:
    """Let this session's rows be those of a plan."""
    connection.execute(
        sa.text("select set_config('staging.plan_id', :plan_id, false)"), {"plan_id": str(plan_id)}
    )
    connection.commit()


def open_plan(connection: sa.Connection) -> OpenPlan | None:
    """Return the plan whose shards are being computed."""
    row = connection.execute(sa.text(read_statement("publishing/select_open_plan"))).one_or_none()
    connection.commit()
    return None if row is None else OpenPlan(*row)


def close_plans(connection: sa.Connection) -> None:
    """Give up what is planned, and remove what is staged.

    It waits for the batch that a shard is writing. The caller holds the lock of a publisher.
    """
    connection.exec_driver_sql(read_statement("publishing/close_plans"))
    connection.commit()
    empty_plan_tables(connection)


def empty_plan_tables(connection: sa.Connection) -> None:
    """Remove what shards have staged. The caller holds the lock of a publisher."""
    connection.exec_driver_sql(read_statement("publishing/empty_plan_tables"))
    connection.commit()


@dataclass(frozen=True)
class Attempt:
    """The right of one attempt to write a shard, until another attempt takes it.

    Attributes
    ----------
    first, last
        Positions of its users in the plan; the last one is exclusive.
    """

    plan_id: int
    shard: int
    attempt: int
    first: int
    last: int

    def keep(self, connection: sa.Connection, device: str, state: str = "staging") -> None:
        """Lock the shard until the transaction ends, and note where it is scored.

        Raises
        ------
        NothingToDoError
            Another attempt has taken the shard, or its plan is closed.
        """
        parameters = {
            "plan_id": self.plan_id,
            "shard": self.shard,
            "attempt": self.attempt,
            "device": device,
            "state": state,
        }
        kept = connection.execute(sa.text(read_statement("publishing/touch_shard")), parameters).first()
        if kept is None:
            raise NothingToDoError(
                f"shard {self.shard} of plan {self.plan_id} has been taken by another attempt, or another "
                "publication has taken the plan's place; what this attempt computed is not needed"
            )


def claim_next(connection: sa.Connection, plan_id: int, *, taken_too: bool = False) -> Attempt | None:
    """Take a shard that waits, a different one in each process that calls it; None: there is none.

    Parameters
    ----------
    taken_too
        Also one that another attempt has taken and not staged, which may not write it any more.
    """
    with connection.begin():
        shard = connection.scalar(
            sa.text(read_statement("publishing/select_waiting_shard")),
            {"plan_id": plan_id, "taken_too": taken_too},
        )
        return None if shard is None else _claim(connection, plan_id, shard)


def claim(connection: sa.Connection, plan_id: int, shard: int) -> Attempt | None:
    """Take a shard, remove what an earlier attempt has left of it, and return the right to write it.

    None: it is staged already.

    Raises
    ------
    NothingToDoError
        The plan is closed or published.
    """
    with connection.begin():
        taken = _claim(connection, plan_id, shard)
        if taken is not None:
            return taken
        state = connection.scalar(
            sa.text("select state from staging.shards where plan_id = :plan_id and shard = :shard"),
            {"plan_id": plan_id, "shard": shard},
        )
    if state == "staged":
        return None
    raise NothingToDoError(
        f"shard {shard} of plan {plan_id} is not to be staged any more: another publication has taken the "
        "plan's place. It knows all feedback that this one knew; clear the task publish to plan once more"
    )


def _claim(connection: sa.Connection, plan_id: int, shard: int) -> Attempt | None:
    """Take a shard that is not staged, in the caller's transaction."""
    row = connection.execute(
        sa.text(read_statement("publishing/claim_shard")), {"plan_id": plan_id, "shard": shard}
    ).one_or_none()
    if row is None:
        return None
    taken = Attempt(plan_id, shard, row.attempt, row.first_position, row.last_position)
    if taken.attempt > 1:
        connection.execute(
            sa.text(read_statement("publishing/delete_part_of_shard")),
            {"first": taken.first, "last": taken.last},
        )
    return taken


def require_complete(connection: sa.Connection, plan: Plan) -> None:
    """Raise an error unless everything of this session's plan is staged.

    Raises
    ------
    WarehouseError
        Shards are missing; they are named.
    """
    missing = connection.execute(sa.text(read_statement("publishing/select_missing_shards"))).all()
    connection.commit()
    if lost := [row.shard for row in missing if row.is_lost]:
        close_plans(connection)
        raise lost_what_was_staged(plan.plan_id, lost)
    if missing:
        raise WarehouseError(
            f"plan {plan.plan_id} is not complete: shards {_listed([row.shard for row in missing])} are not "
            "staged; clear their tasks stage_shard, then this one"
        )


def lost_what_was_staged(plan_id: int, shards: list[int]) -> WarehouseError:
    """Return the error of a plan whose tables are empty because Postgres has crashed."""
    return WarehouseError(
        f"the warehouse has lost what was staged for shards {_listed(shards)} of plan {plan_id}, as it does "
        "when Postgres crashes; clear the task publish to plan once more"
    )


def _listed(shards: list[int]) -> str:
    return ", ".join(map(str, shards))
