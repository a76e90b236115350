"""What a planned fleet draws, and what its energy and its tokens cost.

The replicas of a kind share its rates evenly, so each draws what it does at that share (`fluid.energy`), and those to
which nothing is sent their power while idle. A fleet of which some replica's power is not known has none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fluid import Workload, energy_at, solve
from fluid.arrays import Floats
from fluid.planning import Kind
from fluidwait.study.fleet import Planned

KILO, HOUR = 1000.0, 3600.0
INSIDE = 1 - 1e-6  # of rates that fill a replica to its limit but for rounding
SOME = 1e-9  # of a type's rate: less is none


@dataclass(frozen=True)
class FleetEnergy:
    """Of a fleet that carries `throughput` output tokens/s: `watts` by kind (None where not known), its `cost` an hour
    (None where no price is given), and that of its electricity (None where a price, or a power, is not known)."""

    watts: tuple[float | None, ...]
    throughput: float
    cost: float | None
    electricity: float | None

    @property
    def total(self) -> float | None:
        """All watts; None where some are not known."""
        known = [each for each in self.watts if each is not None]
        return math.fsum(known) if len(known) == len(self.watts) else None

    @property
    def per_output_token(self) -> float | None:
        """Joules of an output token; None where some watts are not known."""
        return None if self.total is None else self.total / self.throughput

    def per_million_tokens(self, hourly: float | None) -> float | None:
        """What a million output tokens cost at so much an hour."""
        return None if hourly is None else hourly / HOUR / self.throughput * 1e6


def fleet_energy(found: Planned) -> FleetEnergy | None:
    """The energy of a plan; None where there is no fleet, or neither a price nor all watts are known."""
    plan = found.plan
    if plan.counts is None or plan.rates is None:
        return None
    watts = tuple(_watts(plan.workload, each, int(n), rates)
                  for each, n, rates in zip(plan.kinds, plan.counts, plan.rates, strict=True))
    prices = [each.electricity for each in found.kinds]
    bill = [None if used is None or (price is None and used > 0) else used / KILO * (price or 0.0)
            for used, price in zip(watts, prices, strict=True)]
    known = [each for each in bill if each is not None]
    throughput = float(plan.workload.rates @ plan.workload.output_tokens)
    priced = found.deployment.fleet or found.deployment.price is not None
    electricity = math.fsum(known) if len(known) == len(bill) else None
    used = FleetEnergy(watts, throughput, plan.cost if priced else None, electricity)
    return None if used.cost is None and used.total is None else used


def _watts(workload: Workload, kind: Kind, count: int, rates: Floats) -> float | None:
    """What so many replicas of a kind draw that share rates, shape (J,)."""
    power = kind.replica.power
    if count == 0:
        return 0.0
    if power is None:
        return None
    served = np.flatnonzero(rates > SOME * workload.rates)
    if not len(served):
        return count * power.idle
    energy = energy_at(solve(workload.some(served, rates / count * INSIDE), kind.replica))
    return None if energy is None else count * energy.watts
