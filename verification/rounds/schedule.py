"""What a policy did with an instance: who ran from when to when, and a certificate that it was allowed.

A *run* of a request is a stretch of rounds in which it is active. It starts at moment p and ends at moment e; at
moments t = p + 1..e it holds s + t - p tokens. The last run of a request has e = p + o: it is finished. Every other was
*cleared*, its tokens lost, and the request waits again. With c_i = e_i the moment at which request i finishes,

    total latency = sum_i (c_i - a_i)

the objective of [J]'s integer program with c_i = p_i + o_i (mathematics, section 7.1). Three requests with (a, s, o) =
(0, 1, 1), (0, 1, 2) and (1, 1, 1) that start as they come finish at 1, 2 and 2: the total latency is 1 + 2 + 1 = 4.

**Certificate.** `violations` takes nothing but the instance and the runs, and checks: no run starts before its request
comes; the runs of a request do not overlap, and exactly the last has o rounds; at every moment the KV of all active
requests is at most M.

**Lower bound.** A request takes v_i = sum_{j<=o} (s + j) = s o + o (o + 1)/2 token-rounds of memory, of which there are
M a round from moment min a on. So when k requests are finished, at least the k smallest v have been served; and the
k-th finish is never before the k-th smallest of a_i + o_i. With both sorted,

    total latency >= sum_k max( (a + o)_(k), min a + ceil(sum_{i<=k} v_(i) / M) ) - sum_i a_i

for every schedule whatever, cleared runs or none. Source: [J], section 4 (volumes); the two together are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from fluid.arrays import Ints
from verification.rounds.instance import Instance


@dataclass(frozen=True, eq=False)
class Schedule:
    """Runs in order of start: `requests` (index), `starts` and `ends` (moments), each of shape (R,), of an `instance`.

    `clearings` is the number of moments at which anything was cleared, `rescues` how many of them kept a request that
    the rule as published might have cleared (`verification.rounds.protection`): 0 says that it is the published rule's.

    >>> schedule = Schedule(Instance([0, 0, 1], [1, 1, 1], [1, 2, 1], memory=5), [0, 1, 2], [0, 0, 1], [1, 2, 2])
    >>> schedule.total_latency, schedule.peak_memory, schedule.violations
    (4, 5, ())
    """

    instance: Instance
    requests: Ints
    starts: Ints
    ends: Ints
    clearings: int = 0
    rescues: int = 0
    violations: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name in ("requests", "starts", "ends"):
            values = np.array(getattr(self, name), dtype=np.int64)
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        object.__setattr__(self, "violations", tuple(_broken(self)))

    @property
    def started(self) -> Ints:
        """The start of each request's last run (moment), shape (N,)."""
        return self._last(self.starts)

    @property
    def finished(self) -> Ints:
        """The moment c_i at which each request finishes, shape (N,)."""
        return self._last(self.ends)

    @property
    def latency(self) -> Ints:
        """c_i - a_i, rounds, shape (N,)."""
        return self.finished - self.instance.arrivals

    @property
    def total_latency(self) -> int:
        """sum_i (c_i - a_i), rounds."""
        return int(self.latency.sum())

    @property
    def cleared(self) -> int:
        """How many runs were cleared."""
        return len(self.requests) - len(self.instance)

    @property
    def lost_tokens(self) -> int:
        """Tokens made in runs that were cleared."""
        return int((self.ends - self.starts).sum() - self.instance.outputs.sum())

    @property
    def memory_used(self) -> tuple[Ints, Ints]:
        """Moments at which the KV is a local peak or changes its slope, and the KV there (tokens), from the runs alone.

        Between them it is a straight line, so that its largest value is among these.
        """
        return _memory(self)

    @property
    def peak_memory(self) -> int:
        """The largest KV of all active requests at any moment (tokens)."""
        return int(self.memory_used[1].max(initial=0))

    def _last(self, moments: Ints) -> Ints:
        values = np.zeros(len(self.instance), dtype=np.int64)
        values[self.requests] = moments  # of equal indices the last counts
        return values


def least_total_latency(instance: Instance) -> int:
    """Return a lower bound of the total latency (rounds) of any schedule, from volumes and lengths alone.

    Two requests of one prompt token and one output token fit a memory of 2 only one after the other: 1 + 2.

    >>> least_total_latency(Instance([0, 0], [1, 1], [1, 1], memory=2))
    3
    """
    if not len(instance):
        return 0
    o, first = instance.outputs, int(instance.arrivals.min())
    volumes = np.sort(instance.prompts * o + o * (o + 1) // 2)
    by_memory = first - (-np.cumsum(volumes) // instance.memory)
    return int(np.maximum(np.sort(instance.arrivals + o), by_memory).sum() - instance.arrivals.sum())


def _memory(schedule: Schedule) -> tuple[Ints, Ints]:
    """At moment t the active are those with p < t <= e: they hold sum (s - p) + t * (their number)."""
    starts, ends = schedule.starts, schedule.ends
    moments = np.unique(np.concatenate([starts + 1, ends, ends + 1]))
    rest = schedule.instance.prompts[schedule.requests] - starts
    entered, left = np.searchsorted(moments, starts + 1), np.searchsorted(moments, ends + 1)
    count, held = np.zeros(len(moments) + 1, dtype=np.int64), np.zeros(len(moments) + 1, dtype=np.int64)
    np.add.at(count, entered, 1)
    np.add.at(count, left, -1)
    np.add.at(held, entered, rest)
    np.add.at(held, left, -rest)
    return moments, np.asarray(np.cumsum(held)[:-1] + moments * np.cumsum(count)[:-1], dtype=np.int64)


def _broken(schedule: Schedule) -> Iterator[str]:
    instance, who = schedule.instance, schedule.requests
    if len(who) and (who.min() < 0 or who.max() >= len(instance)):
        yield "runs are of requests of the instance"
        return
    lengths = schedule.ends - schedule.starts
    order = np.lexsort((schedule.starts, who))
    same = who[order][1:] == who[order][:-1]
    last = np.ones(len(who), dtype=bool)
    last[:-1] = ~same
    if np.any(schedule.starts < instance.arrivals[who]):
        yield "no run starts before its request comes"
    if np.any(lengths < 1):
        yield "a run lasts a round at least"
    if np.any(same & (schedule.starts[order][1:] < schedule.ends[order][:-1])):
        yield "the runs of a request do not overlap"
    if len(np.unique(who)) != len(instance) or np.any(lengths[order][last] != instance.outputs[who[order]][last]):
        yield "the last run of every request has all of its rounds"
    if np.any(lengths[order][~last] >= instance.outputs[who[order]][~last]):
        yield "a run that is cleared has fewer rounds than the output"
    if schedule.peak_memory > instance.memory:
        yield f"the KV is at most the memory of {instance.memory} tokens (it reaches {schedule.peak_memory})"
