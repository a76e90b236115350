r"""Paced WAIT: rational thresholds N_j/g_j for a real GPU, residents never paused.

With x_j = N_j/g_j entries per iteration at most, Delta(x) = max_i [ a_i + sum_j x_j c_ij ], ask

    balance     lambda_j Delta(x) <= x_j   for every j      the windows carry the offered load
    memory      sum_j kv_bound_j(N_j, g_j) <= C             exact over all phases: `thresholds.paced_wait.entry_windows`
    sequences   sum_j N_j ceil(S_j / g_j) <= B              where the engine caps them: then nobody waits for a place
    tokens      sum_j x_j (l_j + o_j) <= q                  on average, where it has a budget: a prompt may wait for one

For one type balance is x >= n*; the window then serves more than arrives. For several the real solutions of balance
have n* as their least point. Where the iteration time is the largest of several lines Delta(x) is the largest of their
means, a little below the mean of the largest: balance then holds in the fluid model only; memory and sequences stay
certain.

**Design.** Given a target t for the rates take, type by type, the rational at least t_j of least KV bound (with a cap:
of the least share of C or of B, whichever is larger; the best for one type, a rule of thumb for several); if balance
fails, raise the targets to lambda Delta(x) and try again. Start at t = s n* with s = 1, which decides feasibility, then
take the largest s whose bounds still fit C and B: a wider window never makes a prompt wait longer, and the memory is
there. A mix of more than a few dozen types (a trace) gets one window, since a window of its own costs each
type at least its largest KV, whatever its rate.

**Gates.** Without a gate a prompt enters as soon as its window allows: no delay at low load. With a gate a type enters
only as a full cohort of N: batches change N prompts at a time, which costs (N - 1)/(2 lambda) of waiting and is right
only where whole cohorts are wanted (lockstep batches, prefix sharing inside a cohort). Source: model.md section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluid import Equilibrium, Replica, Workload, solve
from fluid.arrays import Floats, at_most, finite_sum
from thresholds.guarantees import OnEveryPath, batch_time
from thresholds.paced_wait.entry_windows import EntryWindow, residents
from thresholds.policies import NestedWaitPolicy, PacedPolicy, WaitPolicy

MOST_WINDOWS = 24
ROUNDS = 60


@dataclass(frozen=True)
class PacedDesign(OnEveryPath, PacedPolicy):
    """Entry windows for known output lengths, and what they guarantee; made by `paced`.

    `entries` and `iterations` (empty where rho >= 1) hold one pair per type, or one for the whole mix. If feasible,
    resident KV never exceeds `kv_required`, no batch has more than `sequences`, so that a cap on them never makes a
    prompt wait, and nothing is evicted, on every path of arrivals.
    """

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
        return _window_bound(self, self.equilibrium) if self.entries else None

    @cached_property
    def sequences(self) -> int | None:
        """The most sequences in a batch, over all phases of the windows."""
        return _window_sequences(self, self.equilibrium) if self.entries else None

    @cached_property
    def tokens(self) -> float | None:
        """sum_j (N_j/g_j) t_j, the tokens of an iteration on average while the windows are always full."""
        return finite_sum(self.rates * self.equilibrium.profile.tokens) if self.entries else None

    @cached_property
    def iteration_time(self) -> float | None:
        """Delta(N/g), seconds: the fluid iteration time while the windows are always full."""
        return batch_time(self.equilibrium, self.rates) if self.entries else None

    @property
    def balanced(self) -> bool:
        """Whether the windows carry the offered load: lambda_j Delta(N/g) <= N_j/g_j."""
        return bool(self.entries) and _carries(self.equilibrium, self.rates)

    @property
    def feasible(self) -> bool:
        """Whether the windows carry the offered load inside C, and inside what the engine takes into a batch."""
        return super().feasible and self.equilibrium.limit is None and self.balanced

    @cached_property
    def max_rate_scale(self) -> float:
        """The largest factor on all rates at which windows, designed anew, are feasible; 0 if none."""
        low, high = 0.0, self.equilibrium.max_rate_scale
        for _ in range(ROUNDS):
            if high - low <= 1e-9 * self.equilibrium.max_rate_scale:
                break
            middle = 0.5 * (low + high)
            if _designed(_scaled(self.equilibrium, middle), 1.0, self.gate).feasible:
                low = middle
            else:
                high = middle
        return low

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
        missing = f"need {self.kv_required:,} KV tokens, {excess:,} more than the replica has"
        if self.kv_suffices and self.lacks:
            missing = f"let {self.lacks}"
        return (f"infeasible: windows that carry this load {missing}; "
                f"feasible up to {self.max_rate_scale:.4g} of these rates")


def kv_bound(policy: object, equilibrium: Equilibrium) -> float | None:
    """Return the KV tokens residents can hold under a policy on any path; None for policies without such a bound.

    WAIT: M^pi = sum_j n_j w_j. Paced: the bound of its windows. (Nested WAIT bounds its queues only in probability.)
    """
    if isinstance(policy, WaitPolicy):
        return float(equilibrium.profile.whole_held(np.array(policy.thresholds, dtype=np.float64)))
    if isinstance(policy, PacedPolicy):
        return float(_window_bound(policy, equilibrium))
    return None


def sequence_bound(policy: object, equilibrium: Equilibrium) -> int | None:
    """Return the sequences that a batch can have under a policy on any path; None for policies without such a bound.

    WAIT: sum_j n_j S_j. Paced: sum_j N_j ceil(S_j/g_j). Nested WAIT: n_k in each stage of segment k.
    """
    profile = equilibrium.profile
    if isinstance(policy, WaitPolicy):
        return int(np.array(policy.thresholds) @ profile.stages)
    if isinstance(policy, PacedPolicy):
        return _window_sequences(policy, equilibrium)
    if isinstance(policy, NestedWaitPolicy):
        widths = np.diff(policy.boundaries, prepend=-int(profile.prefill_stages[0]))
        return int(np.array(policy.thresholds) @ widths)
    return None


def _window_sequences(policy: PacedPolicy, equilibrium: Equilibrium) -> int:
    stages = equilibrium.profile.stages
    lives = stages.tolist() if len(policy.entries) > 1 else [int(stages.max())]
    return sum(residents(n, g, life) for n, g, life in zip(policy.entries, policy.iterations, lives, strict=True))


def _window_bound(policy: PacedPolicy, equilibrium: Equilibrium) -> int:
    pairs = zip(_windows(equilibrium, len(policy.entries)), policy.entries, policy.iterations, strict=True)
    return int(equilibrium.profile.layout.whole(sum(window.kv_bound(n, g) for window, n, g in pairs)))


def design_known(workload: Workload, replica: Replica, gate: bool = False) -> PacedDesign:
    """Return the widest windows that carry the load and fit the KV cache C (and the cap), output lengths being known.

    Infeasible is an answer (`feasible`, `reason`), not an error. Source: model.md section 4.

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
    if equilibrium.inventory is None:
        return PacedDesign((), (), gate, equilibrium=equilibrium)
    lanes = len(equilibrium.workload) if len(equilibrium.workload) <= MOST_WINDOWS else 1
    windows = _windows(equilibrium, lanes)
    design, target = None, widening * equilibrium.inventory
    for _ in range(ROUNDS):
        goals = target if lanes > 1 else [float(target.sum())]
        pairs = [window.least(goal, equilibrium.replica) for window, goal in zip(windows, goals, strict=True)]
        design = PacedDesign(tuple(n for n, _ in pairs), tuple(g for _, g in pairs), gate, equilibrium=equilibrium)
        if design.balanced:
            return design
        target = np.maximum(target, equilibrium.workload.rates * batch_time(equilibrium, design.rates))
    return design if design is not None else PacedDesign((), (), gate, equilibrium=equilibrium)


def _windows(equilibrium: Equilibrium, lanes: int) -> Sequence[EntryWindow]:
    if lanes == 1 and len(equilibrium.workload) > 1:
        return [EntryWindow.of_mix(equilibrium.profile, equilibrium.workload.rates)]
    return [EntryWindow.of_type(equilibrium.profile, j) for j in range(lanes)]


def _carries(equilibrium: Equilibrium, entries: Floats) -> bool:
    needed = equilibrium.workload.rates * batch_time(equilibrium, entries)
    return all(at_most(need, have) for need, have in zip(needed.tolist(), entries.tolist(), strict=True))


def _scaled(equilibrium: Equilibrium, factor: float) -> Equilibrium:
    return solve(equilibrium.workload.scaled(factor), equilibrium.replica)
