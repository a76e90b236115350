"""What is proved of a deployment from both sides, with the numbers that prove it, and what uncertainty costs of it.

From below windows that never overflow, and for unknown lengths one whose overflow has a bounded chance; from above the
half-spaces that nobody passes. All of them are half-spaces in the rates, so that a set of rates is answered by their
support functions. See mathematics, section 18.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fluid import Equilibrium, solve
from fluid.arrays import Floats
from fluid.bounds.certificate import Certificate
from fluid.bounds.ignorance import under_ignorance, while_reserving
from fluid.bounds.packing import Packing, packing
from fluid.bounds.worth import worth_of_types
from fluidwait.deployment.deployment import Deployment
from fluidwait.study.possible import Possible
from thresholds.paced_wait.known import MOST_WINDOWS
from thresholds.proved.chance import Chance, chance_windows
from thresholds.proved.window import ProvedWindows, sure_windows

TIGHTER = 1e-9  # relative: a bound that says so much more is told beside the fluid limit


class Above(NamedTuple):
    """A bound: no policy `of` a kind carries more than `factor` times the rates, by the half-space `slope` (J,).

    It is the work at a `lead` (None: reserved for the longest) of a `limit`, or `packed` stages, by line number `line`;
    or, where no one line says it, what a request is worth at the `prices` of what batches hold and compute.
    """

    of: str
    factor: float
    line: int
    slope: Floats
    limit: str = "memory"
    lead: int | None = 0
    packed: Packing | None = None
    prices: Certificate | None = None


ANYONE, SURE, RESERVING = "anyone", "sure", "reserving"


@dataclass(frozen=True, eq=False)
class Certified:
    """What is proved of a `deployment`: `sure` windows, a window with a `chance` where lengths count as unknown.

    `possible` are the rates it is to hold for, beside the nominal ones; `unhedged` is the factor of the window with a
    chance that would be enough without them.
    """

    deployment: Deployment
    equilibrium: Equilibrium
    sure: ProvedWindows | None
    chance: Chance | None
    possible: Possible | None
    unhedged: float = 0.0

    @property
    def blind(self) -> bool:
        """Whether windows do without lengths: they are unknown, or too many for a window each."""
        return not _windows_by_type(self.deployment)

    @property
    def windows(self) -> tuple[ProvedWindows, ...]:
        """The windows that are proved, with certainty or with a chance."""
        chance = None if self.chance is None else self.chance.windows
        return tuple(each for each in (self.sure, chance) if each is not None)

    @property
    def best(self) -> ProvedWindows | None:
        """The one that carries most."""
        return max(self.windows, key=lambda each: each.factor, default=None)

    @property
    def below(self) -> float:
        """The factor on all rates that is proved to be carried; 0 where none is."""
        return self.best.factor if self.best else 0.0

    @cached_property
    def above(self) -> tuple[Above, ...]:
        """The bounds, that of everybody's fluid limit first."""
        return tuple(_bounds(self.equilibrium)) if self.equilibrium.limit != "length" else ()

    @property
    def limit(self) -> float:
        """The factor that nobody passes; 0 where a type never fits."""
        return min((each.factor for each in self.above if each.of == ANYONE), default=0.0)

    @property
    def gap(self) -> float | None:
        """What lies between, as a share of the upper bound."""
        return 1 - self.below / self.limit if self.limit else None

    def robust_below(self, windows: ProvedWindows) -> float:
        """The factor that windows carry for all rates that are possible."""
        if self.possible is None:
            return windows.factor
        worst = max(self.possible.rates.worst(row).value for row in windows.rows)
        return windows.factor * float((windows.rows @ self.equilibrium.workload.rates).max()) / worst

    def lost(self, windows: ProvedWindows) -> float:
        """What certainty costs of what is carried, a factor: of a window with a chance, against the one without it."""
        hedged = self.chance is not None and windows is self.chance.windows
        return max(windows.factor, self.unhedged if hedged else 0.0) - self.robust_below(windows)

    def robust_above(self, bound: Above) -> float:
        """The factor that nobody passes for some of the rates that are possible."""
        return bound.factor if self.possible is None else 1.0 / self.possible.rates.worst(bound.slope).value

    @property
    def yes(self) -> bool:
        """Whether the demand, all of it that is possible, is proved to be carried."""
        return any(self.robust_below(each) >= 1 for each in self.windows)


def certified(deployment: Deployment, possible: Possible | None) -> Certified:
    """Prove what can be proved of a deployment."""
    equilibrium = solve(deployment.workload, deployment.replica)
    by_type = _windows_by_type(deployment)
    chance, unhedged = None, 0.0
    if not by_type:
        plain, hedged = chance_windows(equilibrium, deployment.horizon, deployment.overflow_probability,
                                       None if possible is None else possible.rates)
        chance = plain if possible is None else hedged
        unhedged = plain.windows.factor if plain is not None else 0.0
    return Certified(deployment, equilibrium, sure_windows(equilibrium, by_type), chance, possible, unhedged)


def _windows_by_type(deployment: Deployment) -> bool:
    return deployment.lengths == "known" and len(deployment.workload) <= MOST_WINDOWS


def _bounds(equilibrium: Equilibrium) -> Iterator[Above]:
    """The fluid limit; where they say more, stages that must fit together, prices, and not knowing lengths."""
    region, profile, replica = equilibrium.region, equilibrium.profile, equilibrium.replica
    rates, lines = equilibrium.workload.rates, replica.iteration_time.coefficients
    row = int(np.argmax(region.half_spaces @ rates))
    fluid = Above(ANYONE, equilibrium.max_rate_scale, row % len(lines), region.half_spaces[row], region.limits[row])
    yield fluid
    packed = packing(profile, rates, replica.kv_capacity)
    loads = profile.time_work(replica.iteration_time) @ rates + lines[:, 0] * packed.need
    line = int(np.argmax(loads))
    least = min(fluid.factor, 1.0 / float(loads[line])) if packed.rule else fluid.factor
    if packed.rule and least < fluid.factor * (1 - TIGHTER):
        slope = profile.time_work(replica.iteration_time)[line] + lines[line, 0] * packed.each
        yield Above(ANYONE, 1.0 / float(loads[line]), line, slope, packed=packed)
    proof = equilibrium.impossible.anyone
    if len(proof.mixture) > 1 and proof.scale < least * (1 - TIGHTER):
        slope = worth_of_types(proof, profile, packed.each)
        some = packed if packed.rule else None
        yield Above(ANYONE, 1.0 / float(slope @ rates), line, slope, packed=some, prices=proof)
    for of, found in ((SURE, under_ignorance(profile, rates, replica)),
                      (RESERVING, while_reserving(profile, rates, replica))):
        if found.scale < fluid.factor * (1 - TIGHTER):
            yield Above(of, found.scale, found.line, found.slope, lead=found.lead)
