r"""Paced WAIT: rational thresholds N_j/g_j for a real GPU, residents never paused.

With x_j = N_j/g_j entries per iteration at most, Delta(x) = max_i [ a_i + sum_j x_j c_ij ], ask

    balance     lambda_j Delta(x) <= x_j   for every j      the windows carry the offered load (one line)
    memory      sum_j kv_bound_j(N_j, g_j) <= C             exact over all phases: `thresholds.paced_wait.entry_windows`
    sequences   sum_j N_j ceil(S_j / g_j) <= B              where the engine caps them: then nobody waits for a place
    tokens      sum_j x_j (l_j + o_j) <= q                  on average, where it has a budget: a prompt may wait for one

For one type balance is x >= n*; the window then serves more than arrives. For several the real solutions of balance
have n* as their least point. Where the iteration time is the largest of several lines Delta(x), the largest of their
means, is below the mean of the largest. Balance then asks lambda_j f^(x) <= x_j, f^ the longest that iterations can
take on average (`thresholds.mean_time`) given the means of full windows and the most KV, prompt tokens and sequences
that they let together into a batch: then every queue falls whenever it is long, which is proved, whatever arrives when.

**Design.** Given a target t for the rates take, type by type, the rational at least t_j of least KV bound (with a cap:
of the least share of C or of B, whichever is larger; the best for one type, a rule of thumb for several); if balance
fails, raise the targets to lambda Delta(x) (several lines: lambda T, T the root of T = f^(lambda T)) and try again.
Start at t = s n* with s = 1, which decides feasibility, then take the largest s whose bounds still fit C and B: a wider
window never makes a prompt wait longer, and the memory is there. A mix of more than a few dozen types (a trace) gets
one window, since a window of its own costs each type at least its largest KV, whatever its rate.

**Gates.** Without a gate a prompt enters as soon as its window allows: no delay at low load. With a gate a type enters
only as a full cohort of N: batches change N prompts at a time, which costs (N - 1)/(2 lambda) of waiting and is right
only where whole cohorts are wanted (lockstep batches, prefix sharing inside a cohort). Source: mathematics, sections
4.4 and 4.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import brentq

from fluid import Equilibrium, Replica, Workload, solve
from fluid.arrays import TOLERANCE, Floats, at_most, finite_sum
from thresholds.guarantees import OnEveryPath, batch_time, beside_a_prefill, mean_batch
from thresholds.mean_time import Batch, longest_mean
from thresholds.paced_wait.entry_windows import EntryWindow
from thresholds.paced_wait.window_bounds import fullest_batch, window_bound, window_sequences, windows_of, windows_told
from thresholds.policies import PacedPolicy

MOST_WINDOWS = 24
ROUNDS = 60


@dataclass(frozen=True, repr=False)
class PacedDesign(OnEveryPath, PacedPolicy):
    """Entry windows for known output lengths, and what they guarantee; made by `paced`.

    `entries` and `iterations` (empty where rho >= 1) hold one pair per type, or one for the whole mix. If feasible,
    resident KV never exceeds `kv_required`, no batch has more than `sequences`, so that a cap on them never makes a
    prompt wait, and nothing is evicted, on every path of arrivals.
    """

    def _details(self) -> dict[str, Any]:
        return {"fluid_share": self.fluid_share, "types": windows_told(self, self.equilibrium)}

    @cached_property
    def rates(self) -> Floats:
        """N_j/g_j, prompts of each type that may enter per iteration (of the mix, in proportion to the rates)."""
        share = np.array(self.entries, dtype=np.float64) / np.array(self.iterations, dtype=np.float64)
        rates = self.equilibrium.workload.rates
        return share * (rates / rates.sum()) if len(share) == 1 else share

    @cached_property
    def kv_base(self) -> float | None:
        """sum_j (N_j/g_j) w_j, the KV tokens that residents hold on average while the windows are always full."""
        return finite_sum(self.rates * self.equilibrium.profile.kv_work) if self.entries else None

    @cached_property
    def kv_required(self) -> int | None:
        """The most KV tokens residents can hold, over all phases of the windows."""
        return window_bound(self, self.equilibrium) if self.entries else None

    @cached_property
    def sequences(self) -> int | None:
        """The most sequences in a batch, over all phases of the windows."""
        return window_sequences(self, self.equilibrium) if self.entries else None

    @cached_property
    def tokens(self) -> float | None:
        """sum_j (N_j/g_j) t_j, the tokens of an iteration on average while the windows are always full."""
        return finite_sum(self.rates * self.equilibrium.profile.tokens) if self.entries else None

    @cached_property
    def iteration_time(self) -> float | None:
        """Delta(N/g), seconds: the fluid iteration time while the windows are always full."""
        return batch_time(self.equilibrium, self.rates) if self.entries else None

    @cached_property
    def longest_iteration_time(self) -> float | None:
        """f^(N/g), seconds: iterations take no longer on average, whatever arrives when."""
        if not self.entries:
            return None
        return longest_mean(self.equilibrium.replica.iteration_time, mean_batch(self.equilibrium, self.rates),
                            self.fullest)

    @cached_property
    def fullest(self) -> Batch:
        """The most KV read, prompt tokens and sequences that the windows let together into a batch."""
        return fullest_batch(self, self.equilibrium)

    @property
    def balanced(self) -> bool:
        """Whether the windows carry the offered load: lambda_j f^(N/g) < N_j/g_j; where they are equal queues grow."""
        time = self.longest_iteration_time
        return time is not None and _carries(self.equilibrium, self.rates, time)

    @property
    def feasible(self) -> bool:
        """Whether the windows carry the offered load inside C, and inside what the engine takes into a batch."""
        return super().feasible and self.equilibrium.limit is None and self.balanced and self.prefills_fit

    @property
    def prefills_fit(self) -> bool:
        """Whether the largest first chunk fits the budget of tokens beside the sequences of a mean batch."""
        return at_most(finite_sum(self.rates * self.equilibrium.profile.stages), beside_a_prefill(self.equilibrium))

    @cached_property
    def max_rate_scale(self) -> float:
        """The largest factor on all rates at which windows, designed anew, are feasible; 0 if none."""
        return largest_scale(self.equilibrium, 1e-9)

    @property
    def fluid_share(self) -> float:
        """The share of the fluid limit that windows can carry: max_rate_scale over that of the equilibrium."""
        edge = self.equilibrium.max_rate_scale
        return self.max_rate_scale / edge if edge else 0.0

    @property
    def reason(self) -> str:
        """One sentence: the guarantee, or what is missing."""
        if self.kv_required is None or not self.equilibrium.stable:
            return self.equilibrium.reason
        if self.feasible:
            return (f"feasible: residents never hold more than {self.kv_required:,} of {self.kv_capacity:,} KV tokens"
                    f"{self.places}, nothing is evicted; feasible up to {self.max_rate_scale:.4g} of these rates, "
                    f"{self.fluid_share:.1%} of the fluid limit")
        excess = self.kv_required - self.kv_capacity
        missing = (f"windows that carry this load need {self.kv_required:,} KV tokens, {excess:,} more than the "
                   "replica has")
        if not self.balanced:
            missing = "no windows are proved to carry this load"
        elif self.kv_suffices and self.lacks:
            missing = f"windows that carry this load let {self.lacks}"
        elif self.kv_suffices and not self.prefills_fit:
            missing = (f"the longest prefill does not fit beside the batches of this load into "
                       f"{self.equilibrium.replica.max_num_batched_tokens:,} tokens (max_num_batched_tokens); give "
                       "prefill as chunks, { chunk = ... }")
        return f"infeasible: {missing}; feasible up to {self.max_rate_scale:.4g} of these rates"


def design_known(workload: Workload, replica: Replica, gate: bool = False) -> PacedDesign:
    """Return the widest windows that carry the load and fit the KV cache C (and the cap), output lengths being known.

    Infeasible is an answer (`feasible`, `reason`), not an error. Source: mathematics, section 4.5.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.01e-7))
    >>> design = design_known(Workload([PromptType(512, 1000, 2.0)]), replica)
    >>> design.feasible, design.kv_required <= 137_000
    (True, True)
    """
    return known_at(solve(workload, replica), gate)


def known_at(equilibrium: Equilibrium, gate: bool) -> PacedDesign:
    """Return the design of `design_known` for an equilibrium that is solved already."""
    least = _designed(equilibrium, 1.0, gate)
    return _widest(least) if least.feasible else least


def largest_scale(equilibrium: Equilibrium, precision: float) -> float:
    """Return a factor on all rates at which windows are feasible, the largest but for a share of the fluid edge."""
    low, high, edge = 0.0, equilibrium.max_rate_scale, equilibrium.max_rate_scale
    windows = _lanes(equilibrium)
    while high - low > precision * edge:
        middle = low + 0.5 * (high - low)
        if _fits(equilibrium.scaled(middle), windows):
            low = middle
        else:
            high = middle
    return low


def _widest(least: PacedDesign) -> PacedDesign:
    """The design of the largest s n* that fits: bisection on s, keeping the best that does."""
    best, low, high = least, 1.0, 2.0
    while high < 2**20 and (wider := _designed(least.equilibrium, high, least.gate)).feasible:
        best, low, high = wider, high, 2 * high
    for _ in range(30):
        middle = 0.5 * (low + high)
        wider = _designed(least.equilibrium, middle, least.gate)
        if wider.feasible:
            best, low = wider, middle
        else:
            high = middle
    return best


def _designed(equilibrium: Equilibrium, widening: float, gate: bool) -> PacedDesign:
    """The windows of least KV bound whose rates are at least `widening` n* and balanced."""
    design = PacedDesign((), (), gate, equilibrium=equilibrium)
    for tried in _tried(equilibrium, widening, gate, _lanes(equilibrium)):
        design = tried
        if design.balanced:
            break
    return design


def _fits(equilibrium: Equilibrium, windows: Sequence[EntryWindow]) -> bool:
    """Whether some windows are feasible; without a cap what they hold only grows from one try to the next."""
    for design in _tried(equilibrium, 1.0, False, windows):
        if design.balanced:
            return design.feasible
        if equilibrium.replica.max_num_seqs is None and (design.kv_required or 0) > equilibrium.kv_capacity:
            return False
    return False


def _tried(equilibrium: Equilibrium, widening: float, gate: bool,
           windows: Sequence[EntryWindow]) -> Iterator[PacedDesign]:
    """Windows for higher and higher targets, until they balance."""
    if equilibrium.inventory is None:
        return
    target, pairs = widening * equilibrium.inventory, [(0, 1)] * len(windows)
    for _ in range(ROUNDS):
        goals = target.tolist() if len(windows) > 1 else [float(target.sum())]
        pairs = [pair if goal <= pair[0] / pair[1] else window.least(goal, equilibrium.replica)
                 for window, goal, pair in zip(windows, goals, pairs, strict=True)]  # least of more: least of fewer
        design = PacedDesign(tuple(n for n, _ in pairs), tuple(g for _, g in pairs), gate, equilibrium=equilibrium)
        yield design
        target = np.maximum(target, equilibrium.workload.rates * _root(design)) * (1 + 4 * TOLERANCE)  # to pass it


def _lanes(equilibrium: Equilibrium) -> Sequence[EntryWindow]:
    """A window for each type, or one for a mix of more than a few dozen."""
    return windows_of(equilibrium, len(equilibrium.workload) if len(equilibrium.workload) <= MOST_WINDOWS else 1)


def _root(design: PacedDesign) -> float:
    """The least t = f^(lambda t), or f^ of the windows where they are too small to have one."""
    equilibrium, time = design.equilibrium, design.longest_iteration_time or 0.0
    lines, least = equilibrium.replica.iteration_time, equilibrium.iteration_time or 0.0
    if len(lines.pieces) == 1:
        return time
    each = np.array(mean_batch(equilibrium, equilibrium.workload.rates))

    def beyond(t: float) -> float:
        return longest_mean(lines, Batch(*(t * each)), design.fullest) - t

    if beyond(time) <= 0.0:
        return time
    if beyond(least) <= 0.0:  # by rounding: no mean is below that of the equilibrium
        return max(time, least)
    high = 2.0 * time
    while beyond(high) > 0.0:
        high *= 2.0
    return max(time, float(brentq(beyond, least, high, rtol=1e-9)))


def _carries(equilibrium: Equilibrium, entries: Floats, time: float) -> bool:
    return bool(np.all(equilibrium.workload.rates * time < entries * (1 - TOLERANCE)))
