"""Reading closed loops: `users` and `think`, and `max_concurrency`, of the [workload] table."""

from __future__ import annotations

from collections.abc import Iterator

from fluid.closed_loop import solve_users
from fluid.errors import FileError
from fluid.replica import Replica
from fluidwait.deployment.mix import Mix, with_users
from fluidwait.deployment.schema import WorkloadTable
from fluidwait.deployment.toml import found, keys_of
from verification.traffic.bursts import GammaBursts, OnOff
from verification.traffic.processes import Limited, Poisson


def read_users(mix: Mix, table: WorkloadTable, replica: Replica, source: str) -> Mix:
    """The mix as its users send it, or a generator that holds requests back; as it is where there are neither.

    A generator whose requests are due faster than so many at a time are served sends the next after each answer, ever
    later than due: it is a closed loop of users who do not think. Raises FileError for keys that do not go together.
    """
    if table.users is not None:
        _refuse_beside(table, "users", source)
        with keys_of(source, "workload"):
            return with_users(mix, table.users, table.think or 0.0, replica)
    if table.think is not None:
        raise FileError(source, "workload.think", f"must go with workload.users (got {found(table.think)})")
    if table.max_concurrency is None:
        return mix
    if not isinstance(mix.traffic, Poisson | GammaBursts | OnOff):
        raise FileError(source, "workload.max_concurrency", "must stand beside Poisson arrivals or bursts "
                                                            f"(got {table.max_concurrency})")
    with keys_of(source, "workload"):
        traffic = Limited(table.max_concurrency, mix.traffic)
        if mix.workload.rate < solve_users(mix.workload, replica, traffic.max_concurrency, 0.0).rate:
            return mix.arriving(traffic)
        return with_users(mix, traffic.max_concurrency, 0.0, replica)


def held_back(offered: Mix, mix: Mix, table: WorkloadTable) -> Iterator[str]:
    """What to say where a limit on concurrency holds requests back for ever longer."""
    if table.max_concurrency is not None and mix.closed is not None:
        yield (f"workload.max_concurrency = {table.max_concurrency} sends at most {mix.closed.most:.4g} requests/s, "
               f"and {offered.workload.rate:.4g} are due: they are sent later and later")


def _refuse_beside(table: WorkloadTable, key: str, source: str) -> None:
    """Refuse what says a second time when requests come."""
    for other in ("max_concurrency", "window", "arrivals", "rate"):
        value = getattr(table, other)
        if value is not None and value != "poisson":
            raise FileError(source, f"workload.{other}", f"must stand without workload.{key}")
