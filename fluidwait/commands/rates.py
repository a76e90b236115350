"""The commands that look at many rates: a grid of them, and the largest that a policy sustains."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fluid import solve
from fluid.errors import InputError
from fluidwait.deployment.deployment import Deployment, deployment_of
from fluidwait.deployment.policy_names import known, visible
from fluidwait.deployment.read_targets import Asked, asked_targets
from fluidwait.deployment.trace_keys import Flags, TraceKeys
from fluidwait.progress import note
from fluidwait.reports import answers
from fluidwait.reports.console import give, write
from fluidwait.reports.rates import capacity_answer, show_capacity, show_sweep, sweep_answer
from fluidwait.study.batch import refuse_batch, refuse_closed
from fluidwait.study.cell import Finished
from fluidwait.study.fingerprint import asked
from fluidwait.study.grid import LOADS, RATES, Cell, Grid
from fluidwait.study.largest_rate import largest_rate
from fluidwait.study.outcomes import Plan
from fluidwait.study.store import Cells, opened
from fluidwait.study.sweep import Sweep, Workers, most_kept_by_a_cell, run_cells


def sweep_command(policies: str, rates: str, loads: str, file: Path | None, keys: Flags, horizon: float | None,
                  replications: int, seed: int, out: Path | None, jobs: int | None, dask: str | None,
                  json: bool) -> None:
    """Simulate policies over a range of rates; with --out every finished cell is kept, and the same command goes on."""
    if bool(rates) == bool(loads):
        raise InputError("--rates", "given, or --loads, and not both", (rates, loads))
    grid = Grid.read(rates or loads, policies, RATES if rates else LOADS)
    workers, deployment = Workers.checked(jobs, dask), deployment_of(file, TraceKeys.of_flags(keys))
    refuse_batch(deployment, "sweep")
    if loads:
        grid = grid.at(solve(deployment.workload, deployment.replica).max_rate_scale * deployment.workload.rate)
    for policy in grid.policies:
        visible("--policies", policy, deployment)
    plan = Plan.checked(deployment, horizon, replications, seed, lowest=grid.rates[0])
    kept, question = most_kept_by_a_cell(deployment, grid, plan), asked(deployment, plan)
    with nullcontext() if out is None else opened(out, question, plan) as store:
        finished = _complete(deployment, grid, plan, kept, workers, store)
        found = Sweep(grid, plan, tuple(finished[cell] for cell in grid.cells),
                      solve(deployment.workload, deployment.replica))
        answer = {**answers.provenance("sweep", deployment), **sweep_answer(deployment, found, question)}
        if out is not None:
            _write(out, found, answer)
    give(answer, json, lambda: show_sweep(deployment, found, out))


def capacity_command(file: Path | None, keys: Flags, policy: str, asked: Asked, precision: float,
                     horizon: float | None, replications: int, seed: int, json: bool) -> bool:
    """Search for the largest rate that a policy sustains within targets, of flags or else of the file; whether there is
    one.
    """
    known("--policy", policy)
    targets = asked_targets(asked)
    deployment = deployment_of(file, TraceKeys.of_flags(keys))
    refuse_batch(deployment, "capacity")
    refuse_closed(deployment, "capacity")
    visible("--policy", policy, deployment)
    plan = Plan.checked(deployment, horizon, replications, seed, precision)
    found = largest_rate(deployment, policy, plan, deployment.targets if targets is None else targets, precision)
    answer = {**answers.provenance("capacity", deployment), **capacity_answer(found, plan, precision)}
    give(answer, json, lambda: show_capacity(deployment, found, plan))
    return found.capacity.low is not None


def _complete(deployment: Deployment, grid: Grid, plan: Plan, kept: float, workers: Workers,
              store: Cells | None) -> dict[Cell, Finished]:
    """Every cell of the grid, those in the store as they are, the others simulated and stored."""
    finished = {} if store is None else dict(store.found)
    missing = [cell for cell in grid.cells if cell not in finished]
    if len(missing) < len(grid.cells):
        note(f"{len(grid.cells) - len(missing)} of {len(grid.cells)} cells are there already")

    def keep(each: Finished) -> None:
        if store is not None:
            store.add(each)
        finished[each.cell] = each

    if missing:
        run_cells(deployment, missing, plan, kept, workers, keep)
    return finished


def _write(folder: Path, found: Sweep, answer: dict[str, Any]) -> None:
    from fluidwait.figures.sweep import draw_sweep  # matplotlib takes a second to load

    write(folder, answer, draw_sweep(found))
