"""The exact law of a boundary queue: certificates, limits with known answers, and the recursion itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fluid import InputError
from thresholds.nested_wait.boundary_queue import BoundaryQueue

QUEUES = [BoundaryQueue(n, after, p) for n, after, p in
          [(2, 1, 0.2), (3, 2, 0.6), (10, 4, 0.3), (20, 17, 0.8), (6, 5, 0.7),
           (50, 41, 0.75), (4, 4, 0.9), (3, 5, 0.5)]]


def inner_roots(queue: BoundaryQueue) -> np.ndarray:
    """The n - 1 roots of z^n = (1 - p + p z)^n' inside the disc: z = e^{2 pi i k/n} (1 - p + p z)^{n'/n} contracts."""
    turn = np.exp(2j * np.pi * np.arange(1, queue.after) / queue.after)
    z = np.zeros(queue.after - 1, dtype=complex)
    for _ in range(4000):
        z = turn * (1 - queue.continuation + queue.continuation * z) ** (queue.before / queue.after)
    return z


@pytest.mark.parametrize("queue", QUEUES)
def test_the_law_is_stationary(queue: BoundaryQueue) -> None:
    """One step of Q' = Q - n 1{Q >= n} + X leaves P(Q = x) as it is, to rounding."""
    law = -np.diff(queue.tail(np.arange(queue._until(1e-17))), prepend=1.0)
    left = law[queue.after :].copy()
    stay = law[: queue.after]
    kept = np.zeros(max(left.size, stay.size))
    kept[: left.size] += left
    kept[: stay.size] += stay
    np.testing.assert_allclose(np.convolve(kept, queue.joining)[: left.size], law[: left.size], atol=1e-14)
    assert law.sum() == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("queue", QUEUES)
def test_the_ladder_heights_have_moment_one_at_theta(queue: BoundaryQueue) -> None:
    """Wald: e^(theta S) is a martingale of the walk, so sum_i g_i e^(theta i) = 1, and sum_i g_i < 1."""
    if math.isfinite(queue.theta):
        i = np.arange(1, queue.ladder.size + 1)
        assert queue.ladder @ np.exp(queue.theta * i) == pytest.approx(1.0, rel=1e-12)
        assert 0.0 < queue.ladder.sum() < 1.0
    else:
        assert queue.ladder.size == 0


@pytest.mark.parametrize("queue", QUEUES)
def test_the_mean_is_that_of_the_roots_and_of_the_tails(queue: BoundaryQueue) -> None:
    """E[W] by the roots z_k inside: sum 1/(1 - z_k) less d2/d1, from z^n - A(z) = d1 (z - 1) + d2 (z - 1)^2 + ..."""
    n, before, p = queue.after, queue.before, queue.continuation
    first, second = n - before * p, (n * (n - 1) - before * (before - 1) * p**2) / 2
    excess = np.sum(1 / (1 - inner_roots(queue))).real - second / first
    assert queue.mean == pytest.approx(before * p + (n - 1) / 2 + excess, rel=1e-10)
    assert queue.mean == pytest.approx(queue.tail(np.arange(queue._until(1e-17))).sum(), rel=1e-12)


@pytest.mark.parametrize("queue", [queue for queue in QUEUES if math.isfinite(queue.theta)])
def test_tails_fall_by_theta_per_prompt_and_never_pass_the_bounds(queue: BoundaryQueue) -> None:
    """P(Q > x + 1)/P(Q > x) -> e^-theta down to 1e-200, theta per prompt, and P(Q > x) <= e^(-theta (x - 2n + 1))."""
    x = np.arange(2 * queue.after + math.ceil(460 / queue.theta))
    tails, any_service = queue.tail(x), queue.tail_at_any_service(x)
    assert tails[-1] / tails[-2] == pytest.approx(math.exp(-queue.theta), rel=1e-10)
    assert tails[-1] < 1e-190
    assert np.all(tails <= any_service * (1 + 1e-12))
    assert np.all(any_service <= queue.bound(x) * (1 + 1e-12))
    excess = np.arange(x.size - 2 * queue.after)
    np.testing.assert_allclose(queue.tail_at_any_service(2 * queue.after - 1 + excess), queue.excess_tail(excess),
                               rtol=1e-12)
    assert np.all(queue.excess_tail(excess) <= np.exp(-queue.theta * (excess + 1)) * (1 + 1e-12))


