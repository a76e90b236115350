"""WAIT [A, Algorithm 1], mathematics, section 3.1: cohorts of n_j prompts that move together.

Type j is eligible when at least n_j of its prompts wait. The batch takes min(n_j, n_js) prompts, oldest first, from
every stage s of every eligible type; the other residents keep their KV and stand still. With nothing eligible the
server idles. A batch of more than B sequences, or of more tokens than the budget, counts as an overflow, as one of more
than C KV tokens does.

Prompts enter only n_j at a time, so by induction every stage holds either n_j prompts or none, and batch number B of
the type finds cohort B - s in stage s. Its residents need no other state than B: an iteration costs as much as there
are eligible types (and entering, first and finished prompts), whatever the output length. Once S batches have been
served the type holds every stage; before that, one stage more with each batch.

Where lengths are only predicted a request waits, and moves, with those it is taken for: there is a lane for each type,
eligible when n_j wait in it. Only what happens differs: a prompt leaves at its own last token, before its cohort has
done the stages of its lane or after. So lanes are segments (`verification.engine.paused_cohorts`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Ints
from fluid.errors import InputError
from thresholds import WaitPolicy
from verification.engine.clock import execute, paused, sleep
from verification.engine.compile import compiled, entry, woven
from verification.engine.paused_cohorts import make_segments
from verification.engine.paused_cohorts import run as run_segments
from verification.engine.state import (
    NOBODY,
    NOW,
    Kernel,
    Problem,
    State,
    complete,
    held_by,
    make_first_token,
    next_arrival,
    read_by,
    stage_computes,
    stage_prefill,
    stage_tokens,
)
from verification.rules.rule import Claim, Look, Rule

# rows of Cohorts.per_prompt: totals over the stages a batch of the type holds now, for one prompt in each
READ, PREFILL, TOKENS, STAGES = range(4)
# places in Cohorts.tally: the number of eligible types, the KV of residents beyond stage 0
ELIGIBLE, HELD = range(2)


class Cohorts(NamedTuple):
    """Per type: threshold n, its requests in order (`members`, from `offset` on), prompts waiting, batches served B,
    and the sums `per_prompt` (rows above); the `eligible` types, and the `tally` of all (places above).
    """

    threshold: Ints
    members: Ints
    offset: Ints
    waiting: Ints
    batches: Ints
    per_prompt: Ints
    eligible: Ints
    tally: Ints


def kernel(policy: WaitPolicy, problem: Problem) -> Kernel:
    """Return the rule, ready to run; raises InputError unless there is one threshold per type."""
    if len(policy.thresholds) != len(problem.stages):
        requirement = f"{len(problem.stages)} numbers, one per prompt type"
        raise InputError("thresholds", requirement, policy.thresholds, "policy")
    if problem.seen is not problem.types:
        return _kernel_where_types_are_mistaken(policy, problem)
    cohorts = make_cohorts(problem, policy)
    return lambda state, budget: run(problem, state, cohorts, budget)


def _kernel_where_types_are_mistaken(policy: WaitPolicy, problem: Problem) -> Kernel:
    """The rule by the types that requests are taken for: a lane for each, a segment of all stages there can be."""
    types = len(problem.stages)
    first, end = np.zeros(types, dtype=np.int64), np.full(types, problem.longest)
    lanes = make_segments(problem, first, end, policy.thresholds, "WAIT with predicted lengths")
    return lambda state, budget: run_segments(problem, state, lanes, True, budget)


def make_cohorts(problem: Problem, policy: WaitPolicy) -> Cohorts:
    """Return the empty system of a policy."""
    types = len(problem.stages)
    count = np.bincount(problem.types, minlength=types)
    offset = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(count)[:-1]])
    members = np.argsort(problem.types, kind="stable") if types > 1 else np.arange(len(problem.types))
    cohorts = Cohorts(np.array(policy.thresholds, dtype=np.int64), members, offset, np.zeros(types, dtype=np.int64),
                      np.zeros(types, dtype=np.int64), np.zeros((4, types), dtype=np.int64),
                      np.zeros(types, dtype=np.int64), np.zeros(2, dtype=np.int64))
    _open_first_stage(problem, cohorts)
    return cohorts


@entry
def run(problem: Problem, state: State, cohorts: Cohorts, budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        _take_arrivals(problem, state, cohorts)
        if cohorts.tally[ELIGIBLE] > 0:
            _serve(problem, state, cohorts)
        else:
            sleep(problem, state)


@compiled
def _take_arrivals(problem: Problem, state: State, cohorts: Cohorts) -> None:
    r = next_arrival(problem, state, state.clock[NOW])
    while r != NOBODY:
        j = problem.types[r]
        cohorts.waiting[j] += 1
        if cohorts.waiting[j] == cohorts.threshold[j]:
            cohorts.eligible[cohorts.tally[ELIGIBLE]] = j
            cohorts.tally[ELIGIBLE] += 1
        r = next_arrival(problem, state, state.clock[NOW])


@woven
def _serve(problem: Problem, state: State, cohorts: Cohorts) -> None:
    """One iteration of all eligible types."""
    kv, read, prefill, size, tokens = cohorts.tally[HELD], 0, 0, 0, 0
    for place in range(cohorts.tally[ELIGIBLE]):
        j = cohorts.eligible[place]
        n = cohorts.threshold[j]
        kv += n * held_by(problem, stage_tokens(problem, j, 0))
        read += n * cohorts.per_prompt[READ, j]
        prefill += n * cohorts.per_prompt[PREFILL, j]
        tokens += n * cohorts.per_prompt[TOKENS, j]
        size += n * cohorts.per_prompt[STAGES, j]
    start = state.clock[NOW]
    end = execute(problem, state, kv, read, prefill, size, tokens, 1)
    _move(problem, state, cohorts, start, end)


@woven
def _move(problem: Problem, state: State, cohorts: Cohorts, start: float, end: float) -> None:
    """Every cohort of the served types goes one stage on; types that still have a full cohort waiting stay eligible."""
    kept = 0
    for place in range(cohorts.tally[ELIGIBLE]):
        j = cohorts.eligible[place]
        _note_times(problem, state, cohorts, j, start, end)
        _end_batch(problem, cohorts, j)
        if cohorts.waiting[j] >= cohorts.threshold[j]:
            cohorts.eligible[kept] = j
            kept += 1
    cohorts.tally[ELIGIBLE] = kept


@woven
def _note_times(problem: Problem, state: State, cohorts: Cohorts, j: int, start: float, end: float) -> None:
    """In batch B of type j cohort B is admitted, B - (stage of the first token) makes it, B - (S - 1) completes."""
    batch = cohorts.batches[j]
    for place in _places(cohorts, j, batch):
        state.admitted[cohorts.members[place]] = start
    if problem.first_stage[j] >= 0:
        for place in _places(cohorts, j, batch - problem.first_stage[j]):
            make_first_token(problem, state, cohorts.members[place], end)
    for place in _places(cohorts, j, batch - (problem.stages[j] - 1)):
        complete(problem, state, cohorts.members[place], end)


@compiled
def _places(cohorts: Cohorts, j: int, cohort: int) -> range:
    """The places in `members` of a cohort; none where its number is below 0, before the first."""
    size = cohorts.threshold[j] if cohort >= 0 else 0
    begin = cohorts.offset[j] + cohort * size
    return range(begin, begin + size)


@compiled
def _end_batch(problem: Problem, cohorts: Cohorts, j: int) -> None:
    """A batch of type j is over: a cohort waits no more, and until the first completes one more stage is held."""
    stage = cohorts.batches[j] + 1
    if stage < problem.stages[j]:
        _open_stage(problem, cohorts, j, stage)
        cohorts.tally[HELD] += cohorts.threshold[j] * held_by(problem, stage_tokens(problem, j, stage))
    cohorts.batches[j] += 1
    cohorts.waiting[j] -= cohorts.threshold[j]


@entry
def _open_first_stage(problem: Problem, cohorts: Cohorts) -> None:
    for j in range(len(problem.stages)):
        _open_stage(problem, cohorts, j, 0)


@compiled
def _open_stage(problem: Problem, cohorts: Cohorts, j: int, stage: int) -> None:
    """From now on a batch of type j holds this stage too."""
    cohorts.per_prompt[READ, j] += read_by(problem, j, stage_tokens(problem, j, stage))
    cohorts.per_prompt[PREFILL, j] += stage_prefill(problem, j, stage)
    cohorts.per_prompt[TOKENS, j] += stage_computes(problem, j, stage)
    cohorts.per_prompt[STAGES, j] += 1


RULE = Rule(WaitPolicy, kernel, frozenset({Claim.COHORTS}),
            Look("green", "-.", "s"))
