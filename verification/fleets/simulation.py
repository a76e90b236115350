"""One simulated path of a fleet behind a router.

Where the router looks at no replica, requests are dealt out before and each replica runs by itself; else all run
together (`verification.fleets.together`). Source: mathematics, section 21.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fluid import Workload
from fluid.arrays import Ints
from fluid.errors import InputError
from verification.experiments.machine import room
from verification.experiments.replications import MOST_KEPT
from verification.fleets.fleet import Fleet
from verification.fleets.fleet_run import FleetRun
from verification.fleets.router import Router
from verification.fleets.together import simulate_together
from verification.run import Run
from verification.simulation import run_kernel, who_arrives
from verification.traffic.arrivals import Arrivals
from verification.traffic.closed import Returning
from verification.traffic.processes import POISSON, Traffic

ROUTING = 2  # the random stream of a router, apart from those of arrivals and of predictions
SHARE = 0.5  # of what a request of a run takes in memory, at each replica that a router looks at


def simulate_fleet(fleet: Fleet, router: Router, workload: Workload, *, horizon: float | None = None,
                   arrivals: Arrivals | None = None, traffic: Traffic = POISSON, seed: int = 0,
                   replication: int = 0) -> FleetRun:
    """Simulate a fleet, on `traffic` over [0, horizon) seconds or on explicit arrivals until nothing moves.

    Routers compared at one seed see the same requests. Raises InputError as `verification.simulate` does, for a closed
    loop, where a type fits no replica, and for a rule that must know all requests where the router looks at replicas.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> from fluid.planning import Kind
    >>> fleet = Fleet.of([Kind("a100", Replica(137_000, IterationTime(0.0106, 4.013e-7)))], [2])
    >>> mix = Workload([PromptType(512, 20, 40.0)])
    >>> simulate_fleet(fleet, Router("round-robin"), mix, arrivals=Arrivals([0.0, 0.0, 1.0], [0, 0, 0])).where.tolist()
    [0, 1, 0]
    """
    requests, until = who_arrives(workload, horizon, arrivals, traffic, seed, replication)
    requests.check(workload)
    if isinstance(requests, Returning):
        raise InputError("traffic", "open: at a fleet arrivals wait for no answer", traffic, "simulate_fleet")
    generator = np.random.default_rng(np.random.SeedSequence([seed, replication], spawn_key=(ROUTING,)))
    choices = router.choices(fleet, workload, requests, generator)
    if router.looks:
        _check_memory(requests, fleet)
        where, runs = simulate_together(fleet, router.rule, choices, workload, requests, until)
    else:
        where = router.blind(choices, generator)
        runs = tuple(_alone(fleet, k, workload, requests, where == i, until)
                     for i, k in enumerate(fleet.kind_of.tolist()))
    return FleetRun(fleet, workload, requests, where, runs)


def _alone(fleet: Fleet, kind: int, workload: Workload, arrivals: Arrivals, mine: Ints, until: float) -> Run:
    """A replica by itself, on the requests that are sent there."""
    own = Arrivals.made(arrivals.times[mine], arrivals.types[mine], arrivals.seen[mine])
    replica = replace(fleet.kinds[kind].replica, max_model_len=None)
    return run_kernel(fleet.policies[kind], workload, replica, own, until, record=False)


def _check_memory(arrivals: Arrivals, fleet: Fleet) -> None:
    """Each replica has room for all requests where the router may send them all to one."""
    most, limit = room(MOST_KEPT)
    if SHARE * len(arrivals) * len(fleet) > most:
        requirement = f"short enough for {most / SHARE / len(fleet):.2g} requests at each of {len(fleet):,} replicas"
        raise InputError("horizon", f"{requirement} ({limit})", f"{len(arrivals):,} requests", "simulate_fleet")
