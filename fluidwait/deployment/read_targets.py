"""The targets of a deployment: what its [target] table asks of the delays."""

from __future__ import annotations

from fluid.errors import InputError
from fluidwait.deployment.schema import PromiseTable
from verification.experiments.targets.bounds import SHARE, Bound, Goodput, Targets
from verification.experiments.targets.delays import DELAYS


def read_targets(table: PromiseTable) -> Targets:
    """The targets of a table; raises InputError for one that cannot be used."""
    bounds = tuple(Bound(name, getattr(table, name)) for name in DELAYS if getattr(table, name) is not None)
    if table.goodput is None and table.share != SHARE:
        raise InputError("share", "given beside goodput only", table.share)
    return Targets(bounds, None if table.goodput is None else Goodput.read(table.goodput, table.share))
