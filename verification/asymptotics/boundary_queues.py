"""The queues at the boundaries of nested WAIT, observed in the literal simulator at every iteration.

A `Run` knows no queue lengths, so the literal rule runs here as a rule of a user's own (`OwnRule`), which notes, before
each iteration, how many residents wait at each boundary and how many segments the batch serves. That simulator is
slow, some ten thousand stages of requests a second: a few segments of a few stages are enough to see what
`thresholds.nested_wait.boundary_queue` derives.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fluid import Replica, Workload
from fluid.arrays import Ints
from fluid.errors import whole
from fluid.tables import Tabular
from thresholds import NestedWaitPolicy
from verification.reference.rules import TWINS
from verification.reference.system import Request, System
from verification.run import Run
from verification.simulation import simulate
from verification.traffic.processes import POISSON, Traffic


@dataclass(frozen=True, eq=False)
class BoundaryQueues(Tabular):
    """What a run of nested WAIT had waiting: as a table, a row for each iteration.

    `queues`, shape (iterations, L - 1), the residents at the boundary of segments 2..L when the iteration was decided;
    `served`, shape (iterations,), the segments in its batch; and the `run`.
    """

    policy: NestedWaitPolicy
    run: Run = field(repr=False)
    queues: Ints
    served: Ints

    def at_services(self, segment: int) -> Ints:
        """Q of a segment from 2 to L at each service of the segment before it, in order: prompts."""
        k = whole("segment", segment, "BoundaryQueues", unit="segments", least=2, most=len(self.policy.thresholds))
        moments: Ints = self.queues[self.served >= k - 1, k - 2]
        return moments

    def columns(self) -> dict[str, Ints]:
        """The segments served, and the queue of each segment from the second on."""
        queues = {f"queue {k + 2}, prompts": column for k, column in enumerate(self.queues.T)}
        return {"iteration": np.arange(self.served.size), "segments served": self.served, **queues}


def boundary_queues(policy: NestedWaitPolicy, workload: Workload, replica: Replica, *, horizon: float,
                    traffic: Traffic = POISSON, seed: int = 0, replication: int = 0) -> BoundaryQueues:
    """Simulate nested WAIT literally over [0, horizon) seconds and note its boundary queues.

    Raises InputError where `simulate` does.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=1000, iteration_time=IterationTime(1.0, 0.0))
    >>> workload = Workload([PromptType(5, 1, 1.0), PromptType(5, 3, 1.0)])
    >>> found = boundary_queues(NestedWaitPolicy((1, 3), (3, 2)), workload, replica, horizon=50.0)
    >>> found.queues.shape == (found.run.iterations, 1), found.at_services(2)[:2].tolist()
    (True, [0, 0])
    """
    rule = _Observed(policy)
    run = simulate(rule, workload, replica, horizon=horizon, traffic=traffic, seed=seed, replication=replication)
    rows = np.array(rule.rows, dtype=np.int64).reshape(-1, len(policy.thresholds))
    return BoundaryQueues(policy, run, rows[:, 1:], rows[:, 0])


class _Observed:
    """The literal rule, and a row for each iteration: segments served, then the queue at each boundary."""

    by_type = False

    def __init__(self, policy: NestedWaitPolicy) -> None:
        self.policy = policy
        self.rows: list[list[int]] = []

    def batch(self, system: System) -> list[Request]:
        """The batch of the literal rule."""
        first = [0, *(r + int(system.profile.prefill_stages[0]) for r in self.policy.boundaries[:-1])]
        queues = [sum(r.stage == entry for r in system.residents) for entry in first[1:]]
        batch = TWINS[NestedWaitPolicy](self.policy, system)
        if batch:
            entering = {r.stage for r in batch}
            self.rows.append([sum(entry in entering for entry in first), *queues])
        return batch
