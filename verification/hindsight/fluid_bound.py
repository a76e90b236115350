r"""The least mean latency that any rule can have in continuous time: shortest remaining work first on a fluid machine.

An iteration of line i takes at least a_i + (what its requests add), and holds at most C tokens, so of its overhead a_i
each request can be charged a_i kv/C without charging more than there is. Over its life a request of type j is thus
charged, in iterations that follow one another,

    h_ij = c_ij + a_i w_j/C        seconds        (the half-space of `fluid.region`; that of the sequences likewise)

and in t seconds at most t are charged. A machine that works through h_ij seconds of request after request, may divide
itself and may leave a request and come back to it, can therefore finish every request no later than the replica does,
whatever the rule, evictions or prediction: what is made twice is charged twice. The least sum of latencies of that
machine is that of shortest remaining work first (Schrage, 1968). Each half-space gives a bound, and so does the time
that a request takes alone,

    mean latency  >=  max( max_i SRPT(h_i),  mean of the time alone )

Tight where requests are small beside C and short beside the time they wait; it knows neither that a request takes
its stages one at a time nor that KV must fit at every iteration. Source: derived here; mathematics, section 7.10.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from fluid import Replica, Workload, solve
from fluid.arrays import Floats
from fluid.errors import InputError
from fluid.stages import StageProfile
from verification.traffic.arrivals import Arrivals


def least_mean_latency(arrivals: Arrivals, workload: Workload, replica: Replica) -> float:
    """Return a lower bound (s) of the mean latency of these requests under any rule, all of them being served.

    Raises InputError where there is no request, a type index has no prompt type, or a request can never be served.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=100, iteration_time=IterationTime(1.0, 0.0))
    >>> mix = Workload([PromptType(10, 4, 1.0)])                     # five iterations of a second
    >>> least_mean_latency(Arrivals([0.0, 0.0], [0, 0]), mix, replica)
    5.0
    """
    arrivals.check(workload)
    equilibrium = solve(workload, replica)
    profile = equilibrium.profile
    if not len(arrivals):
        raise InputError("arrivals", "at least one request", 0, "least_mean_latency")
    if np.any(profile.peak[arrivals.types] > replica.kv_capacity):
        raise InputError("arrivals", "requests that fit the KV cache", int(profile.peak.max()), "least_mean_latency")
    alone = time_alone(profile, replica)[arrivals.types]
    rows = equilibrium.region.half_spaces
    return max(float(alone.mean()), *(mean_flow_time(arrivals.times, row[arrivals.types]) for row in rows))


def time_alone(profile: StageProfile, replica: Replica) -> Floats:
    """Return sum over stages of the time of a batch of one, max_i (a_i + ..) at each stage: seconds, shape (J,)."""
    time, alone = replica.iteration_time, np.zeros(len(profile.stages))
    for j in range(len(alone)):
        kv, prefill = profile.stage_read(j) / profile.layout.unit, profile.stage_prefill(j)
        lines = [d0 + d1 * kv + d2 * prefill + d3 for d0, d1, d2, d3 in time.pieces]
        alone[j] = np.max(lines, axis=0).sum()
    return alone


def mean_flow_time(arrivals: Floats, work: Floats) -> float:
    """Return the mean time in system under shortest remaining work first; `arrivals` sorted, `work` in seconds, (N,).

    >>> mean_flow_time(np.array([0.0, 1.0]), np.array([4.0, 1.0]))      # the second passes the first: (5 + 1)/2
    3.0
    """
    waiting: list[tuple[float, float]] = []
    now = total = 0.0
    place, count = 0, len(arrivals)
    while place < count or waiting:
        if not waiting:
            now = max(now, float(arrivals[place]))
        while place < count and arrivals[place] <= now:
            heappush(waiting, (float(work[place]), float(arrivals[place])))
            place += 1
        left, came = heappop(waiting)
        until = float(arrivals[place]) if place < count else np.inf
        if now + left <= until:
            now += left
            total += now - came
        else:
            heappush(waiting, (left - (until - now), came))
            now = until
    return total / count
