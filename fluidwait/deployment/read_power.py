"""Reading [replica.power]: what a GPU draws, given in watts or by the catalogue, and the price of electricity.

Watts are those of one GPU; a group in tensor parallel draws as many times as much. Given ones win: `idle` alone stands
beside the catalogue's shares of what the board may draw, `busy` without `overhead` is a constant power while iterations
run.
"""

from __future__ import annotations

from fluid.errors import FileError, real
from fluid.hardware.placement import Placement
from fluid.hardware.power_law import power_of
from fluid.power import Power
from fluidwait.deployment.schema import PowerTable, ReplicaTable
from fluidwait.deployment.toml import found, keys_of

POWER = "replica.power"  # the table, as messages name it


def read_power(table: ReplicaTable, placement: Placement | None, source: str) -> Power | None:
    """The power that the file gives; None where it gives none, and that of the catalogue counts, if there is one."""
    given = table.power or PowerTable()
    watts = {key: getattr(given, key) for key in ("idle", "overhead", "busy") if getattr(given, key) is not None}
    if not watts:
        return None
    if "overhead" in watts and "busy" not in watts:
        raise FileError(source, f"{POWER}.overhead", f"needs {POWER}.busy beside it (got {found(watts['overhead'])})")
    with keys_of(source, POWER):
        if "busy" not in watts:
            return _beside_the_catalogue(watts["idle"], placement, source)
        idle = watts.pop("idle", None if placement is None else placement.gpu.idle)
        if idle is None:
            raise _missing(source, "idle")
        return Power(idle, **watts).times(1 if placement is None else placement.tensor_parallel)


def _beside_the_catalogue(idle: float, placement: Placement | None, source: str) -> Power:
    known = None if placement is None else power_of(placement.gpu, placement.tensor_parallel, idle)
    if known is None:
        raise _missing(source, "busy")
    return known


def _missing(source: str, key: str) -> FileError:
    return FileError(source, f"{POWER}.{key}", "is missing: it must be a positive number of watts per GPU, unless "
                                               "replica.gpu names one whose power is known")


def read_prices(table: ReplicaTable, source: str) -> tuple[float | None, float | None]:
    """The price of an hour of the replica, and that of a kWh; None where the file gives none."""
    with keys_of(source, "replica"):
        hour = None if table.price is None else real("price", table.price)
    with keys_of(source, POWER):
        kwh = None if table.power is None or table.power.price is None else real("price", table.power.price)
    return hour, kwh
