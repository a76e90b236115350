"""Boundary queues of the literal simulator: the recursion path by path, and the exact law."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fluid import InputError, IterationTime, PromptType, Replica, Schedule, Workload
from thresholds import NestedWaitPolicy
from thresholds.nested_wait.boundary_queue import BoundaryQueue
from verification import Poisson, Scheduled
from verification.asymptotics.boundary_queues import BoundaryQueues, boundary_queues
from verification.traffic.processes import Traffic

MIX = Workload([PromptType(5, 1, 3.0), PromptType(9, 2, 2.0), PromptType(3, 4, 2.5), PromptType(5, 6, 2.5)])
POLICY = NestedWaitPolicy((2, 4, 6), (8, 5, 3))
TIME = IterationTime(0.3, 1e-4)
SERVERS = [Replica(10_000, TIME), Replica(10_000, TIME, prefill="decode-only"), Replica(10_000, TIME, block=4)]


def recursion(found: BoundaryQueues, segment: int) -> np.ndarray:
    """Q at each service of the segment before, from nothing but the lengths in the order of arrival.

    Cohort c of segment k - 1 is the c-th n' of the prompts with more than r_{k-2} decode stages; those of more than
    r_{k-1} join with the service at which it is in the last stage of segment k - 1.
    """
    prefill = int(found.run.profile.prefill_stages[0])
    edges = (0, *found.policy.boundaries)
    before, after = found.policy.thresholds[segment - 2 : segment]
    stages = edges[segment - 1] - edges[segment - 2] + (prefill if segment == 2 else 0)
    decode = found.run.profile.decode[found.run.arrivals.types]
    entering = decode[decode > edges[segment - 2]]
    entering = entering[: entering.size // before * before].reshape(-1, before)
    joining = np.count_nonzero(entering > edges[segment - 1], axis=1)
    queue, queues = 0, []
    for service in range(found.at_services(segment).size):
        queues.append(queue)
        queue -= after * (queue >= after)
        queue += int(joining[service - stages + 1]) if service >= stages - 1 else 0
    return np.array(queues)


@pytest.mark.parametrize("replica", SERVERS)
@pytest.mark.parametrize("traffic", [Poisson(), Scheduled(Schedule([5.0, 20.0, 5.0], [3.0, 0.2, 2.0]))])
def test_the_queues_are_a_function_of_the_lengths_in_order(replica: Replica, traffic: Traffic) -> None:
    """Exactly, at every service and every boundary, for Poisson traffic and for bursts: arrival times do not matter."""
    found = boundary_queues(POLICY, MIX, replica, horizon=100.0, seed=3, traffic=traffic)
    for segment in (2, 3):
        queues = found.at_services(segment)
        assert queues.size > 50
        np.testing.assert_array_equal(queues, recursion(found, segment))


def test_simulated_queues_have_the_exact_law() -> None:
    """P(Q > x) at services, 16 replications from empty less a tenth: within 4 standard errors over replications.

    Half of all prompts have more than 2 decode stages, and half of those more than 4.
    """
    runs = [boundary_queues(POLICY, MIX, SERVERS[0], horizon=150.0, replication=r) for r in range(16)]
    for segment, p in ((2, 0.5), (3, 0.5)):
        queue = BoundaryQueue(*POLICY.thresholds[segment - 2 : segment], p)
        x = np.arange(3 * queue.after)
        paths = [run.at_services(segment) for run in runs]
        shares = np.array([np.mean(path[path.size // 10 :, None] > x, axis=0) for path in paths])
        error = shares.std(axis=0, ddof=1) / math.sqrt(len(runs))
        seen = error > 0
        assert np.count_nonzero(seen) >= 2 * queue.after - 2
        assert np.all(np.abs(shares.mean(axis=0) - queue.tail(x))[seen] <= 4 * error[seen])


def test_all_iterations_serve_the_first_segment_and_the_observer_changes_nothing() -> None:
    """Each row has at least one segment served; a queue that is served held its threshold."""
    found = boundary_queues(POLICY, MIX, SERVERS[0], horizon=50.0)
    assert found.served.size == found.run.iterations
    assert found.served.min() == 1
    for k in (2, 3):
        assert np.all(found.queues[found.served >= k, k - 2] >= POLICY.thresholds[k - 1])
        assert np.all(found.queues[found.served == k - 1, k - 2] < POLICY.thresholds[k - 1])
    assert list(found.columns()) == ["iteration", "segments served", "queue 2, prompts", "queue 3, prompts"]
    with pytest.raises(InputError, match=r"^segment must be"):
        found.at_services(1)
