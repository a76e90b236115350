"""What evictions waste: the time of iterations that goes into work which is done twice, or for nothing.

With one line d0 + d1 KV + d2 prefill + d3 size the time of a run is I d0 and a sum over what batches did, so that what
an eviction cost can be told apart from what requests needed. There are two kinds (`verification.engine.eviction`).

**recompute.** A request that had k tokens, its prompt and those it had made, prefills them again when it comes back:

    lost = d2 k                  where the prefill makes the next token: it stands for the iteration that would have
    lost = d2 k + d1 k + d3      where it does not, and repeats the stage before

k is known of each eviction of a request that had made a token and decoded again later: what it had made are the
iterations it decoded in, which a recorded run tells (`verification.token_gaps`). Not in it is what an eviction throws
away before the first token, a prompt at most, and what comes back after the end of the run: where prompts are prefilled
in chunks, or make no token, the number is a lower bound, else it is exact. Chunks are no waste, however many.

**restart**, of greedy admission, where every resident is in every batch:

    lost = sum of all iterations - I d0 - sum over requests of d1 (KV read) + d2 (prefilled) + d3 (stages)

over the stages that requests executed in their last pass: of those which finished all, of a resident at the end those
since it was admitted. Exact to rounding. For other rules that restart, and where the iteration time has several lines,
the lost time is not known (None). No eviction, no loss: exactly 0. Source: mathematics, section 19.4.
"""

from __future__ import annotations

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.stages import StageProfile
from verification.engine.state import EVICTIONS, Problem, State
from verification.policies import Evicting, Policy
from verification.rules.greedy import Greedy
from verification.run import Timeline
from verification.token_gaps import spells_of


def lost_time(policy: Policy, problem: Problem, state: State, spells: Floats, timeline: Timeline,
              profile: StageProfile) -> float | None:
    """Return the seconds of iterations that evictions wasted; `spells` are those that one ended, shape (spells, 3)."""
    if state.counts[EVICTIONS] == 0:
        return 0.0
    if len(problem.pieces) > 1:
        return None
    if isinstance(policy, Evicting) and policy.eviction == "recompute":
        return _prefilled_again(problem, state, spells, timeline, profile)
    if isinstance(policy, Greedy):
        return max(_computed(problem, timeline) - _needed(problem, state, timeline, profile), 0.0)
    return None


def _prefilled_again(problem: Problem, state: State, ended: Floats, timeline: Timeline,
                     profile: StageProfile) -> float:
    """Seconds of the prefills of what had been computed before."""
    spells = spells_of(problem, state, ended)
    decoded = timeline.end[timeline.served > 0]
    low, high = (np.searchsorted(decoded, each, side="right") for each in (spells.begin, spells.end))
    made = _added_up(np.isfinite(spells.token) + high - low, spells.request)
    again = np.flatnonzero(np.diff(spells.request) == 0)  # of each but the last of a request
    types = problem.types[spells.request[again]]
    tokens = problem.prompt[types] + made[again]
    _, per_kv, per_prefill, per_sequence = problem.pieces[0]
    repeats = problem.first_stage[types] == problem.prefill_stages[types]
    read = profile.layout.read(problem.prefix[types] + tokens)
    return float(per_prefill * tokens.sum() + np.sum(repeats * (per_kv * read + per_sequence)))


def _added_up(numbers: Ints, owner: Ints) -> Ints:
    """Sums over all that have the same owner up to each; owners are in order."""
    total = np.cumsum(numbers)
    first = np.flatnonzero(np.diff(owner, prepend=-1) > 0)
    before = np.concatenate([np.zeros(1, dtype=np.int64), total])[first]
    found: Ints = total - np.repeat(before, np.diff(first, append=len(owner)))
    return found


def _computed(problem: Problem, timeline: Timeline) -> float:
    """Seconds of all iterations but their overheads."""
    return float(timeline.duration.sum() - problem.pieces[0, 0] * len(timeline.start))


def _needed(problem: Problem, state: State, timeline: Timeline, profile: StageProfile) -> float:
    """Seconds that requests added in their last pass."""
    finished = np.isfinite(state.finished)
    _, per_kv, per_prefill, per_sequence = problem.pieces[0]
    per_kv *= problem.unit
    whole = per_kv * profile.kv_read + per_prefill * profile.prefilled + per_sequence * profile.stages
    total = float(np.bincount(problem.types[finished], minlength=len(whole)) @ whole)
    for r in np.flatnonzero(np.isfinite(state.admitted) & ~finished):
        j = int(problem.types[r])
        executed = len(timeline.start) - int(np.searchsorted(timeline.start, state.admitted[r]))
        read, prefilled = profile.stage_read(j)[:executed], profile.stage_prefill(j)[:executed]
        total += float(per_kv * read.sum() + per_prefill * prefilled.sum() + per_sequence * len(read))
    return total
