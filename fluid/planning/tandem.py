"""Prefill and decode apart: how many replicas of each pool, what two pools carry, what one more is worth.

A pool of prefill replicas stands before a pool of decode replicas (`fluid.planning.parts`); every request passes both,
those of one token that the prefill makes the first alone. Pools share nothing but the rates, so

    theta = min(theta_P, theta_D)                  factor on all rates that (P, D) replicas carry      (edge)
    min cost = min cost_P + min cost_D             the cheapest of each pool for the same demand

each part with the certificate of `fluid.planning.demand` and `fleet`. Of one kind each with loads e_P, e_D, theta is
min(P/e_P, D/e_D); it takes P : D = e_P : e_D, and one more prefill replica is worth 1/e_P where that pool binds, else
nothing.

**Beside it, the same replicas colocated.** With one line of the iteration time and one replica for all roles, stages,
KV work and time work of the parts add up to those of the whole, and max(x + y) <= max x + max y over the limits:

    e  <=  e_P + e_D                               for every mix

so that in the fluid limit separating identical replicas never carries more, and as much only where one limit binds in
both pools and links cost nothing. With several lines it costs less than the edges say, as mixed batches do not reach
theirs (mathematics, section 17.4). It can be worth it because kinds, chunks and caps differ by pool, and for the time
between tokens: colocated a decode waits for the prefills in its batch, which the fluid model has as a mean, and
`longest` with the longest prompt in one.

**In balance** a request without a queue takes K Delta_P for its prefill, T for its transfer, then Delta_D for every
token. Source: mathematics, section 17; derived here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Bools, Floats
from fluid.errors import InputError
from fluid.planning.demand import Carried, most_demand
from fluid.planning.fleet import FleetPlan, plan_fleet
from fluid.planning.kinds import Kind
from fluid.planning.margins import Residuals
from fluid.planning.parts import DECODE, PREFILL
from fluid.planning.whole_fleet import INFEASIBLE
from fluid.workload import Workload


@dataclass(frozen=True, eq=False)
class TandemPlan:
    """The cheapest pools for a demand: `prefill` and `decode`, each a `FleetPlan` of its own requests."""

    workload: Workload
    prefill: FleetPlan
    decode: FleetPlan

    def __repr__(self) -> str:
        if not self.feasible:
            return f"TandemPlan({INFEASIBLE})"
        fleet = " + ".join(f"{n:g} x {each.name}" for pool in (self.prefill, self.decode) if pool.counts is not None
                           for n, each in zip(pool.counts, pool.kinds, strict=True) if n)
        return f"TandemPlan({fleet[:80]}, cost {self.cost:.6g}, bound {self.bound:.6g}, P : D = {self.ratio:.4g})"

    @property
    def feasible(self) -> bool:
        """Whether there are such pools."""
        return self.prefill.feasible and self.decode.feasible

    @property
    def cost(self) -> float:
        """That of both, infinite where there is none."""
        return self.prefill.cost + self.decode.cost

    @property
    def bound(self) -> float:
        """The least cost of both with fractions of replicas."""
        return self.prefill.bound + self.decode.bound

    @property
    def gap(self) -> float:
        """(cost - bound)/cost."""
        return (self.cost - self.bound) / self.cost if self.feasible else 1.0

    @property
    def ratio(self) -> float:
        """P : D, replicas that prefill for one that decodes, in fractions; NaN where there are no pools."""
        sums = [np.nan if each.relaxed_counts is None else float(each.relaxed_counts.sum())
                for each in (self.prefill, self.decode)]
        return sums[0] / sums[1]

    @property
    def worth(self) -> Floats:
        """What one request/s more of each type costs, in both pools: shape (J,)."""
        worth = self.prefill.worth.copy()
        worth[decoded(self.workload, self.decode.kinds)] += self.decode.worth
        return worth

    def check(self) -> Residuals:
        """Both certificates recomputed: the worse of each residual."""
        return Residuals(*(max(pair) for pair in zip(self.prefill.check(), self.decode.check(), strict=True)))


@dataclass(frozen=True, eq=False)
class TandemCarried:
    """What pools of given counts carry: `prefill` and `decode`, each `Carried` by its own requests."""

    prefill: Carried
    decode: Carried

    def __repr__(self) -> str:
        return f"TandemCarried({self.factor:.6g} of the demand, {self.binds} binds)"

    @property
    def factor(self) -> float:
        """theta, the largest factor on all rates."""
        return min(self.prefill.factor, self.decode.factor)

    @property
    def bound(self) -> float:
        """No routing carries more, proved by the prices of the pool that binds."""
        return min(self.prefill.bound, self.decode.bound)

    @property
    def binds(self) -> str:
        """Which pool is full first: "prefill" or "decode"."""
        return PREFILL if self.prefill.factor <= self.decode.factor else DECODE

    def one_more(self, role: str, k: int = 0) -> float:
        """By how much theta grows with one more replica of kind k of the pool; 0 of the pool that does not bind."""
        pools = {PREFILL: self.prefill, DECODE: self.decode}
        if role not in pools or not 0 <= k < len(pools[role].kinds):
            raise InputError("role", '"prefill" or "decode", and a kind of that pool', (role, k), "one_more")
        pool = pools[role]
        counts = pool.counts.copy()
        counts[k] += 1
        pools[role] = most_demand(pool.workload, pool.kinds, counts)
        return min(each.factor for each in pools.values()) - self.factor

    def check(self) -> Residuals:
        """Both certificates recomputed: the worse of each residual."""
        return Residuals(*(max(pair) for pair in zip(self.prefill.check(), self.decode.check(), strict=True)))


class Pace(NamedTuple):
    """Seconds of an iteration in balance, and of one that also prefills the longest chunk of the mix."""

    iteration_time: float
    longest: float


def plan_tandem(workload: Workload, prefill: Sequence[Kind], decode: Sequence[Kind], headroom: float = 0.0,
                whole: bool = True, spare: int = 0) -> TandemPlan:
    """Return the cheapest pools for (1 + `headroom`) times the demand; see `plan_fleet`, which plans each of them.

    Raises InputError unless every kind has the part of its pool, and some request needs a decode replica.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> from fluid.planning import Part, Transfer
    >>> gpu, link = Replica(400_000, IterationTime(0.008, 5e-8, 4e-5, 1e-5), first_token="prefill"), Transfer(2e10, 1e5)
    >>> pools = [[Kind(role, gpu, 2.0, part=Part(role, link))] for role in ("prefill", "decode")]
    >>> plan_tandem(Workload([PromptType(3000, 300, 30.0)]), *pools)
    TandemPlan(4 x prefill + 3 x decode, cost 14, bound 11.3619, P : D = 1.743)
    """
    check_parts(prefill, decode)
    second = decoding(workload, decode)
    return TandemPlan(workload, plan_fleet(workload, prefill, headroom, whole, spare),
                      plan_fleet(second, decode, headroom, whole, spare))


def most_tandem(workload: Workload, prefill: Sequence[Kind], decode: Sequence[Kind], prefill_counts: ArrayLike,
                decode_counts: ArrayLike) -> TandemCarried:
    """Return the largest factor on all rates that these counts of the two pools carry, with its certificates.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> from fluid.planning import Part, Transfer
    >>> gpu, link = Replica(400_000, IterationTime(0.008, 5e-8, 4e-5, 1e-5), first_token="prefill"), Transfer(2e10, 1e5)
    >>> pools = [[Kind(role, gpu, part=Part(role, link))] for role in ("prefill", "decode")]
    >>> found = most_tandem(Workload([PromptType(3000, 300, 30.0)]), *pools, [4], [2])
    >>> found, found.one_more("prefill"), round(found.one_more("decode"), 4)
    (TandemCarried(0.965736 of the demand, decode binds), 0.0, 0.1423)
    """
    check_parts(prefill, decode)
    return TandemCarried(most_demand(workload, prefill, prefill_counts),
                         most_demand(decoding(workload, decode), decode, decode_counts))


def decoded(workload: Workload, decode: Sequence[Kind]) -> Bools:
    """The types that need a decode replica: all, or those of several tokens where prefills make the first, (J,)."""
    in_prefill = {each.replica.first_token for each in decode} == {PREFILL}
    needs: Bools = workload.output_tokens > int(in_prefill)
    return needs


def colocated(kinds: Sequence[Kind]) -> list[Kind]:
    """The same kinds, each replica serving whole requests."""
    return [replace(each, part=None) for each in kinds]


def pace(workload: Workload, kind: Kind, rates: ArrayLike) -> Pace:
    """How long the iterations of one replica of a kind are at `rates` (J,) in requests/s: infinite where they are none.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> gpu = Kind("gpu", Replica(10**6, IterationTime(0.01, 1e-7, 1e-5)))
    >>> [round(each, 5) for each in pace(Workload([PromptType(1000, 100, 1.0)]), gpu, [2.0])]
    [0.01043, 0.02022]
    """
    profile, own = kind.profile(workload), np.asarray(rates, dtype=np.float64)
    lines = kind.replica.iteration_time.coefficients
    loads = profile.time_work(kind.replica.iteration_time) @ own
    if np.any(loads >= 1):
        return Pace(np.inf, np.inf)
    seconds = float(np.max(lines[:, 0] / (1 - loads)))
    chunk = np.where(own > 0, np.minimum(profile.chunk, profile.prompt) * (profile.prefill_stages > 0), 0).max()
    batch = np.array([1.0, seconds * float(own @ profile.kv_read), float(chunk), seconds * float(own @ profile.stages)])
    return Pace(seconds, max(seconds, float(np.max(lines @ batch))))


def decoding(workload: Workload, decode: Sequence[Kind]) -> Workload:
    """The requests that come to the decode pool."""
    needs = decoded(workload, decode)
    if needs.all():
        return workload
    if not needs.any():
        raise InputError("output_tokens", "at least 2 tokens of some type where prefills make the first", 1, "tandem")
    return workload.some(needs)


def check_parts(prefill: Sequence[Kind], decode: Sequence[Kind]) -> None:
    """Refuse kinds without the part of their pool, and first tokens made in two places."""
    for role, kinds in ((PREFILL, prefill), (DECODE, decode)):
        for each in kinds:
            if not isinstance(each, Kind) or each.part is None or each.part.role != role:
                raise InputError(role, "kinds with a Part of that role", each, "tandem")
    conventions = {each.replica.first_token for each in (*prefill, *decode)}
    if len(conventions) > 1:
        raise InputError("first_token", "the same of all kinds", sorted(conventions), "tandem")
