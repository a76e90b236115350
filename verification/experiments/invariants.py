"""What holds of every run, whatever the policy: checked from its records alone, by none of the simulator's own code.

    requests   arrivals = completed + waiting + resident + rejected; nobody who does not fit is served
    order      arrival <= admitted < first token <= finished, as far as they happen
    service    admitted at the start of an iteration, first token and completion at the end of one; between them at
               least as many iterations as stages, and at least the time they take alone, max_i (S a_i + c_i); where
               evicted requests keep their tokens, between arrival and completion
    time       iterations follow each other, none is shorter than the overhead; the busy time is their sum
    memory     the peak is the largest KV, the overflows are the iterations above C or the cap on sequences
    residents  without evictions a batch holds at most the residents, and each holds the KV of one of its stages, or
               less while its prompt is prefilled in parts

Where every resident is in every batch (paced WAIT, greedy admission) and none was evicted, a request admitted in
iteration e is at stage s in iteration e + s: batches, KV and completions are then those of this count, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fluid import Replica
from fluid.arrays import Floats, Ints
from verification.experiments.summary import recorded
from verification.run import Run, Timeline

ROUNDING = 1e-9


def invariants(run: Run, replica: Replica, *, always: bool = False, in_parts: bool = False,
               keeps: bool = False) -> tuple[str, ...]:
    """Return the sentences that a recorded run breaks: none, unless the simulator is wrong.

    `always`: the policy puts every resident into every batch; `in_parts`: it prefills prompts in parts of its own
    (Sarathi), so that they may hold less than a stage says; `keeps`: evicted requests keep the tokens they have made,
    some of them from before the last admission. Raises ValueError for a run without a timeline.
    """
    timeline = recorded(run)
    begun = run.arrivals.times if keeps and run.evictions > 0 else run.admitted
    checks = [*_requests(run), *_order(run, begun)]
    checks += [*_times(run, timeline, replica), *_memory(run, timeline, replica)]
    if not broken(checks):  # the others count by iterations, which must make sense first
        checks += _service(run, timeline, replica, begun)
        if run.evictions == 0:
            checks += _residents(run, timeline, always, in_parts)
    return broken(checks)


Finding = tuple[str, bool]


def broken(findings: list[Finding]) -> tuple[str, ...]:
    """The sentences that are not true."""
    return tuple(sentence for sentence, true in findings if not true)


def _requests(run: Run) -> Iterator[Finding]:
    admitted, done = np.isfinite(run.admitted), np.isfinite(run.finished)
    never = ~run.fits
    waiting, resident = np.count_nonzero(run.fits & ~admitted), np.count_nonzero(admitted & ~done)
    yield ("arrivals are completed, waiting, resident or never fit",
           int(run.completed + waiting + resident + np.count_nonzero(never)) == len(run.arrivals))
    yield "only what fits is served", not bool(np.any(never & admitted))


def _order(run: Run, begun: Floats) -> Iterator[Finding]:
    after = run.profile.first_token_stage[run.arrivals.types] >= 0  # else the first token comes with the request
    made = np.isfinite(run.first_token)
    yield "nobody is admitted before arrival", not bool(np.any(run.admitted < run.arrivals.times))
    yield "no first token before admission", not bool(np.any(after & (run.first_token <= begun)))
    yield "no completion before the first token", not bool(np.any(run.finished < run.first_token))
    yield "no first token without admission", not bool(np.any(after & made & np.isnan(begun)))
    yield "no completion without a first token", not bool(np.any(np.isfinite(run.finished) & ~made))
    yield "nothing counts after the end", not bool(np.any(run.finished > run.end_time))


def _times(run: Run, timeline: Timeline, replica: Replica) -> Iterator[Finding]:
    start, end = timeline.start, timeline.end
    least = replica.iteration_time.overheads.max()
    yield "every iteration is on record", len(start) == run.iterations
    yield "time goes forward", bool(np.all(start[1:] >= end[:-1]))
    shortest = least * (1 - ROUNDING) - 4 * np.spacing(end)  # moments late in a run are rounded
    yield "no iteration is shorter than the overhead", bool(np.all(timeline.duration >= shortest))
    counted = np.maximum(np.minimum(end, run.end_time) - start, 0.0).sum()  # with explicit arrivals to the last end
    slack = ROUNDING * (1 + run.busy_time)
    yield ("the busy time is that of the iterations",
           bool(counted - slack <= run.busy_time <= timeline.duration.sum() + slack))


def _memory(run: Run, timeline: Timeline, replica: Replica) -> Iterator[Finding]:
    over = (timeline.kv > run.kv_capacity) | (timeline.batch > replica.most_sequences)
    yield "the peak is the largest KV", int(timeline.kv.max(initial=0)) == run.kv_peak
    yield "overflows are the iterations above a limit", int(np.count_nonzero(over)) == run.overflows
    yield "every iteration serves somebody", bool(np.all(timeline.batch > 0))


def _service(run: Run, timeline: Timeline, replica: Replica, begun: Floats) -> Iterator[Finding]:
    admitted, done = np.isfinite(run.admitted), np.isfinite(run.finished)
    first = np.isfinite(run.first_token) & admitted & (run.profile.first_token_stage[run.arrivals.types] >= 0)
    yield "prompts enter at the start of an iteration", bool(np.isin(run.admitted[admitted], timeline.start).all())
    ends = np.concatenate([run.finished[done], run.first_token[first]])
    yield "tokens and completions come at the end of an iteration", bool(np.isin(ends, timeline.end).all())
    stages = run.profile.stages[run.arrivals.types]
    taken = _end_of(run.finished[done], timeline) - _start_of(begun[done], timeline) + 1
    yield "nobody completes before its stages", bool(np.all(taken >= stages[done]))
    made = _end_of(run.first_token[first], timeline) - _start_of(begun[first], timeline)
    yield ("no first token before its stage",
           bool(np.all(made >= run.profile.first_token_stage[run.arrivals.types][first])))
    time = replica.iteration_time
    alone = time.overheads[:, None] * run.profile.stages + run.profile.time_work(time)
    least = alone.max(axis=0)[run.arrivals.types][done]
    yield ("nobody is faster than alone",
           bool(np.all(run.finished[done] - begun[done] >= least - ROUNDING * run.end_time)))


def _residents(run: Run, timeline: Timeline, always: bool, in_parts: bool) -> Iterator[Finding]:
    kinds, count = range(len(run.profile.stages)), run.iterations
    entered = [_per_iteration(_start_of(run.admitted[_of(run, j)], timeline), count) for j in kinds]
    left = [_per_iteration(_end_of(run.finished[_of(run, j)], timeline) + 1, count) for j in kinds]
    present = [np.cumsum(came - went) for came, went in zip(entered, left, strict=True)]
    yield "a batch holds at most the residents", bool(np.all(timeline.batch <= sum(present)))
    layout, least_of = run.profile.layout, [int(run.profile.units_held(j).min()) for j in kinds]
    least = sum((layout.block * layout.unit if in_parts else least_of[j]) * present[j] for j in kinds)
    most = sum(int(run.profile.peak[j]) * present[j] for j in kinds)
    between = (layout.whole(least) <= timeline.kv) & (timeline.kv <= most)
    yield "residents hold the KV of their stages", bool(np.all(between))
    if always:
        yield "every resident is in every batch", bool(np.array_equal(timeline.batch, sum(present)))
        held = layout.whole(sum(_held(run.profile.units_held(j), entered[j]) for j in kinds))
        yield "KV is the sum over residents, stage by stage", bool(np.array_equal(timeline.kv, held))


def _held(kv: Ints, entered: Ints) -> Ints:
    """KV (units) of a type in each iteration where whoever enters goes through one stage an iteration."""
    held = np.zeros(len(entered) + len(kv), dtype=np.int64)
    for stage, tokens in enumerate(kv.tolist()):
        held[stage: stage + len(entered)] += tokens * entered
    return held[: len(entered)]


def _of(run: Run, j: int) -> NDArray[np.bool_]:
    mine: NDArray[np.bool_] = run.arrivals.types == j
    return mine


def _start_of(moments: Floats, timeline: Timeline) -> Ints:
    """The iterations that start at these moments; those of the last pass, NaN left out."""
    found: Ints = np.searchsorted(timeline.start, moments[np.isfinite(moments)])
    return found


def _end_of(moments: Floats, timeline: Timeline) -> Ints:
    """The iterations that end at these moments, NaN left out."""
    found: Ints = np.searchsorted(timeline.end, moments[np.isfinite(moments)])
    return found


def _per_iteration(which: Ints, count: int) -> Ints:
    """How many there are of each iteration; beyond the last is left out."""
    found: Ints = np.bincount(which, minlength=count + 1)[:count].astype(np.int64)
    return found
