"""Buffers of nested WAIT: each proved level against the one before it, and against laws computed another way."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from scipy.stats import binom

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve
from thresholds import NestedDesign, nested
from thresholds.nested_wait.boundary_queue import BoundaryQueue
from thresholds.nested_wait.buffers import allowance, nested_buffers
from thresholds.nested_wait.resident_law import chernoff_level

FOUR = Workload.from_arrays([58, 40, 58, 30], [50, 150, 300, 500], [0.4, 0.3, 0.2, 0.1])
OUTPUTS = np.arange(1, 201)


def design(scale: float = 4.0, delta: float = 1e-3, **replica: int) -> NestedDesign:
    """Four types whose outputs end at the boundaries, at half of the edge."""
    server = Replica(round(137_000 * scale), IterationTime(0.0106, 4.013e-7 / scale), **replica)
    mix = FOUR.scaled(0.5 * solve(FOUR, server).max_rate_scale)
    return nested(mix, server, boundaries=[50, 150, 300, 500], overflow_probability=delta)


def geometric(segments: int) -> NestedDesign:
    """Geometric outputs of mean 60 cut at 200, prompts of 30 tokens, at half of the edge."""
    weights = (1 - 1 / 60) ** OUTPUTS
    mix = Workload.from_arrays(np.full(200, 30), OUTPUTS, weights)
    server = Replica(300_000, IterationTime(0.01, 1e-7))
    return nested(mix.scaled(0.5 * solve(mix, server).max_rate_scale), server, segments=segments)


DESIGNS = {"four types": design, "a large delta": partial(design, delta=0.2), "blocks": partial(design, block=16),
           "small": partial(design, 1.0, delta=1e-9), **{f"{k} segments": partial(geometric, k) for k in (2, 4, 5)}}


@pytest.fixture(scope="module", params=DESIGNS)
def made(request: pytest.FixtureRequest) -> NestedDesign:
    """Each design, once."""
    return DESIGNS[request.param]()


def test_each_bound_proves_less_memory_than_the_one_before(made: NestedDesign) -> None:
    """Tight is at most the theorem's, thinned at most base and joint, and all are above the mean."""
    found = nested_buffers(made)
    assert found.tight <= found.theorem
    assert found.thinned <= found.kv_base + found.joint
    assert found.kv_required <= made.kv_required
    assert np.all(np.array(found.tight_prompts) <= np.array(found.theorem_prompts))
    assert mean_kv(made, found.queues) < found.thinned


def mean_kv(made: NestedDesign, queues: tuple[BoundaryQueue, ...]) -> float:
    """n_k P_k(s) prompts in each stage and the mean queue at each boundary, all with the largest prompt, tokens."""
    workload, total = made.equilibrium.workload, 0.0
    prompt, decode, rates = workload.prompt_tokens, workload.output_tokens, workload.rates
    starts = (0, *made.boundaries[:-1])
    for k, (n, start, end) in enumerate(zip(made.thresholds, starts, made.boundaries, strict=True)):
        largest = prompt[decode > start].max()
        for stage in range(start + 1 if k else 0, end + 1):
            stay = rates[decode >= stage].sum() / rates[decode > start].sum()
            total += (queues[k - 1].mean if k and stage == start + 1 else n * stay) * (largest + stage)
    return total


def test_the_tight_allowance_is_the_least_that_the_union_accepts(made: NestedDesign) -> None:
    """m (1 + T/d0) P(W > x) <= delta at x, and not at x - 1 where x > 0."""
    found = nested_buffers(made)
    overhead = made.equilibrium.replica.iteration_time.overheads.max()
    terms = len(found.queues) * (1 + made.horizon / overhead)
    for queue, prompts in zip(found.queues, found.tight_prompts, strict=True):
        x = prompts - 2 * queue.after + 1
        assert terms * queue.excess_tail(x) <= made.overflow_probability * (1 + 1e-9)
        assert x == 0 or terms * queue.excess_tail(x - 1) > made.overflow_probability * (1 - 1e-9)


def test_joint_is_the_quantile_of_a_sum_of_independent_queues() -> None:
    """Two queues, the double sum written out: P(sum_k b'_k D_k > level) <= delta/N < P(sum >= level)."""
    made = nested(FOUR.scaled(100.0), Replica(10**7, IterationTime(0.0106, 1e-8)), boundaries=[150, 300, 500],
                  overflow_probability=0.05)
    found = nested_buffers(made)
    target = 0.05 / (1 + made.horizon / 0.0106)
    weights = (58 + 151, 30 + 301)  # behind stage 300 only prompts of 30 tokens are left
    level = found.joint + sum(w * queue.after for w, queue in zip(weights, found.queues, strict=True))
    laws = [-np.diff(queue.tail_at_any_service(np.arange(600)), prepend=1.0) for queue in found.queues]
    sums = np.add.outer(weights[0] * np.arange(600), weights[1] * np.arange(600))
    chances = np.outer(*laws)
    assert chances[sums > level + 1e-6].sum() <= target
    assert chances[sums >= level - 1e-6].sum() > target * (1 - 1e-3)


def test_chernoff_bounds_a_tail_known_exactly() -> None:
    """Binomial(200, 0.3): P(Y > level) <= e^-events, and not by more than the prefactor 1/(s sd sqrt(2 pi)) > e^-5."""
    for events in (5.0, 15.0, 30.0):
        level = chernoff_level(lambda s: 200 * math.log(1 + 0.3 * math.expm1(s)), math.inf, events)
        assert binom.sf(math.floor(level), 200, 0.3) <= math.exp(-events)
        assert binom.sf(math.floor(level), 200, 0.3) >= math.exp(-events - 5.0)


def test_one_segment_needs_no_buffer() -> None:
    """Without boundaries all buffers are 0, and thinning helps where prompts end before the last stage."""
    found = nested_buffers(nested(FOUR, Replica(10**7, IterationTime(0.0106, 1e-8)), segments=1))
    assert (found.queues, found.theorem, found.tight, found.joint) == ((), 0.0, 0.0, 0.0)
    assert found.thinned <= found.kv_base


def test_where_nothing_can_exceed_a_service_the_allowance_is_zero() -> None:
    """n >= n': W = 0, and x = 0 is enough."""
    assert allowance(BoundaryQueue(4, 4, 0.5), 30.0) == 0


@pytest.mark.parametrize(("made", "field"), [
    (((50, 150), (3, 2), 60.0, 0.1), "boundaries"), (((50, 500), (3, 2), -1.0, 0.1), "horizon"),
    (((50, 500), (3, 2), 60.0, 2.0), "overflow_probability"), (((50, 500), (9, 3), 60.0, 0.1), "after"),
])
def test_a_design_made_by_hand_must_promise_something(made: tuple[object, ...], field: str) -> None:
    """Segments for the longest output, a horizon, a probability, and queues that do not grow."""
    equilibrium = solve(FOUR, Replica(10**7, IterationTime(0.0106, 1e-8)))
    with pytest.raises(InputError, match=f"^{field} must be"):
        nested_buffers(NestedDesign(*made, equilibrium=equilibrium))  # type: ignore[arg-type]


def test_a_design_without_thresholds_has_no_buffers() -> None:
    """Overloaded: an InputError that says why."""
    replica = Replica(137_000, IterationTime(0.0106, 4.013e-7))
    none = nested(Workload([PromptType(58, 500, 1e5)]), replica)
    with pytest.raises(InputError, match=r"^design must be one with thresholds"):
        nested_buffers(none)
