"""A simulated tandem: a fleet that prefills, the links that carry the KV of prompts away, a fleet that decodes.

Requests only go forwards, so a path is exact one station after the other (`fluid.planning.parts` has the two parts):

    prefill    a fleet behind its router; request i is prefilled at F_i
    link       one for each prefill replica, first come first served: E_i = max(E_{i-1}, F_i) + k x_i / b
    decode     request i is there at E_i + t0, a router sends it to a replica, and it waits for its policy

A request whose one token the prefill made is over at F_i. Its TTFT ends there for all others too where prefills make
first tokens, else with the first iteration that decodes it. Links into decode replicas have no queue, and nothing holds
a prefill back because decode replicas are full. One that is evicted there comes back with its prompt's KV at no cost.
What no cache holds in between is measured (`verification.fleets.tandem_run`). Source: mathematics, section 17.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fluid import Workload
from fluid.arrays import Bools, Floats, Ints
from fluid.errors import InputError
from fluid.planning import Kind, TandemPlan, Transfer
from fluid.planning.parts import PREFILL, moved, prompts_of
from fluid.planning.tandem import check_parts, decoded, decoding
from verification.fleets.fleet import Fleet
from verification.fleets.fleet_run import FleetRun
from verification.fleets.router import SHORTEST_QUEUE, Router
from verification.fleets.simulation import simulate_fleet
from verification.fleets.tandem_run import TandemRun
from verification.policies import Policy
from verification.simulation import who_arrives
from verification.traffic.arrivals import Arrivals
from verification.traffic.closed import Returning
from verification.traffic.processes import POISSON, Traffic

SECOND = 2**64  # the random stream of the second router, apart from that of the first


@dataclass(frozen=True, eq=False)
class Tandem:
    """Two fleets of replicas that serve their parts alone, the link of each replica, and the routers before them.

    `kinds` are those of the plan, with their parts; made by `of` and `planned`.
    """

    kinds: tuple[Kind, ...]
    prefill: Fleet
    decode: Fleet
    routers: tuple[Router, Router]

    @classmethod
    def of(cls, prefill: Sequence[Kind], decode: Sequence[Kind], counts: tuple[ArrayLike, ArrayLike],
           policies: tuple[Sequence[Policy] | None, Sequence[Policy] | None] = (None, None),
           routers: tuple[Router, Router] = (Router(SHORTEST_QUEUE), Router(SHORTEST_QUEUE))) -> Tandem:
        """A tandem of so many replicas of kinds with parts; without policies they run vLLM V1 as it comes.

        >>> from fluid import IterationTime, Replica
        >>> from fluid.planning import Part
        >>> gpu = Replica(400_000, IterationTime(0.008, 5e-8, 4e-5, 1e-5), first_token="prefill")
        >>> link = Transfer(2e10, 1e5)
        >>> Tandem.of(*([Kind(role, gpu, part=Part(role, link))] for role in ("prefill", "decode")), ([3], [1]))
        Tandem(3 x prefill with vLLM V1 before 1 x decode with vLLM V1)
        """
        check_parts(prefill, decode)
        pools = (prefill, decode)
        first, second = (Fleet.of([alone(each) for each in pool], number, policy)
                         for pool, number, policy in zip(pools, counts, policies, strict=True))
        return cls((*prefill, *decode), first, second, routers)

    @classmethod
    def planned(cls, plan: TandemPlan, policies: tuple[Sequence[Policy] | None, Sequence[Policy] | None] = (None, None),
                rule: str = SHORTEST_QUEUE) -> Tandem:
        """The pools of a plan, types sent to kinds as it says; raises InputError where that found none."""
        for pool in (plan.prefill, plan.decode):
            if pool.counts is None or pool.rates is None:
                raise InputError("plan", "one that found pools", pool.status, "Tandem")
        routers = (Router.planned(plan.prefill, rule), Router.planned(plan.decode, rule))
        counts = (np.asarray(plan.prefill.counts), np.asarray(plan.decode.counts))
        return cls.of(plan.prefill.kinds, plan.decode.kinds, counts, policies, routers)

    def __repr__(self) -> str:
        first, second = (repr(each)[len("Fleet("):-1] for each in (self.prefill, self.decode))
        return f"Tandem({first} before {second})"

    def transfer(self, kind: int) -> Transfer:
        """The link of a prefill kind."""
        part = self.kinds[kind].part
        assert part is not None  # checked when made
        return part.transfer

    @property
    def decoding_kinds(self) -> tuple[Kind, ...]:
        """The kinds that decode, with their parts."""
        return self.kinds[len(self.prefill.kinds):]

    @property
    def first_in_prefill(self) -> bool:
        """Whether prefills make first tokens."""
        return self.decode.kinds[0].replica.first_token == PREFILL


def alone(kind: Kind) -> Kind:
    """The replica that serves the part of a kind as if it were the whole."""
    return replace(kind, replica=kind.replica if kind.part is None else kind.part.served(kind.replica), part=None)


def simulate_tandem(tandem: Tandem, workload: Workload, *, horizon: float | None = None,
                    arrivals: Arrivals | None = None, traffic: Traffic = POISSON, seed: int = 0,
                    replication: int = 0) -> TandemRun:
    """Simulate a tandem, on `traffic` over [0, horizon) seconds or on explicit arrivals until nothing moves.

    What happens after a horizon does not count. Raises InputError as `simulate_fleet` does, for each station.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> from fluid.planning import Part
    >>> from verification import Greedy
    >>> gpu, link = Replica(10_000, IterationTime(1.0, 0.0), first_token="prefill"), Transfer(100.0, 1.0)
    >>> pools = [[Kind(role, gpu, part=Part(role, link))] for role in ("prefill", "decode")]
    >>> pair = Tandem.of(*pools, ([1], [1]), ([Greedy()], [Greedy()]))
    >>> run = simulate_tandem(pair, Workload([PromptType(50, 3, 1.0)]), arrivals=Arrivals([0.0, 0.0], [0, 0]))
    >>> run.first_token.tolist(), run.received.tolist(), run.finished.tolist()
    ([1.0, 1.0], [1.5, 2.0], [3.5, 4.5])
    """
    requests, until = who_arrives(workload, horizon, arrivals, traffic, seed, replication)
    requests.check(workload)
    if isinstance(requests, Returning):
        raise InputError("traffic", "open: at a tandem arrivals wait for no answer", traffic, "simulate_tandem")
    first = simulate_fleet(tandem.prefill, tandem.routers[0], prompts_of(workload), arrivals=requests, seed=seed,
                           replication=replication)
    received, second = _sent(tandem, workload, first, seed, replication)
    run = TandemRun.of(tandem, workload, first, received, second)
    return run if horizon is None else run.until(until)


class _There(NamedTuple):
    """The requests that came to the decode replicas, in order of their coming, and the run of these."""

    requests: Ints
    run: FleetRun


def _sent(tandem: Tandem, workload: Workload, first: FleetRun, seed: int, replication: int) -> tuple[Floats, _There]:
    """When each request was received, and what became of those that were."""
    arrivals, prefilled, where = first.arrivals, first.merged.finished, first.where
    needs: Bools = decoded(workload, tandem.decoding_kinds)
    goes_on = np.isfinite(prefilled) & needs[arrivals.types]
    received, profiles = np.full(len(arrivals), np.nan), tandem.prefill.profiles(first.workload)
    for i, k in enumerate(tandem.prefill.kind_of.tolist()):
        mine = np.flatnonzero((where == i) & goes_on)
        transfer = tandem.transfer(k)
        busy = transfer.on_the_link(moved(profiles[k]))[arrivals.types[mine]]
        received[mine] = free_again(prefilled[mine], busy) + transfer.latency
    there = np.flatnonzero(goes_on)[np.argsort(received[goes_on], kind="stable")]
    index = np.cumsum(needs) - 1
    types, seen = arrivals.types[there], arrivals.seen[there]
    coming = Arrivals.made(received[there], index[types], index[np.where(needs[seen], seen, types)])
    return received, _There(there, simulate_fleet(tandem.decode, tandem.routers[1], decoding(
        workload, tandem.decoding_kinds), arrivals=coming, seed=seed + SECOND, replication=replication))


def free_again(ends: Floats, busy: Floats) -> Floats:
    """Return E, when a link is free again: first come first served at `ends` F, each for `busy` seconds, shape (n,).

    With S_i the sum of the first i services, E_i = S_i + max_{m <= i} (F_m - S_{m-1}), which is Lindley's recursion.

    >>> free_again(np.array([0.0, 0.5, 5.0]), np.array([1.0, 1.0, 1.0])).tolist()
    [1.0, 2.0, 6.0]
    """
    order = np.argsort(ends, kind="stable")
    served = np.cumsum(busy[order])
    free = np.empty(len(ends))
    free[order] = served + np.maximum.accumulate(ends[order] - served + busy[order])
    return free
