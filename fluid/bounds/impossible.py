r"""What no policy can carry on a replica, with the prices that prove it.

The fluid edge (`fluid.region`) is an upper bound of what any policy carries. It is not reached where prefills and KV
bind different lines of the iteration time in different batches, nor where the cache holds a few requests only. Two
bounds know more; both are certificates (`fluid.bounds.certificate`) of the least seconds that a second's arrivals take:

    anyone    batches with whole prefill stages, no more KV in any than C (`fluid.bounds.program`), and stages that must
              fit together (`fluid.bounds.packing`): true of every policy that prefills in the stages of the replica
    keeping   besides, completions that cannot overlap (`fluid.bounds.overlap`): true of every policy that never evicts,
              or whose evicted requests start again; not of engines that recompute what they evicted

Engines that cut prefills as their budget allows serve other stages than those of a replica with whole prefill: of them
the fluid edge is an upper bound still, as smaller pieces only hold more KV and take more stages. Source: derived here;
mathematics, section 10.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from fluid.arrays import Floats, below_one
from fluid.bounds.certificate import Certificate, Limits
from fluid.bounds.demand import demand_of
from fluid.bounds.overlap import overlap_need
from fluid.bounds.packing import packing_need
from fluid.bounds.program import certified, undominated
from fluid.replica import Replica
from fluid.stages import StageProfile


@dataclass(frozen=True, eq=False)
class Impossible:
    """Bounds of the factor on all rates (requests/s, shape (J,)); every type is to fit the cache.

    >>> from fluid import IterationTime, PromptType, Workload, solve
    >>> mix, replica = Workload([PromptType(1, 1000, 1.0)]), Replica(1001, IterationTime(0.01, 0.0))
    >>> balance = solve(mix, replica)                             # one request at a time, 1,001 iterations of 10 ms
    >>> round(balance.max_rate_scale, 4), round(balance.impossible.anyone.scale, 4)
    (0.1996, 0.1996)
    >>> round(balance.impossible.keeping.scale, 4)
    0.0999
    """

    profile: StageProfile
    rates: Floats
    replica: Replica

    def __repr__(self) -> str:
        return f"Impossible(from {self.anyone.scale:.4g} of the rates on, {self.keeping.scale:.4g} without recomputing)"

    @cached_property
    def anyone(self) -> Certificate:
        """No policy carries more."""
        return self._certified(self._packing)

    @cached_property
    def keeping(self) -> Certificate:
        """No policy carries more that keeps what it admits, or lets it start again."""
        overlap = overlap_need(self.profile, self._shares, self.replica.kv_capacity)
        if overlap <= self._packing:
            return self.anyone
        found = self._certified(overlap)
        return found if found.value > self.anyone.value else self.anyone

    @property
    def beyond_anyone(self) -> bool:
        """Whether these rates are more than anyone can carry, though they may be inside the fluid region."""
        if len(undominated(self._lines)) == 1 and not self._packing:
            return False  # the half-spaces of the region then say it all
        return below_one(self.anyone.scale)

    @property
    def beyond_keeping(self) -> bool:
        """Whether these rates are more than anyone carries who keeps what he admits, or lets it start again."""
        return below_one(self.keeping.scale)

    @property
    def by_pieces(self) -> bool:
        """Whether it matters to the bound that prefill stages are not divided further."""
        return len(self.anyone.mixture) > 1

    @cached_property
    def _packing(self) -> float:
        return packing_need(self.profile, self._shares, self.replica.kv_capacity)

    @cached_property
    def _shares(self) -> Floats:
        """The rates in units of the largest: needs are in proportion to it."""
        shares: Floats = self.rates / self.rates.max()
        return shares

    @property
    def _lines(self) -> Floats:
        return self.replica.iteration_time.coefficients

    def _certified(self, iterations: float) -> Certificate:
        replica = self.replica
        limits = Limits(replica.kv_capacity, replica.most_sequences, replica.most_tokens)
        demand = demand_of(self.profile, self._shares, iterations)
        fluid = self.profile.time_work(replica.iteration_time) @ self._shares + self._lines[:, 0] * (
            float(self._shares @ self.profile.kv_work) / replica.kv_capacity)
        unit = 1.0 / float(fluid.max())  # prices do not depend on the rates, the solver's tolerances do
        return replace(certified(demand.scaled(unit), limits, self._lines),
                       demand=demand.scaled(float(self.rates.max())))
