"""WAIT where lengths are predicted: a request waits, and moves, with those it is taken for.

The rule is that of `verification.rules.wait` with the type a request is seen as in place of its own: a lane for each
type, eligible when n_j wait there, and cohorts of n_j that move together. Only what happens differs: a prompt leaves at
its own last token, before its cohort has done the stages of its lane or after. A lane is a segment
(`verification.segments`) as long as the longest life.
"""

from __future__ import annotations

import numpy as np

from thresholds import WaitPolicy
from verification.engine import Kernel, Problem
from verification.segments import make_segments, run


def kernel(policy: WaitPolicy, problem: Problem) -> Kernel:
    """Return the rule, ready to run; raises InputError for prefill in chunks."""
    lanes = len(problem.stages)
    first, end = np.zeros(lanes, dtype=np.int64), np.full(lanes, problem.longest)
    segments = make_segments(problem, first, end, policy.thresholds, "WAIT with predicted lengths")
    return lambda state, budget: run(problem, state, segments, True, budget)
