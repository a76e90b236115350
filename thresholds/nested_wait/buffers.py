r"""The memory that thresholds of nested WAIT need: the theorem's buffers, and three bounds that prove less is enough.

With b'_k the KV of a prompt that waits at the boundary of segment k (at the stage it executes next), Q_k the prompts
that wait there and N = 1 + T/d0 the most iterations of the horizon, a level of KV is enough if it is exceeded at one
iteration with probability at most delta/N. All of the following keep the overflow probability below delta over T.

**theorem** [A, Theorem 2]: each of the m = L - 1 queues for itself, by the exponential bound,

    sum_k b'_k (n_k - 1 + x_k)         m N e^(-theta_k x_k) = delta      (`segments` says where b_k (n_k + x_k) is more)

**tight**: the same union, with the exact tail of the excess W_k (`thresholds.nested_wait.boundary_queue`): x_k the
least whole number with m N P(W_k > x_k) <= delta. As P(W > x) <= e^(-theta (x + 1)), never more than the theorem.

**joint** [*]: all queues at once. Every iteration serves segment 1. So how often segment k - 1 has been served before
iteration i is a function of what happened at the boundaries before it, that is of which prompts have more than
r_1, .., r_{k-2} decode stages; the moves of Q_k depend on which of those have more than r_{k-1}, and that is
independent. Given all that is before it, Q_k has the law of its chain after some number of services from empty, and is
at most D_k = X_k + n_k - 1 + W_k in law, whatever that number. So at every iteration

    (Q_2, .., Q_L)  <=  (D_2, .., D_L) in law, the D_k independent

and the buffer is the least y with N P(sum_k b'_k D_k > y) <= delta, less the sum_k b'_k n_k that the base holds. There
is no factor m, and a quantile of a sum in place of a sum of quantiles. (For two segments `tight` may be the same.)

**thinned** [*]: the base counts every stage as full, although prompts end inside segments. Given all of the above, the
prompts inside segment k at iteration i belong to its last cohorts, and nothing has depended on their lengths beyond
r_{k-1} so far: at stage s each of n_k is still there with chance P_k(s) = S(s - 1)/S(r_{k-1}), independent of each
other, of other stages and of the prompts beyond. The KV at an iteration is at most in law

    sum_k sum_{stages s inside k} kv_k(s) Binomial(n_k, P_k(s))  +  sum_{k>=2} b'_k D_k          all independent

(kv_k(s) of the largest prompt that can be there; in the first segment the prefill stages are full) and by Chernoff the
level min_s [ln E e^(s KV) + ln(N/delta)]/s is enough, base included: it may lie below the base alone. The proofs need
a replica that begins empty and lengths that are independent, each with the law of the workload, in the order of
arrival; when prompts arrive does not matter. How the laws are summed: `thresholds.nested_wait.resident_law`.

**Stability** [*], one line. Every iteration takes n_1 prompts in and each prompt adds its c_j to the iterations it is
part of, whatever the boundaries. So I iterations take at most I d0 and the work of I n_1 prompts, in the mean
d0 + n_1 c each, c = sum_j lambda_j c_j / Lambda, and just that where no boundary queue grows (p_k n_{k-1} < n_k). They
depend on lengths and not on arrivals: the entry queue is that of a server that takes n_1 at such services, stable if
n_1 > Lambda (d0 + n_1 c) and only then. That is n_1 > n*, the prompts that arrive in an iteration of the fluid
equilibrium. [A]'s drift condition counts every stage as full; a single segment with n_1 = floor(n*) + 1 is stable
without drifting. Source: mathematics, sections 5.4, 5.6 and 5.7; what is marked [*] is derived here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fluid.arrays import Floats, below_one
from fluid.errors import InputError, probability, real
from fluid.tables import Tabular
from thresholds.nested_wait.boundary_queue import BoundaryQueue
from thresholds.nested_wait.design import NestedDesign
from thresholds.nested_wait.resident_law import joint_level, thinned_level
from thresholds.nested_wait.segments import DecodeSegments, UnknownLengths


@dataclass(frozen=True)
class NestedBuffers(Tabular):
    """The buffers of one design. As a table, a row for each boundary; the totals are in the caption.

    `stages` r_{k-1}, `queues`, and the prompts that may wait at each boundary by the `theorem_prompts` and the
    `tight_prompts`, shape (L - 1,); the rest are tokens: `kv_base` M^pi, the buffers `theorem`, `tight` and `joint`
    beyond it, and the whole `thinned` level, base included. `entries` n_1 and `inventory` n*, prompts, say whether the
    entry queue is stable.
    """

    stages: tuple[int, ...]
    queues: tuple[BoundaryQueue, ...]
    theorem_prompts: tuple[float, ...]
    tight_prompts: tuple[int, ...]
    kv_base: int
    theorem: float
    tight: float
    joint: float
    thinned: float
    entries: int
    inventory: float
    lines: int

    def __repr__(self) -> str:
        return (f"NestedBuffers({len(self.queues)} boundaries, {self.kv_required:,.0f} KV tokens proved to be enough, "
                f"base {self.kv_base:,})")

    @property
    def stable(self) -> bool | None:
        """Whether the entry queue is stable: n_1 > n* is needed, and enough with one line of the iteration time.

        None where it is met with several lines, which does not decide.
        """
        if not below_one(self.inventory / self.entries):
            return False
        return True if self.lines == 1 else None

    @property
    def kv_required(self) -> float:
        """The least level that is proved to be enough, tokens."""
        return min(self.kv_base + min(self.theorem, self.tight, self.joint), self.thinned)

    def columns(self) -> dict[str, list[float] | list[int]]:
        """The boundaries: stage, threshold, continuation, decay rate, prompts that may wait."""
        return {"boundary, stage": list(self.stages), "threshold": [queue.after for queue in self.queues],
                "p": [queue.continuation for queue in self.queues], "theta": [queue.theta for queue in self.queues],
                "mean queue, prompts": [queue.mean for queue in self.queues],
                "at most, theorem": list(self.theorem_prompts), "at most, tight": list(self.tight_prompts)}

    def caption(self) -> str:
        """The totals in one sentence."""
        return (f"base {self.kv_base:,} tokens; buffers: theorem {self.theorem:,.0f}, tight {self.tight:,.0f}, "
                f"joint {self.joint:,.0f}; base and queues together, stages thinned: {self.thinned:,.0f}")


def nested_buffers(design: NestedDesign) -> NestedBuffers:
    """Return the buffers of a design over its horizon, with its overflow probability.

    A design may be made by hand, drifting or not: `NestedDesign(boundaries, thresholds, horizon, delta,
    equilibrium=...)`. Raises InputError where it has no thresholds, a boundary queue grows, the longest output goes
    beyond the last boundary, or horizon and probability promise nothing.

    >>> from fluid import IterationTime, PromptType, Replica, Workload
    >>> from thresholds import nested
    >>> mix = Workload.from_arrays([50, 50], [20, 100], [40.0, 20.0])
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7))
    >>> found = nested_buffers(nested(mix, replica, boundaries=[20, 100]))
    >>> found.tight <= found.theorem, found.thinned <= found.kv_base + found.joint
    (True, True)
    """
    if not design.thresholds:
        raise InputError("design", "one with thresholds", design.reason, "nested_buffers")
    equilibrium = design.equilibrium
    inventory = math.inf if equilibrium.inventory is None else float(equilibrium.inventory.sum())
    segments = DecodeSegments(_lengths(design), np.array(design.boundaries))
    counts = np.array(design.thresholds, dtype=np.int64)
    queues = tuple(BoundaryQueue(int(before), int(after), float(p))
                   for before, after, p in zip(counts, counts[1:], segments.continuation[1:], strict=False))
    base = float(segments.kv @ counts)
    joint, tight = joint_level(segments, counts, queues), _tight(segments, queues)
    return NestedBuffers(
        design.boundaries[:-1], queues,
        tuple(2 * queue.after - 1 + segments.allowance / queue.theta for queue in queues),
        tuple(2 * queue.after - 1 + allowance(queue, segments.allowance) for queue in queues),
        design.kv_base or 0, design.kv_buffer or 0.0, tight,
        min(joint - base, tight), min(joint, thinned_level(segments, counts, queues)),
        design.thresholds[0], inventory, len(equilibrium.replica.iteration_time.pieces))


def _lengths(design: NestedDesign) -> UnknownLengths:
    """The lengths of a design's workload, all within its segments."""
    profile, workload = design.law
    lengths = UnknownLengths.of_profile(
        profile, workload.rates, design.equilibrium.replica,
        real("horizon", design.horizon, "nested_buffers", unit="seconds"),
        probability("overflow_probability", design.overflow_probability, "nested_buffers"))
    if design.boundaries[-1] < lengths.longest:
        raise InputError("boundaries", f"up to {lengths.longest}, the largest number of decode stages",
                         design.boundaries, "nested_buffers")
    return lengths


def allowance(queue: BoundaryQueue, events: float) -> int:
    """Return the least whole x >= 0 with P(W > x) <= e^-events."""
    most = math.ceil(events / queue.theta) if math.isfinite(queue.theta) else 0
    tails: Floats = queue.excess_tail(np.arange(most + 1))
    return int(np.argmax(tails <= math.exp(-events)))


def _tight(segments: DecodeSegments, queues: tuple[BoundaryQueue, ...]) -> float:
    """sum_k b'_k (n_k - 1 + x_k), tokens."""
    joining = segments.queue_prices[1][1:]
    prompts = [queue.after - 1 + allowance(queue, segments.allowance) for queue in queues]
    return float(joining @ np.array(prompts, dtype=np.float64))

