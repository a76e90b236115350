"""A sweep of plans: the cheapest fleet for every rate, head-room, number of spare replicas and price of one kind.

Cells are planned in threads, or on a Dask cluster by the same function, and kept as soon as they are finished, in
`plans.sqlite` of a folder (`verification.store`), where the same command goes on. A row says what `fluidwait plan`
says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from fluid.errors import FluidwaitError, InputError, shown
from fluidwait.deployment.deployment import Deployment
from fluidwait.progress import counting, note, quiet
from fluidwait.study.dask import REFUSED, answered, on_cluster
from fluidwait.study.fingerprint import asked_of_plans, program
from fluidwait.study.fleet import demanded, planned
from fluidwait.study.store import ADVICE
from fluidwait.study.sweep import Workers
from fluidwait.study.tandem import planned_apart
from verification.experiments.machine import cores
from verification.experiments.threads import as_finished
from verification.store import store
from verification.store.table import Table

NAME, MOST_CELLS = "plans.sqlite", 100_000


class PlanCell(NamedTuple):
    """What one plan is for: requests/s, head-room, spare replicas, the price of the kind `priced` ("": no other)."""

    rate: float
    headroom: float
    spare: int
    priced: str
    price: float


class PlanRow(NamedTuple):
    """A finished plan: `fleet` is {name: replicas} as JSON; costs are an hour's, of a `day` a period's; None where
    there is no fleet, or no day."""

    rate: float
    headroom: float
    spare: int
    priced: str
    price: float
    status: str
    reason: str
    cost: float | None
    bound: float | None
    single: float | None
    fleet: str
    day: float | None
    autoscaler: float | None

    @property
    def cell(self) -> PlanCell:
        """What it is for."""
        return PlanCell(*self[:5])


KINDS = {"spare": "INTEGER"} | dict.fromkeys(("priced", "status", "reason", "fleet"), "TEXT")
TABLE = Table("plans", tuple((name, KINDS.get(name, "REAL")) for name in PlanRow._fields), key=PlanCell._fields)
Stream = Generator[PlanRow, None, None]
Keep = Callable[[PlanRow], None]


@dataclass(frozen=True)
class PlanGrid:
    """Rates, head-rooms, spares and prices of one kind, each sorted and there once."""

    rates: tuple[float, ...]
    headrooms: tuple[float, ...]
    spares: tuple[int, ...]
    priced: str = ""
    prices: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if len(self.rates) * len(self.headrooms) * len(self.spares) * len(self.prices) > MOST_CELLS:
            raise InputError("--rates", f"at most {MOST_CELLS:,} plans in all", len(self.rates))

    @property
    def cells(self) -> list[PlanCell]:
        """Every combination, by rate first."""
        return [PlanCell(rate, headroom, spare, self.priced, price) for rate, headroom, spare, price in
                product(self.rates, self.headrooms, self.spares, self.prices)]


def plan_cell(deployment: Deployment, cell: PlanCell) -> PlanRow:
    """The row of one cell."""
    here = deployment.at(cell.rate)
    if cell.priced:
        prices = {cell.priced: cell.price}
        here = replace(here, fleet=tuple(
            replace(each, kind=replace(each.kind, price=prices.get(each.kind.name, each.kind.price)))
            for each in here.fleet))
    if any(each.kind.part for each in here.fleet):
        return _apart(here, cell)
    with quiet():
        found = planned(here, cell.headroom, cell.spare)
    plan, day = found.plan, found.day
    there = plan.counts is not None
    fleet_text = json.dumps({} if plan.counts is None else {
        each.name: int(n) for n, each in zip(plan.counts, plan.kinds, strict=True) if n})
    scheduled = day is not None and day.plan.counts is not None
    return PlanRow(*cell, plan.status, plan.reason, plan.cost if there else None, plan.bound if there else None,
                   found.single[2] if found.single else None, fleet_text,
                   day.plan.cost if day is not None and scheduled else None,
                   day.reaction.cost if day is not None and day.reaction is not None else None)


def _apart(here: Deployment, cell: PlanCell) -> PlanRow:
    """The row of pools that prefill and decode apart: neither has a fleet of one kind, nor a day, beside it."""
    found = planned_apart(here, demanded(here), cell.headroom, cell.spare)
    plan, pools = found.plan, found.pools.values()
    fleet = {each.name: int(n) for pool in pools if plan.feasible and pool.counts is not None
             for n, each in zip(pool.counts, pool.kinds, strict=True) if n}
    return PlanRow(*cell, found.status, " ".join(each.reason for each in pools if each.reason),
                   plan.cost if plan.feasible else None, plan.bound if plan.feasible else None, None, json.dumps(fleet),
                   None, None)


def plan_as_text(deployment: Deployment, cell: PlanCell, computing: str) -> str:
    """What a worker of a cluster does: the row as JSON, or an object that says why there is none."""
    try:
        if computing != program():
            raise FluidwaitError(f"a worker computes with {program()}; this command with {computing}")
        return json.dumps(TABLE.plain(plan_cell(deployment, cell)))
    except FluidwaitError as error:
        return json.dumps({REFUSED: str(error)})


def read_row(text: Any, cell: PlanCell) -> PlanRow:
    """The row of a worker's text; raises FluidwaitError where it refused, or where that is none."""
    answer = answered(text)
    try:
        row = PlanRow(*TABLE.plain(answer if isinstance(answer, list) else []))  # type: ignore[arg-type]
    except InputError:
        row = None
    if row is None or row.cell != cell or not isinstance(row.fleet, str) or not isinstance(row.status, str):
        raise FluidwaitError(f"--dask: a worker's answer is no plan at {cell.rate:g} requests/s: {shown(answer)}")
    return row


def finished(deployment: Deployment, cells: Sequence[PlanCell], workers: Workers) -> Stream:
    """Plan cells in threads or on the cluster, and yield each when it is finished."""
    if workers.dask is not None:
        with closing(on_cluster(workers.dask, deployment, cells, plan_as_text, program())) as answers:
            yield from (read_row(answer, cell) for cell, answer in answers)
        return
    with closing(as_finished(lambda cell: plan_cell(deployment, cell), cells, workers.jobs or cores())) as stream:
        yield from (row for _, row in stream)


def complete(deployment: Deployment, grid: PlanGrid, workers: Workers, out: Path | None) -> list[PlanRow]:
    """Every row of a grid in its order, those of the folder as they are, the others planned and kept there."""
    with _opened(deployment, out) as (found, keep):
        missing = [cell for cell in grid.cells if cell not in found]
        if len(missing) < len(grid.cells):
            note(f"{len(grid.cells) - len(missing)} of {len(grid.cells)} plans are there already")
        if missing:
            with counting("planning") as progress, closing(finished(deployment, missing, workers)) as stream:
                for done, row in enumerate(stream, 1):
                    keep(row)
                    found[row.cell] = row
                    progress(done, len(missing))
        return [found[cell] for cell in grid.cells]


@contextmanager
def _opened(deployment: Deployment, out: Path | None) -> Iterator[tuple[dict[PlanCell, PlanRow], Keep]]:
    """The rows in a folder by cell, and what keeps one more; without a folder none, and nothing."""
    if out is None:
        yield {}, lambda row: None
        return
    with store.opened(out, NAME, asked_of_plans(deployment), TABLE, note, ADVICE) as kept:
        rows = [PlanRow(*row) for row in kept.rows]  # type: ignore[arg-type]
        yield {row.cell: row for row in rows}, lambda row: kept.add([row])