@pytest.mark.parametrize("p", [0.05, 0.2, 0.45, 0.499])
def test_one_of_two_is_a_birth_and_death_chain(p: float) -> None:
    """n' = 2, n = 1: W goes up with p^2, down with (1 - p)^2 and is geometric: P(W > x) = (p/(1 - p))^(2 (x + 1)).

    That is e^(-theta (x + 1)) with theta = 2 ln((1 - p)/p), the root at q = 1/2.
    """
    queue = BoundaryQueue(2, 1, p)
    x = np.arange(40)
    np.testing.assert_allclose(queue.excess_tail(x), (p / (1 - p)) ** (2.0 * (x + 1)), rtol=1e-11)
    assert queue.theta == pytest.approx(2 * math.log((1 - p) / p), rel=1e-12)


def test_one_after_one_holds_what_has_just_come() -> None:
    """n' = n = 1: a prompt that joins leaves at the next service, so Q is 1 with chance p and else 0."""
    queue = BoundaryQueue(1, 1, 0.3)
    np.testing.assert_allclose(queue.tail([0, 1, 2]), [0.3, 0.0, 0.0], atol=1e-16)
    assert queue.theta == math.inf


def test_where_hardly_any_go_on_the_queue_is_uniform() -> None:
    """p -> 0: prompts come one by one and leave n together: uniform on 0..n-1, up to order n' p."""
    queue = BoundaryQueue(9, 5, 1e-9)
    np.testing.assert_allclose(queue.tail(np.arange(6)), [0.8, 0.6, 0.4, 0.2, 0.0, 0.0], atol=3e-8)


@pytest.mark.parametrize("queue", [BoundaryQueue(10, 4, 0.3), BoundaryQueue(6, 5, 0.7)])
def test_from_empty_the_law_is_that_of_the_recursion(queue: BoundaryQueue) -> None:
    """Monte Carlo of the literal recursion, 40,000 paths: every probability within 4 standard errors, after 3 and 40.

    At each service P(Q > x) is at most the bound from empty; after many the law is the stationary one.
    """
    paths, rng = np.zeros(40_000, dtype=np.int64), np.random.default_rng(5)
    for service in range(1, 41):
        paths += rng.binomial(queue.before, queue.continuation, paths.size) - queue.after * (paths >= queue.after)
        if service in (3, 40):
            law = queue.law_after(service)
            seen = np.bincount(paths, minlength=law.size)[: law.size] / paths.size
            assert np.all(np.abs(seen - law) <= 4 * np.sqrt(law / paths.size) + 1 / paths.size)
    for services in (1, 2, 3, 7, 40):
        tails = np.append(np.cumsum(queue.law_after(services)[:0:-1])[::-1], 0.0)
        assert np.all(tails <= queue.tail_at_any_service(np.arange(tails.size)) * (1 + 1e-12))
    law = queue.law_after(1000)
    np.testing.assert_allclose(np.cumsum(law[::-1])[::-1][1:], queue.tail(np.arange(law.size - 1)), atol=1e-11)


@pytest.mark.parametrize(("arguments", "field"), [
    ((10, 3, 0.3), "after"), ((10, 0, 0.3), "after"), ((0, 1, 0.3), "before"), ((10, 4, 1.0), "continuation"),
])
def test_queues_that_grow_are_refused(arguments: tuple[int, int, float], field: str) -> None:
    """p n' < n is needed, and whole numbers of prompts."""
    with pytest.raises(InputError, match=f"^{field} must be"):
        BoundaryQueue(*arguments)


def test_tails_are_those_of_whole_numbers() -> None:
    """Q > x where Q > floor(x), so that Q > -1/2 is certain; no tail beyond what is no number."""
    queue = QUEUES[2]
    for tail in (queue.tail, queue.tail_at_any_service, queue.excess_tail):
        np.testing.assert_array_equal(tail([-0.5, 0.5, 7.9]), tail([-1, 0, 7]))
        with pytest.raises(InputError, match=r"^prompts must be finite"):
            tail(math.nan)
