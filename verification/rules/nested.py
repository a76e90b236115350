"""Nested WAIT [A, Algorithm 2], mathematics, section 5.1: segments of decode progress, each with its entry queue.

The entry queue of segment 1 waits outside; that of segment k >= 2 holds residents about to make token r_{k-1} + 1. At a
decision let k be the largest such that every segment up to it has at least its threshold in its entry queue; the batch
takes exactly n_k' of them into each segment k' <= k, and all that are inside those segments already (at most n_k' in
each stage, since no more ever enter at once). Later segments pause and keep their KV. A prompt leaves at its last
token; its length is looked at there and nowhere else (`verification.engine.paused_cohorts`). A batch of more than B
sequences, or of more tokens than the budget, counts as an overflow, as one of more than C KV tokens does.

**The paper's listing, read literally, takes one iteration more at each boundary.** A survivor of stage r_{k-1} waits
there at that stage, and the batch that lets it in moves it to the first stage of the segment, which the next one
executes: a request of o tokens that passes b boundaries takes o + 1 + b iterations. Here a survivor executes stage
r_{k-1} + 1 next, o + 1 iterations in all; the KV that it holds while it waits is a token larger than in the listing,
which `thresholds.nested_wait.segments` counts. Drift and theta are the same in both, since
entries and exits of a boundary queue are.
"""

from __future__ import annotations

import numpy as np

from fluid.errors import InputError
from thresholds import NestedWaitPolicy
from verification.engine.paused_cohorts import make_segments, run
from verification.engine.state import Kernel, Problem
from verification.rules.rule import Look, Rule


def kernel(policy: NestedWaitPolicy, problem: Problem) -> Kernel:
    """Return the rule, ready to run; raises InputError for prefill in chunks or an output past the last boundary."""
    end = np.array(policy.boundaries, dtype=np.int64) + problem.prefill_stages[0]
    if problem.stages.max() > end[-1]:
        longest = f"up to {problem.stages.max() - problem.prefill_stages[0]} decode stages, the longest output"
        raise InputError("boundaries", longest, policy.boundaries, "policy")
    end = np.minimum(end, problem.longest)  # beyond it nobody is left
    segments = make_segments(problem, np.append(0, end[:-1]), end, policy.thresholds, "nested WAIT")
    return lambda state, budget: run(problem, state, segments, False, budget)


RULE = Rule(NestedWaitPolicy, kernel, frozenset(),
            Look("pink", (0, (2, 1)), "^"))
