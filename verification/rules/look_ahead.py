"""Look-ahead admission: first come, first served, while overflow stays improbable in the iterations ahead.

At each decision the head of the queue enters if, with it, the residents pass the test of
`thresholds.look_ahead.exponents`, which reads prompt lengths and ages, and no output length; so does the next, and so
on. Where nobody is resident the head enters. A batch of B sequences, an iteration of q tokens that has no room for its
first chunk, lets it wait. Residents never pause and are never evicted: should they come to hold more than C, which has
at most the chance that was asked for, the iterations above C are counted, as they are of windows.

While somebody waits and was refused the test is made in every iteration. See mathematics, section 13.2.
"""

from __future__ import annotations

import numpy as np

from fluid.replica import KVLayout
from thresholds import LookAheadPolicy
from thresholds.look_ahead.exponents import shares_ahead
from verification.engine.clock import next_moment, paused, sleep
from verification.engine.compile import entry, woven
from verification.engine.continuous_batching import admit, run_until, settle, tokens_computed
from verification.engine.lookahead.chances import (
    Chances,
    count_in,
    count_out_completed,
    join_sums,
    make_chances,
    passes,
)
from verification.engine.queues import Queue, head, make_queue, request_at, take, take_arrivals
from verification.engine.residents import PREFILL, SIZE, Residents, make_residents
from verification.engine.state import ITERATION, NO_CAP, NOBODY, Kernel, Problem, State, stage_computes
from verification.rules.rule import Claim, Look, Rule


def kernel(policy: LookAheadPolicy, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    layout = KVLayout(problem.block, problem.window, problem.windowed, problem.everywhere,
                      problem.state // problem.unit)
    lead = -(-int(max(problem.prefill_stages.max() - 1, 0)) // policy.step)
    shares = shares_ahead(policy, layout, problem.capacity / problem.unit, int(problem.prefill_stages.max() == 0), lead)
    most = problem.most_sequences  # not what C holds: thresholds made by hand, or for other prompts, may admit more
    queue, residents = make_queue(problem, 1), make_residents(problem, most)
    chances = make_chances(problem, shares, np.array(policy.prompts), lead, policy.step,
                           int(min(most, len(problem.times))) + 1)
    return lambda state, budget: run(problem, state, queue, residents, chances, budget)


@entry
def run(problem: Problem, state: State, queue: Queue, residents: Residents, chances: Chances, budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        take_arrivals(problem, state, queue)
        t = state.counts[ITERATION]
        most = _enter(problem, state, queue, residents, chances, t)
        if residents.tally[SIZE] > 0:
            until = next_moment(problem, state, head(queue, 0) == NOBODY)
            m, end = run_until(problem, state, queue, residents, t, until, most)
            count_out_completed(problem, residents, chances, t + m - 1)
            settle(problem, state, queue, residents, t + m - 1, end)
        else:
            sleep(problem, state)


@woven
def _enter(problem: Problem, state: State, queue: Queue, residents: Residents, chances: Chances, t: int) -> int:
    """Admit who passes; return for how many iterations, unless somebody completes, the next is sure not to."""
    tally, place = residents.tally, head(queue, 0)
    while place != NOBODY:
        r = request_at(queue, place)
        j = problem.types[r]
        if tally[SIZE] > 0:
            if tally[SIZE] >= problem.most_sequences:
                return NO_CAP
            if tokens_computed(residents) + stage_computes(problem, j, 0) > problem.most_tokens:
                return 1 if tally[PREFILL] > 0 else NO_CAP
            if not passes(chances, j, t):
                return 1
        take(queue, 0)
        admit(problem, state, residents, place, r)
        count_in(chances, j, t)
        join_sums(chances, j, t)
        place = head(queue, 0)
    return NO_CAP


RULE = Rule(LookAheadPolicy, kernel, frozenset({Claim.ITERATION_TIME, Claim.INVENTORY}),
            Look("violet", (0, (4, 1, 1, 1, 1, 1)), "<"))
