"""A finite batch of requests, all of them there at time 0: offline inference, measured by its makespan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fluid import Workload
from fluid.errors import whole
from verification.traffic.arrivals import MOST_REQUESTS, Arrivals, draw_types, stream


@dataclass(frozen=True)
class Batch:
    """So many `requests` at time 0, their types drawn with the shares of the rates, in random order.

    A run over a horizon ends there; `verification.makespan` lets it go on until the last request is done. Raises
    InputError for less than one request.

    >>> from fluid import PromptType
    >>> Batch(3).draw(Workload([PromptType(10, 10, 5.0)]), 60.0, seed=0, replication=0).times.tolist()
    [0.0, 0.0, 0.0]
    """

    requests: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "requests", whole("requests", self.requests, unit="requests", most=MOST_REQUESTS - 1))

    def factor(self) -> float:
        return 1.0

    def draw(self, workload: Workload, horizon: float, seed: int, replication: int) -> Arrivals:
        return Arrivals.made(np.zeros(self.requests), draw_types(workload, self.requests, stream(seed, replication)))
