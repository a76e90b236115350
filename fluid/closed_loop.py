r"""Closed loops in the fluid model: N users who think for Z seconds between their requests.

By Little's law N = X (Z + R): at a throughput of X requests/s, in the proportions of a mix, so many users send them. A
request runs S iterations, each d0 longer than the work of its batch: its own, c over its life, and that of the others.
It meets the batch that the other N - 1 users make (the arrival theorem; Schweitzer, 1979, takes (N - 1)/N of the mean):

    R(X) = max_i ( d0_i E S + E c_i ) / ( 1 - (N - 1)/N X E c_i )

for the lines i of the iteration time. It rises with X, so there is one X with

    X (Z + R(X)) = N        or X = edge, the largest rate of the region, where X (Z + R(X)) < N all the way to it

Whatever a policy does (Denning and Buzen, 1978)

    X <= min( N / (Z + R_0), edge ),    R_0 = E max_i ( d0_i S + c_i ), a request alone on the replica,

and the two meet at N* = edge (Z + R_0) users: fewer leave it idle, more wait. A limit K on concurrency at a rate lambda
is X = min(lambda, the X of K users who do not think). Source: mathematics, section 15.6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluid.equilibrium import Equilibrium, solve
from fluid.errors import InputError, real, whole
from fluid.replica import Replica
from fluid.workload import Workload


@dataclass(frozen=True)
class ClosedEquilibrium:
    """The balance of `users` who `think` (seconds) with a replica; made by `solve_users`.

    `rate` is X in requests/s, `equilibrium` that of the mix at X, `edge` the largest rate; no policy carries more than
    `most`.
    """

    users: int
    think: float
    rate: float
    edge: float
    equilibrium: Equilibrium

    def __repr__(self) -> str:
        return (f"ClosedEquilibrium({self.users:,} users who think {self.think:g} s: {self.rate:.4g} requests/s, "
                f"{self.saturating:,.4g} users saturate the replica)")

    @property
    def saturated(self) -> bool:
        """Whether the users would send more than the replica carries: some of them always wait."""
        return self.rate >= self.edge * (1 - 1e-6)

    @cached_property
    def alone(self) -> float:
        """R_0, seconds: the mean over the mix of what a request alone on the replica takes, at least."""
        workload, profile, replica = self.equilibrium.workload, self.equilibrium.profile, self.equilibrium.replica
        own = profile.time_work(replica.iteration_time) + np.outer(replica.iteration_time.overheads, profile.stages)
        return float(workload.rates @ own.max(axis=0) / workload.rates.sum())

    @property
    def saturating(self) -> float:
        """N* = edge (Z + R_0), users."""
        return self.edge * (self.think + self.alone)

    @property
    def most(self) -> float:
        """min(N / (Z + R_0), edge), requests/s: no policy carries more."""
        return min(self.users / (self.think + self.alone), self.edge)

    @property
    def latency(self) -> float:
        """N/X - Z, seconds: the mean latency at this throughput, Little's law."""
        return self.users / self.rate - self.think


def solve_users(workload: Workload, replica: Replica, users: int, think: float) -> ClosedEquilibrium:
    """Return the balance of so many users; the rates of the workload are proportions of its types.

    Raises InputError for less than a user, a negative time to think, and a type that never fits the replica.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(137_000, IterationTime(0.0106, 4.013e-7), first_token="prefill")
    >>> loop = solve_users(Workload([PromptType(512, 200, 1.0)]), replica, 400, 30.0)
    >>> loop.saturated, round(loop.rate * (30.0 + loop.latency))
    (False, 400)
    """
    users = whole("users", users, unit="users")
    think = real("think", think, unit="seconds", zero=True)
    own = solve(workload, replica)
    edge = min(own.max_rate_scale, own.impossible.anyone.scale) if own.limit != "length" else 0.0
    if edge == 0:
        raise InputError("workload", "types that fit the replica", own.reason, "closed loop")

    def beyond(factor: float) -> float:
        there = factor * workload.rate * (think + residence(own, factor, users))
        return 1.0 if there == math.inf else (there - users) / (there + users)

    from scipy.optimize import brentq  # takes as long to load as all of fluid

    factor = edge if beyond(edge) <= 0 else float(brentq(beyond, 0.0, edge, xtol=1e-300, rtol=1e-13))
    return ClosedEquilibrium(users, think, factor * workload.rate, edge * workload.rate, own.scaled(factor))


def residence(equilibrium: Equilibrium, factor: float, users: float) -> float:
    """Return R, seconds, at `factor` times the rates of an equilibrium; math.inf where the work is too much."""
    lines, profile = equilibrium.replica.iteration_time, equilibrium.profile
    shares = equilibrium.workload.rates / equilibrium.workload.rate
    work = profile.time_work(lines) @ shares
    left = 1 - (1 - 1 / users) * factor * equilibrium.workload.rate * work
    if (left <= 0).any():
        return math.inf
    return float(((lines.overheads * float(shares @ profile.stages) + work) / left).max())
