"""Routers: which replica of a fleet a request is sent to, when it arrives, for good.

    random           any of those that fit it, each as likely
    round-robin      one after the other
    shortest-queue   the one with the fewest requests, waiting and in the batch ("least requests")
    least-kv         the one whose cache is the least full of what it holds and of the prompts that wait for it

Ties go to the next in turn. With `shares`, as a plan has them, the kind is drawn first, type by type, and the rule
chooses among the replicas of that kind; without, among all. A router sees the moment: a request counts at a replica
until the iteration that completes it ends, and the KV is that of the iteration which runs.

The first two look at no replica: their choice is known before, and every replica is simulated by itself. Under random
routing of Poisson arrivals each replica of a kind sees independent Poisson streams at its even share of the rates,
which is what the fluid region speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fluid import Workload
from fluid.arrays import Bools, Floats, Ints
from fluid.errors import InputError, one_of
from fluid.planning import FleetPlan
from verification.fleets.fleet import Fleet
from verification.traffic.arrivals import Arrivals

RANDOM, ROUND_ROBIN, SHORTEST_QUEUE, LEAST_KV = RULES = ("random", "round-robin", "shortest-queue", "least-kv")


class Choices(NamedTuple):
    """The `groups` of replicas that requests choose from, and the group `of` each, shape (N,)."""

    groups: tuple[Ints, ...]
    of: Ints


@dataclass(frozen=True, eq=False)
class Router:
    """A `rule`, and the `shares` (K, J) in which requests of each type go to the kinds (None: to whichever fits).

    Shares may be rates: they are taken in proportion. Raises InputError for another rule, and for shares that are
    negative or of another shape.

    >>> Router("shortest-queue")
    Router(shortest-queue)
    """

    rule: str = RANDOM
    shares: Floats | None = None

    def __post_init__(self) -> None:
        one_of("rule", self.rule, RULES, "Router")
        if self.shares is not None:
            shares = np.array(self.shares, dtype=np.float64)
            if shares.ndim != 2 or not np.all(np.isfinite(shares) & (shares >= 0)):
                raise InputError("shares", "numbers from 0 on, one for each kind and type", self.shares, "Router")
            object.__setattr__(self, "shares", shares)

    @classmethod
    def planned(cls, plan: FleetPlan, rule: str = SHORTEST_QUEUE) -> Router:
        """Types go to kinds as a plan says; raises InputError where that found no fleet."""
        if plan.rates is None:
            raise InputError("plan", "one that found a fleet", plan.status, "Router")
        return cls(rule, plan.rates)

    def __repr__(self) -> str:
        return f"Router({self.rule}{'' if self.shares is None else ', types by shares'})"

    @property
    def looks(self) -> bool:
        """Whether the choice depends on what the replicas are at."""
        return self.rule in (SHORTEST_QUEUE, LEAST_KV)

    def choices(self, fleet: Fleet, workload: Workload, arrivals: Arrivals, generator: np.random.Generator) -> Choices:
        """Return the replicas among which each request chooses.

        Raises InputError where a type fits no replica, and where shares send it nowhere, or to a kind that it does not
        fit or of which there is none.
        """
        fits = fleet.fits(workload) & (np.array(fleet.counts) > 0)[:, None]
        for j in np.flatnonzero(~fits.any(axis=0))[:1]:
            raise InputError("workload", "of types that fit a replica of the fleet", workload.names[j], "fleet")
        kinds = fleet.kind_of
        if self.shares is None:
            masks, of_type = np.unique(fits[kinds], axis=1, return_inverse=True)
            groups = tuple(np.flatnonzero(masks[:, i]) for i in range(masks.shape[1]))
            of = of_type.reshape(-1)[arrivals.types]
        else:
            self._check(fits)
            groups = tuple(np.flatnonzero(kinds == k) for k in range(len(fleet.kinds)))
            of = _drawn_kinds(self.shares, arrivals.types, generator)
        return Choices(groups, of)

    def _check(self, fits: Bools) -> None:
        assert self.shares is not None
        if self.shares.shape != fits.shape:
            raise InputError("shares", f"of shape {fits.shape}, kinds and types", self.shares.shape, "Router")
        if np.any((self.shares > 0) & ~fits):
            raise InputError("shares", "0 where a type fits no replica that there is", self.shares, "Router")
        if not np.all(self.shares.sum(axis=0) > 0):
            raise InputError("shares", "above 0 of every type at some kind", self.shares, "Router")

    def blind(self, choices: Choices, generator: np.random.Generator) -> Ints:
        """Return the replica of each request where the rule looks at none: shape (N,)."""
        where = np.empty(len(choices.of), dtype=np.int64)
        for i, group in enumerate(choices.groups):
            mine = np.flatnonzero(choices.of == i)
            if len(mine):
                random = self.rule == RANDOM
                where[mine] = group[generator.integers(len(group), size=len(mine)) if random
                                    else np.arange(len(mine)) % len(group)]
        return where


def _drawn_kinds(shares: Floats, types: Ints, generator: np.random.Generator) -> Ints:
    """The kind of each request, drawn by the shares of its type."""
    edges = np.cumsum(shares, axis=0)
    drawn = generator.random(len(types)) * edges[-1, types]
    kinds: Ints = (drawn >= edges[:, types]).sum(axis=0).clip(max=len(shares) - 1)
    return kinds
