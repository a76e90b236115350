"""The requests that a law of lengths was seen in: how many of each length pair, in which order, and how long at most.

A trace brings its order, which is tested (`fluid.traces.dependence`); a number of rows behind the rates of a workload
says how many requests of each type there were. No request has more than L tokens: `max_model_len` of the replica,
without one the longest request that fits the cache. Requests up to L are covered by a staircase: with prompts of more
than l_i and at most l_{i+1} tokens none holds more, at any age, than one of l_{i+1} + (L - l_i - 1) tokens.

**A cautious law** for whoever needs one that is worse than the true law at every stage. On a grid 0 = r_0 < .. < r_K of
output lengths up to L - 1, chosen before the rows are seen, let n_i of them have more than r_i output tokens. Given
n_{i-1} that is binomial, with the chance p_i that an output goes on beyond r_i, and with confidence 1 - alpha/(K - 1)
each (so with 1 - alpha all of them)

    p_i <= q_i, Clopper and Pearson's bound for n_i of n_{i-1}         q_i = 1 where none of n_{i-1} ended

The law has outputs of r_i tokens with probability (q_1 .. q_{i-1})(1 - q_i): its outputs are longer than the true ones,
and more of those that reach any r_i go on to any r_j, which is what thresholds of nested WAIT rest on. Prompts are as
long as L allows. It is dearer than a bound on one mean: every stage has a worst law of its own. See mathematics,
section 12.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fluid import Equilibrium, Replica, StageProfile, Workload, stage_profile
from fluid.arrays import Ints
from fluid.errors import InputError, probability, whole
from fluid.traces.dependence import Dependence, dependence
from fluid.traces.trace import Trace

CHOOSING, FEWEST = 30, 10  # one in so many rows chooses, so many at least; the others bound
LEAST_ROWS = 2
LEAST_OUTPUT = 2  # tokens of a request that stands for all: it then has a decode stage on every replica
STEPS = 128  # of the staircase
LONGEST = 2**20  # tokens: a cap where neither the replica nor its cache gives one
FINENESS = 1.15  # of the grid of a cautious law: the ratio of its lengths
WHOLE = 1e-6  # how far from a whole number a count of rows may be


@dataclass(frozen=True)
class Evidence:
    """What a promise rests on: so many `rows`, its `confidence`, L tokens at most in a request, and the order's test.

    `order` is None where the order of the rows is not known; `stated` says whether L is the replica's `max_model_len`.
    """

    rows: int
    confidence: float
    longest: int
    order: Dependence | None = None
    stated: bool = True

    @property
    def independent(self) -> bool:
        """Whether nothing speaks against rows that are independent."""
        return self.order is None or not self.order.found

    @property
    def doubt(self) -> str:
        """Why no probability is promised, but the order of the trace is kept to; nothing where one is."""
        if self.order is None or (self.independent and self.stated):
            return ""
        if self.independent:
            return "nothing says how long a request can be (replica.max_model_len)"
        return self.order.reason

    @property
    def share_of_longest(self) -> float:
        """ln(1/alpha)/m: the share of requests of L tokens that so many rows do not rule out."""
        return -math.log1p(-self.confidence) / self.rows

    def __str__(self) -> str:
        return (f"with confidence {self.confidence:.0%} over {self.rows:,} independent rows of requests of at most "
                f"{self.longest:,} tokens")


def rows_behind(evidence: Evidence | None) -> dict[str, Any]:
    """The rows that a promise rests on, by the names of the command line; None where the law of lengths is given."""
    if evidence is None:
        return {"rows": None, "confidence": None, "max_model_len": None, "lengths_p_value": None}
    return {"rows": evidence.rows, "confidence": None if evidence.doubt else evidence.confidence,
            "max_model_len": evidence.longest if evidence.stated else None,
            "lengths_p_value": evidence.order.p_value if evidence.order else None}


@dataclass(frozen=True, eq=False)
class Rows:
    """The requests a law was seen in: `profile` of their J distinct length pairs and of the staircase of L tokens.

    `counts` of rows for each pair, shape (J,); `types`, the pair of each row in the order of arrival, where known.
    """

    profile: StageProfile
    counts: Ints
    types: Ints | None
    evidence: Evidence

    @classmethod
    def of(cls, rows: Trace | int, equilibrium: Equilibrium, confidence: float) -> Rows:
        """The rows of a trace, or a number of them behind the rates of a workload; InputError where it cannot be."""
        replica, types, order = equilibrium.replica, None, None
        chance = probability("confidence", confidence, "paced")
        if isinstance(rows, Trace):
            prompt, output, counts, types = rows.pairs
            order = dependence(rows.kv_work(replica))
        else:
            workload = equilibrium.workload
            prompt, output, counts = workload.prompt_tokens - workload.cached_prefix, workload.output_tokens, _whole(
                rows, workload)
        if counts.sum() < LEAST_ROWS:
            raise InputError("rows", f"at least {LEAST_ROWS}", int(counts.sum()), "paced")
        longest = longest_request(replica)
        over = np.flatnonzero(prompt + output > longest)[:1]
        if over.size:
            raise InputError("max_model_len", f"at least {int((prompt + output).max()):,}, the longest of the rows",
                             longest, "paced")
        stair = _staircase(longest)
        every = Workload.from_arrays(np.append(prompt, stair[0]), np.append(output, stair[1]),
                                     np.ones(prompt.size + stair[0].size))
        return cls(stage_profile(every, replace(replica, max_model_len=None)), counts, types,
                   Evidence(int(counts.sum()), chance, longest, order, replica.max_model_len is not None))

    @cached_property
    def split(self) -> tuple[Ints, Ints]:
        """The counts of the rows that choose and of those that bound, by a fixed shuffle."""
        total = int(self.counts.sum())
        some = min(total // 2, max(FEWEST, total // CHOOSING))
        order = np.random.default_rng(0).permutation(np.repeat(np.arange(self.counts.size), self.counts))
        chosen = np.bincount(order[:some], minlength=self.counts.size)
        return chosen, self.counts - chosen

    def some(self, index: Ints) -> StageProfile:
        """The profile of some of the pairs."""
        profile = self.profile
        return StageProfile(profile.prompt[index], profile.prefix[index], profile.output[index], profile.decode[index],
                            profile.prefill_stages[index], profile.chunk[index], profile.first_token_stage[index],
                            profile.layout)


def longest_request(replica: Replica) -> int:
    """L, the most tokens of a request: what the cache holds of one, and `max_model_len` at most.

    >>> from fluid import IterationTime
    >>> longest_request(Replica(137_000, IterationTime(0.0106, 4.013e-7)))
    137000
    """
    most = LONGEST if replica.max_model_len is None else replica.max_model_len
    low, high, layout = 1, most, replica.layout
    while low < high:
        middle = (low + high + 1) // 2
        fits = layout.whole(int(layout.held(np.array(middle)))) <= replica.kv_capacity
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _staircase(longest: int) -> tuple[Ints, Ints]:
    """Prompt and output tokens such that every request of at most `longest` tokens is below one of them."""
    if longest < 2:
        raise InputError("max_model_len", "at least 2 tokens, one of a prompt and one of output", longest, "paced")
    ends = np.unique(np.linspace(1, longest - 1, STEPS).astype(np.int64))
    before = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]])
    return ends, np.maximum(longest - before - 1, LEAST_OUTPUT)


def _whole(rows: int, workload: Workload) -> Ints:
    total = whole("rows", rows, "paced", unit="requests", least=LEAST_ROWS)
    counts = workload.rates / workload.rates.max()
    counts = counts * (total / counts.sum())
    near: Ints = np.rint(counts).astype(np.int64)
    if np.any(np.abs(counts - near) > WHOLE * np.maximum(counts, 1.0)) or np.any(near < 1):
        raise InputError("rows", "a number of requests of which every type has a whole number, at its share of the "
                         "rates", rows, "paced")
    return near


def cautious(rows: Rows, rate: float) -> Workload:
    """Return the cautious law of rows as a workload at a total rate, requests/s."""
    from scipy.stats import beta  # scipy.stats takes longer to load than all of fluid

    longest = rows.evidence.longest
    steps = np.arange(math.floor(math.log(longest, FINENESS)) + 1)
    grid = np.unique(np.append(0, np.rint(FINENESS**steps).astype(np.int64).clip(max=longest - 2)))
    output = rows.profile.output[: rows.counts.size]
    beyond = np.array([int(rows.counts[output > r].sum()) for r in grid])
    error = (1 - rows.evidence.confidence) / max(grid.size - 1, 1)
    before, after = beyond[:-1], beyond[1:]
    goes_on = np.where(after < before, beta.isf(error, after + 1, np.maximum(before - after, 1)), 1.0)
    survival = np.append(np.cumprod(np.append(1.0, goes_on)), 0.0)
    share = -np.diff(survival)
    some = share > 0
    ends = np.maximum(np.append(grid[1:], longest - 1), LEAST_OUTPUT)
    return Workload.from_arrays((longest - grid - 1)[some], ends[some], rate * share[some])
