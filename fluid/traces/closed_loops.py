"""Closed loops: arrivals that follow the server, and are no traffic.

A client that keeps c requests under way sends each as another ends. So shortly after an arrival c are in the system,
or at most 5% fewer, at 95% of the arrivals and more; and before it somebody has just ended, at half of them. "Shortly"
and "just" are 5% of a median latency. Such arrivals are the server's doing and no traffic. At a Poisson rate the number
in the system moves, and does neither by chance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Floats

MOSTLY, SOON = 0.95, 0.05
FEWEST = 20  # arrivals that a loop is seen in


class Loop(NamedTuple):
    """A closed loop: the requests that its client keeps under way."""

    clients: int


def closed_loop(arrivals: Floats, latency: Floats) -> Loop | None:
    """Return the loop that arrivals (s, sorted) and latencies (s) show, None where they show none.

    >>> sent = np.repeat(np.arange(0.0, 50.0, 2.0), 3)
    >>> closed_loop(sent, np.full(len(sent), 2.0))
    Loop(clients=3)
    """
    ends, soon = np.sort(arrivals + latency), SOON * float(np.median(latency))
    gone = np.searchsorted(ends, arrivals, side="right")
    inside = np.searchsorted(arrivals, arrivals + soon, side="right") - np.searchsorted(ends, arrivals + soon, "right")
    clients = int(np.max(np.arange(1, len(arrivals) + 1) - gone, initial=0))
    later = np.arange(len(arrivals)) >= clients  # the first of them start the loop
    if np.count_nonzero(later) < FEWEST:
        return None
    full = float(np.mean(inside[later] >= clients - clients // 20))
    waited = np.where(gone > 0, arrivals - ends[np.maximum(gone - 1, 0)], np.inf)[later]
    return Loop(clients) if full >= MOSTLY and float(np.median(waited)) <= soon else None
