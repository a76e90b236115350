"""Targets that no formula knows, held in a plan by simulation: how full a replica of each kind may be within them.

Along the mix that a plan sends to a kind, `verification.capacity` searches the largest rate at which one replica under
vLLM V1 as it comes keeps all targets, percentiles and goodput too: an interval, whose lower end over the edge is the
share of its limits that the kind may use. The plan is made anew with it, and as its mixes change then, kinds are
simulated at theirs, `ROUNDS` times at most; a kind that is sent nearly the same mix, and no more of it than was found
sustained, is not simulated again. Where rounds end before, `settled` is false: the last mixes were not simulated.
As uses only fall, a kind may end with less than its best mix allows: each kind alone is tried too, unless replicas of
another one are there and stay, and the cheapest is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from fluid.arrays import Floats
from fluid.errors import InputError
from fluid.planning import FleetPlan, Kind, plan_fleet
from fluid.workload import Workload
from fluidwait.progress import counting, quiet
from fluidwait.study.fleet_targets import Within, on_one
from fluidwait.study.outcomes import baseline
from verification import Effort, Targets, capacity

POLICY, ROUNDS, PRECISION = "vllm-v1", 4, 0.05
SAME_MIX = 0.02  # shares that differ by less in all are one mix
HORIZON, REPLICATIONS = 900.0, 4  # of each rate; a search doubles the horizon where it does not decide


@dataclass(frozen=True)
class Tail:
    """One kind: the requests/s that one replica keeps within all targets, from `low` (None: none) to `high`, and its
    `edge`, along a `mix` (J,), shares of its requests. `settled`: the plan sends it that mix, and no more."""

    name: str
    mix: Floats
    low: float | None
    high: float
    edge: float
    settled: bool = True


def within_tails(within: Within, targets: Targets, workload: Workload, headroom: float, spare: int) -> Within:
    """Return the kinds with the share of their limits that simulation found within all targets."""
    if not targets:
        raise InputError("--tails", "given beside targets, of [target] in the file", "no target")
    stay = {each.name for each in within.kinds if each.count}
    alone = [[each] for each in within.kinds if len(within.kinds) > 1 and stay <= {each.name}]
    choices = [list(within.kinds), *alone]
    found = [_settled(within, targets, workload, kinds, headroom, spare) for kinds in choices]
    costs = [inf if each.reason else plan_fleet(workload, each.kinds, headroom, spare=spare).cost for each in found]
    return found[costs.index(min(costs))]


def _settled(within: Within, targets: Targets, workload: Workload, kinds: list[Kind], headroom: float,
             spare: int) -> Within:
    """Plan and simulate in turn, with these kinds."""
    slow, found = list(within.slow), dict[str, Tail]()
    for _ in range(ROUNDS):
        plan = plan_fleet(workload, kinds, headroom, spare=spare)
        new = {each.name: each for each in _simulated(plan, targets, found)}
        if not new:
            break
        found |= new
        slow += [name for name, each in new.items() if each.low is None]
        kept = [_limited(each, found.get(each.name)) for each in kinds if each.name not in slow]
        if not kept:
            return replace(within, slow=tuple(slow), tails=tuple(found.values()),
                           reason=f"no simulated replica keeps {targets.text} at any load")
        kinds = kept
    last = plan_fleet(workload, kinds, headroom, spare=spare)
    tails = tuple(replace(each, settled=not _unknown(last, k, each)) for k, kind in enumerate(kinds)
                  if (each := found.get(kind.name)) is not None and last.counts is not None and last.counts[k])
    return replace(within, kinds=tuple(kinds), slow=tuple(slow), left=(), tails=tails)


def _limited(kind: Kind, tail: Tail | None) -> Kind:
    return kind if tail is None or tail.low is None else replace(kind, use=min(kind.use, tail.low / tail.edge))


def _simulated(plan: FleetPlan, targets: Targets, known: dict[str, Tail]) -> list[Tail]:
    """The searches for the kinds of a plan whose replicas carry more than is known to be within the targets."""
    found = []
    for k, kind in enumerate(plan.kinds):
        one = on_one(plan, k)
        if one is None or not _unknown(plan, k, known.get(kind.name)):
            continue
        with counting(f"simulating {kind.name}") as progress, quiet():
            search = capacity(baseline(POLICY, kind.replica), one.workload, kind.replica, bound=targets,
                              precision=PRECISION, effort=Effort(HORIZON, REPLICATIONS), progress=progress)
        found.append(Tail(kind.name, _mix(plan, k), search.low, search.high, one.workload.rate * one.max_rate_scale))
    return found


def _mix(plan: FleetPlan, k: int) -> Floats:
    """The shares of the types among the requests that a kind is sent, (J,)."""
    sent = np.zeros(len(plan.workload)) if plan.rates is None else plan.rates[k]
    shares: Floats = sent / max(float(sent.sum()), 1e-300)
    return shares


def _unknown(plan: FleetPlan, k: int, tail: Tail | None) -> bool:
    """Whether what a replica of a kind is sent is not what was simulated, or more than was sustained."""
    one = on_one(plan, k)
    if one is None:
        return False
    if tail is None or tail.low is None or float(np.abs(_mix(plan, k) - tail.mix).sum()) > SAME_MIX:
        return True
    return bool(1 / one.max_rate_scale > tail.low / tail.edge * (1 + SAME_MIX))
