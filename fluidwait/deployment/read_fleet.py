"""Reading [[fleet.kind]]: kinds of replicas, each as [replica] is read, with a price.

A kind that gives no key of [replica] is the replica of the file, with its own power if it says so; electricity costs
what it does in [replica.power] unless the kind says something else. What shared prefixes hold for good they hold on
every replica of the fleet, as many KV tokens as on that of the file.

Kinds with a `role` prefill or decode only, and [fleet.transfer] says how the KV of a prompt goes from one to the other:
all kinds have a role then, both roles are there, and a KV token has as many bytes on all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fluid.errors import FileError, InputError
from fluid.hardware.placement import Placement
from fluid.planning.kinds import Kind
from fluid.planning.parts import DECODE, PREFILL, Part, Transfer
from fluid.replica import DECODE_ONLY, Replica
from fluidwait.deployment.mix import Mix
from fluidwait.deployment.read_power import read_power, read_prices
from fluidwait.deployment.read_replica import read_placement, read_replica, read_timing
from fluidwait.deployment.schema import FleetTable, KindTable, ReplicaTable, TransferTable
from fluidwait.deployment.timing import timed
from fluidwait.deployment.toml import found, keys_of


@dataclass(frozen=True)
class FleetKind:
    """A `kind` of replica, the `placement` of its model where the file names it, the price of a kWh if it does."""

    kind: Kind
    placement: Placement | None = None
    electricity: float | None = None


OWN_KEYS = set(ReplicaTable.model_fields) - {"power", "price"}  # those that make it another replica


def read_fleet(table: FleetTable | None, mix: Mix, replica: Replica, placement: Placement | None, source: str,
               folder: Path, electricity: float | None = None) -> tuple[FleetKind, ...]:
    """The kinds of the file, none where it has none; `replica`, `placement`, `electricity` are those of [replica]."""
    if table is None:
        return ()
    kinds, names = [], list[str]()
    for i, each in enumerate(table.kind):
        if each.name in names:
            raise FileError(source, f"fleet.kind[{i}].name",
                            f"must differ from that of fleet.kind[{names.index(each.name)}] (got {found(each.name)})")
        names.append(each.name)
        own, placed, kwh = _read(each, replica, placement, mix, source, f"fleet.kind[{i}]", folder)
        with keys_of(source, f"fleet.kind[{i}]"):
            kind = Kind(each.name, own, each.price, each.most, each.count or 0, each.start_up, each.least_time)
            kinds.append(FleetKind(kind, placed, electricity if kwh is None else kwh))
    return _with_parts(table, kinds, source)


def _with_parts(table: FleetTable, kinds: list[FleetKind], source: str) -> tuple[FleetKind, ...]:
    """The kinds with the part of a request that each serves, where the file gives roles."""
    roles: list[str | None] = [each.role for each in table.kind]
    if not any(roles):
        if table.transfer is not None:
            raise FileError(source, "fleet.transfer", 'needs [[fleet.kind]] with role = "prefill" and role = "decode"')
        return tuple(kinds)
    for i, role in enumerate(roles):
        if role is None:
            raise FileError(source, f"fleet.kind[{i}].role",
                            'is missing: it must be "prefill" or "decode", as other kinds have one')
    for needed in (PREFILL, DECODE):
        if needed not in roles:
            raise FileError(source, "fleet.kind", f'must have a kind with role = "{needed}" beside the others')
    if table.transfer is None:
        raise FileError(source, "fleet.transfer", "is missing: it must be a table { bandwidth, latency, "
                                                  "bytes_per_token }, as kinds have roles")
    _alike(kinds, roles, source)
    transfer = _transfer(table.transfer, kinds, source)
    return tuple(replace(each, kind=replace(each.kind, part=Part(str(role), transfer)))
                 for each, role in zip(kinds, roles, strict=True))


def _alike(kinds: list[FleetKind], roles: list[str | None], source: str) -> None:
    """Refuse prefills on a replica without any, and first tokens made in several places."""
    first = kinds[0].kind.replica.first_token
    for i, (each, role) in enumerate(zip(kinds, roles, strict=True)):
        replica = each.kind.replica
        if role == PREFILL and replica.prefill == DECODE_ONLY:
            requirement = '"whole" or { chunk = tokens } where role = "prefill"'
            raise FileError(source, f"fleet.kind[{i}].prefill", f"must be {requirement} (got {found(DECODE_ONLY)})")
        if replica.first_token != first:
            raise FileError(source, f"fleet.kind[{i}].first_token",
                            f"must be that of the other kinds, {found(first)} (got {found(replica.first_token)})")


def _transfer(table: TransferTable, kinds: list[FleetKind], source: str) -> Transfer:
    """The link; the bytes of a KV token are those of the model where the file does not give them."""
    given = table.bytes_per_token
    sizes = {float(each.placement.model.kv_bytes(each.placement.kv_type)) for each in kinds if each.placement}
    if given is None and not sizes:
        raise FileError(source, "fleet.transfer.bytes_per_token", "is missing: it must be a positive number of bytes, "
                                                                  "unless kinds name model and gpu")
    if given is None and len(sizes) > 1:
        raise FileError(source, "fleet.transfer.bytes_per_token", "is missing: the kinds have "
                        + " and ".join(f"{size:,.0f}" for size in sorted(sizes)) + " bytes by their models")
    with keys_of(source, "fleet.transfer"):
        return Transfer(table.bandwidth, sizes.pop() if given is None else given, table.latency)


def _read(table: KindTable, replica: Replica, placement: Placement | None, mix: Mix, source: str, key: str,
          folder: Path) -> tuple[Replica, Placement | None, float | None]:
    """The replica of a kind, and its price of a kWh; what is wrong with it is said of its own key."""
    try:
        _, kwh = read_prices(table, source)
        if not table.model_fields_set & OWN_KEYS:
            power = read_power(table, placement, source)
            return (replica if power is None else replace(replica, power=power)), placement, kwh
        placed = read_placement(table, source, folder)
        own = read_replica(table, placed, source)
        own = timed(own, read_timing(table, placed, mix.workload, own, source))
        return (replace(own, kv_capacity=own.kv_capacity - mix.reserved) if mix.reserved else own), placed, kwh
    except FileError as error:
        problem = error.problem.replace("replica.", f"{key}.")
        raise FileError(source, key + error.key.removeprefix("replica"), problem) from None
    except InputError:
        problem = f"must leave KV tokens beside shared prefixes, which hold {mix.reserved:,} (got {own.kv_capacity:,})"
        raise FileError(source, f"{key}.kv_capacity", problem) from None
