"""Reading [[fleet.kind]]: kinds of replicas, each as [replica] is read, with a price.

A kind that gives no key of [replica] is the replica of the file. What shared prefixes hold for good they hold on every
replica of the fleet, as many KV tokens as on that of the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fluid.errors import FileError, InputError
from fluid.hardware.placement import Placement
from fluid.planning.kinds import Kind
from fluid.replica import Replica
from fluidwait.deployment.mix import Mix
from fluidwait.deployment.read_replica import read_placement, read_replica, read_timing
from fluidwait.deployment.schema import FleetTable, KindTable, ReplicaTable
from fluidwait.deployment.timing import timed
from fluidwait.deployment.toml import found, keys_of


@dataclass(frozen=True)
class FleetKind:
    """A `kind` of replica, and the `placement` of its model where the file names it."""

    kind: Kind
    placement: Placement | None = None


def read_fleet(table: FleetTable | None, mix: Mix, replica: Replica, placement: Placement | None, source: str,
               folder: Path) -> tuple[FleetKind, ...]:
    """The kinds of the file, none where it has none; `replica` and `placement` are those of [replica]."""
    if table is None:
        return ()
    kinds, names = [], list[str]()
    for i, each in enumerate(table.kind):
        if each.name in names:
            raise FileError(source, f"fleet.kind[{i}].name",
                            f"must differ from that of fleet.kind[{names.index(each.name)}] (got {found(each.name)})")
        names.append(each.name)
        own, placed = replica, placement
        if each.model_fields_set & set(ReplicaTable.model_fields):
            own, placed = _read(each, mix, source, f"fleet.kind[{i}]", folder)
        with keys_of(source, f"fleet.kind[{i}]"):
            kinds.append(FleetKind(Kind(each.name, own, each.price, each.most, each.count or 0), placed))
    return tuple(kinds)


def _read(table: KindTable, mix: Mix, source: str, key: str, folder: Path) -> tuple[Replica, Placement | None]:
    """The replica of a kind; what is wrong with it is said of its own key."""
    try:
        placed = read_placement(table, source, folder)
        own = read_replica(table, placed, source)
        own = timed(own, read_timing(table, placed, mix.workload, own, source))
        return (replace(own, kv_capacity=own.kv_capacity - mix.reserved) if mix.reserved else own), placed
    except FileError as error:
        problem = error.problem.replace("replica.", f"{key}.")
        raise FileError(source, key + error.key.removeprefix("replica"), problem) from None
    except InputError:
        problem = f"must leave KV tokens beside shared prefixes, which hold {mix.reserved:,} (got {own.kv_capacity:,})"
        raise FileError(source, f"{key}.kv_capacity", problem) from None
