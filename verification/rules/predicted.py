"""WAIT where lengths are predicted: a request waits, and moves, with those it is taken for.

The rule is that of `verification.rules.wait` with the type a request is seen as in place of its own: a lane for each
type, eligible when n_j wait there, and cohorts of n_j that move together. Only what happens differs: a prompt leaves at
its own last token, before its cohort has done the stages of its lane or after. A lane is a segment
(`verification.segments`) as long as the longest life.
"""

from __future__ import annotations

import numpy as np

from thresholds import WaitPolicy
from verification.clock import paused, sleep
from verification.engine import Kernel, Problem, State, compiled, entry
from verification.segments import Segments, full, make_segments, serve, take_arrivals


def kernel(policy: WaitPolicy, problem: Problem) -> Kernel:
    """Return the rule, ready to run; raises InputError for prefill in chunks."""
    lanes = len(problem.stages)
    offset = np.searchsorted(np.sort(problem.seen), np.arange(lanes)).astype(np.int64)
    first, end = np.zeros(lanes, dtype=np.int64), np.full(lanes, problem.stages.max())
    segments = make_segments(problem, first, end, policy.thresholds, offset, "WAIT with predicted lengths")
    return lambda state, budget: run(problem, state, segments, budget)


@entry
def run(problem: Problem, state: State, segments: Segments, budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        take_arrivals(problem, state, segments, True)
        if _choose(segments):
            serve(problem, state, segments)
        else:
            sleep(problem, state)


@compiled
def _choose(segments: Segments) -> bool:
    """Serve the lanes that have a full threshold at their entry; return whether there are any."""
    some = False
    for k in range(len(segments.threshold)):
        segments.served[k] = full(segments, k)
        some = some or segments.served[k] > 0
    return some
