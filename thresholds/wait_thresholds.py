r"""WAIT thresholds for known output lengths: the least integers that keep load balance.

Let n range over vectors of positive integers, with the iteration time of a threshold-sized batch

    Delta(n) = max_i [ a_i + sum_j n_j c_ij ]        M^pi(n) = sum_j n_j w_j

[A, Theorem 1] asks of the thresholds, and an engine that runs at most B sequences together asks besides,

    load balance   lambda_j Delta(n) <= n_j   for every j
    memory         M^pi(n) <= C
    sequences      sum_j n_j S_j <= B

There are some if and only if rho < 1, and then a least vector n0 (`thresholds.load_balance`), which is best in all that
grows with n: WAIT at integer thresholds is feasible if and only if M^pi(n0) <= C and n0 . S <= B.

**Slack.** With a slack of epsilon the same is asked at (1 + epsilon) lambda: (1 + epsilon) lambda_j Delta(n) <= n_j.
Then load balance is strict, the throughput gap is O((zeta T)^-1) and delays are O(1) [A, Theorem 1]. At lambda_j =
n_j/Delta(n) (`balanced_rates`) it is an equality for every type: the boundary, where the gap is O((zeta T)^-1/2).

**Rates that change.** Let type j arrive at lambda_j(t) <= Lambda_j. A batch takes at most Delta(n), and during one,
whatever went before, at most Poisson(Lambda_j Delta(n)) prompts of type j come, so that its entry queue lies below the
walk Q' = (Q + Poisson(Lambda_j Delta(n)) - n_j)^+, n_j and what comes in a batch added. So all that the theorem says of
constant rates holds where load balance does at the largest rates, Lambda_j Delta(n) <= n_j. At the mean rates it is not
enough: in each window above them the queue grows with the window's length, as the backlog of `fluid.varying_rates`.
Derived here; [A] has a theorem for rates that change, whose conditions were not open to us.

**Sharp stability.** With one line, or one type, WAIT is stable if and only if n_j > n_j* for every j; floor(n*) + 1 are
the least such integers. They can lie well below n0: real batches hold only the types that are eligible. With several of
both that is not true, as batches of different types may be bound by different lines: of thresholds that keep load
balance strictly, (1 + 1e-6) lambda_j Delta(n) <= n_j, stability is proved, because no batch takes longer than Delta(n).
Source: mathematics, sections 3.2 to 3.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fluid import Equilibrium, Replica, Workload, solve
from fluid.arrays import TOLERANCE, Floats, Ints, at_most, below_one
from fluid.bounds.program import undominated
from fluid.errors import InputError, real
from thresholds.guarantees import OnEveryPath, batch_time
from thresholds.load_balance import Balance
from thresholds.policies import WaitPolicy

MOST_PROMPTS = 2**52
STRICT = 1e-6  # of the rates: the slack that makes load balance strict


@dataclass(frozen=True, repr=False)
class WaitDesign(OnEveryPath, WaitPolicy):
    """The least integer WAIT thresholds of a workload on a replica, and what they guarantee; made by `wait`.

    `thresholds` n0 (empty where rho >= 1: there are none, or none below 2^52) satisfy load balance: if M^pi <= C the
    resident KV never exceeds M^pi, nothing is evicted, and the throughput gap vanishes [A, Theorem 1]. No batch has
    more than `sequences`, since every stage holds n_j prompts or none.
    `stable_thresholds` are the least that are proved to be stable: the queues stay bounded, no more is promised; with
    one line or type floor(n*) + 1.
    `margin` is the slack that was asked for: the share by which all rates can grow before balance is lost, at least.
    """

    margin: float = field(default=0.0, kw_only=True)

    def columns(self) -> dict[str, Sequence[object] | Floats]:
        """The types: threshold, equilibrium, slack in prompts, least stable threshold; no rows where there are none."""
        if self.slack is None:
            return dict.fromkeys(("type", "threshold n", "n*", "slack, prompts", "least stable"), ())
        return {"type": self.equilibrium.workload.names, "threshold n": self.thresholds,
                "n*": self.equilibrium.inventory if self.equilibrium.inventory is not None else (),
                "slack, prompts": self.slack,
                "least stable": self.stable_thresholds or (None,) * len(self.thresholds)}

    def _details(self) -> dict[str, Any]:
        workload = self.equilibrium.workload
        nothing = (None,) * len(workload)
        rows = zip(workload.names, self.thresholds or nothing, self.stable_thresholds or nothing,
                   nothing if self.slack is None else self.slack, strict=True)
        keys = ("name", "threshold", "stable_threshold", "slack")
        return {"stable_kv_required": self.stable_kv_required,
                "types": [dict(zip(keys, row, strict=True)) for row in rows]}

    @property
    def _counts(self) -> Floats:
        return np.array(self.thresholds, dtype=np.float64)

    @cached_property
    def kv_required(self) -> int | None:
        """M^pi = sum_j n_j w_j, tokens: the most KV that residents ever hold."""
        return self.equilibrium.profile.whole_held(self._counts) if self.thresholds else None

    @cached_property
    def sequences(self) -> int | None:
        """sum_j n_j S_j, the most sequences in a batch."""
        return int(self._counts @ self.equilibrium.profile.stages) if self.thresholds else None

    @cached_property
    def tokens(self) -> int | None:
        """sum_j n_j t_j, the most tokens in an iteration."""
        return int(self._counts @ self.equilibrium.profile.tokens) if self.thresholds else None

    @property
    def kv_base(self) -> int | None:
        """M^pi, tokens: all of it is base, nothing is left to chance."""
        return self.kv_required

    @cached_property
    def iteration_time(self) -> float | None:
        """Delta(n), seconds: an iteration that serves every type."""
        return batch_time(self.equilibrium, self._counts) if self.thresholds else None

    @cached_property
    def slack(self) -> Floats | None:
        """n_j - lambda_j Delta(n), prompts: the room each type has left, at least 0."""
        if self.iteration_time is None:
            return None
        return self._counts - self.equilibrium.workload.rates * self.iteration_time

    @property
    def drains(self) -> bool:
        """n_j > n_j* for every j (where that is not sharp, n_j > lambda_j Delta(n)): delays are proved to be bounded.

        Else, with one line or type, n = n*, and they grow with the square root of time.
        """
        if self.equilibrium.inventory is None or self.iteration_time is None:
            return False
        sharp = len(undominated(self.equilibrium.replica.iteration_time.coefficients)) == 1
        needed = self.equilibrium.inventory if sharp else self.equilibrium.workload.rates * self.iteration_time
        return bool(np.all(self._counts > needed + TOLERANCE * np.maximum(1.0, needed)))

    @cached_property
    def stable_thresholds(self) -> tuple[int, ...]:
        """The least thresholds proved to be stable: floor(n_j*) + 1 with one line or type, else of strict load
        balance; empty where there are none."""
        inventory = self.equilibrium.inventory
        lines = undominated(self.equilibrium.replica.iteration_time.coefficients)
        if len(lines) > 1 and len(self.equilibrium.workload) > 1:
            return least_balanced(self.equilibrium, STRICT)
        return () if inventory is None or inventory.max() > MOST_PROMPTS else _least_above(inventory)

    @cached_property
    def stable_kv_required(self) -> int | None:
        """sum_j n_j w_j of the least stable thresholds, tokens."""
        stable = np.array(self.stable_thresholds, dtype=np.float64)
        return self.equilibrium.profile.whole_held(stable) if self.stable_thresholds else None

    @cached_property
    def max_rate_scale(self) -> float:
        """The largest factor on all rates at which the least integer thresholds still fit C and the cap; 0 if none."""
        return _largest_scale(self.equilibrium) / (1 + self.margin)

    @property
    def reason(self) -> str:
        """One sentence: what the thresholds guarantee, or which type needs how many tokens or places too many."""
        if self.kv_required is None and self.equilibrium.stable:
            load = self.equilibrium.load * (1 + self.margin)
            why = f"they would pass {MOST_PROMPTS:,} prompts" if below_one(load) else f"the load would be {load:.4g}"
            return f"infeasible: no thresholds have a slack of {self.margin:.4g}; with so much more traffic {why}"
        if self.kv_required is None or not self.equilibrium.stable:
            return self.equilibrium.reason
        if self.feasible:
            return (f"feasible: residents never hold more than {self.kv_required:,} of {self.kv_capacity:,} KV tokens"
                    f"{self.places}, nothing is evicted; feasible up to {self.max_rate_scale:.4g} of these rates"
                    + ("" if self.drains else "; without slack: delays grow with the square root of time"))
        profile = self.equilibrium.profile
        if self.kv_suffices and self.places_suffice:
            budget = self.equilibrium.replica.most_tokens
            return self._too_much(profile.tokens, "tokens in an iteration",
                                  f"takes (max_num_batched_tokens {budget:,})", budget)
        if self.kv_suffices:
            cap = self.equilibrium.replica.most_sequences
            return self._too_much(profile.stages, "sequences in a batch", f"takes (max_num_seqs {cap:,})", cap)
        return self._too_much(profile.kv_work, "KV tokens", "has", self.kv_capacity)

    def _too_much(self, each: Ints | Floats, unit: str, has: str, most: float) -> str:
        held = np.ceil(self._counts * each).astype(np.int64)
        j, needed = int(np.argmax(held)), int(held.sum())
        return (f"infeasible: whole thresholds need {needed:,} {unit}, {needed - most:,} "
                f'more than the replica {has}; type "{self.equilibrium.workload.names[j]}" alone takes {held[j]:,} '
                f"({self.thresholds[j]} in each of {self.equilibrium.profile.stages[j]:,} stages)")


def wait(workload: Workload, replica: Replica, *, slack: float = 0.0) -> WaitDesign:
    """Return the least integer thresholds n with (1 + slack) lambda_j Delta(n) <= n_j for every type j.

    `slack` is a share of the rates, at least 0. Infeasible is an answer (`feasible`, `reason`), not an error;
    InputError for a slack that cannot be used. Source: mathematics, sections 3.4 and 3.7 and the module's proof.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=9, iteration_time=IterationTime(overhead=0.1, per_kv_token=0.1))
    >>> wait(Workload([PromptType(1, 1, 1.0), PromptType(1, 2, 1.0)]), replica).thresholds
    (1, 1)
    """
    return wait_at(solve(workload, replica), real("slack", slack, "wait", unit="the rates", zero=True))


def wait_at(equilibrium: Equilibrium, slack: float = 0.0) -> WaitDesign:
    """Return the design of `wait` for an equilibrium that is solved already."""
    return WaitDesign(least_balanced(equilibrium, slack), equilibrium=equilibrium, margin=slack)


def least_balanced(equilibrium: Equilibrium, slack: float = 0.0) -> tuple[int, ...]:
    """Return n0, the least integer thresholds of load balance with a slack; empty where (1 + slack) rho >= 1."""
    balance = Balance.of(equilibrium, 1.0 + slack)
    inventory = balance.inventory
    if inventory is None or inventory.max() > MOST_PROMPTS:
        return ()
    return tuple(int(n) for n in balance.least(inventory))


def balanced_rates(policy: WaitPolicy, workload: Workload, replica: Replica, *, slack: float = 0.0) -> Workload:
    """Return the same types at the rates lambda_j = n_j / ((1 + slack) Delta(n)) that thresholds n balance.

    With `slack` 0 that is the boundary of load balance: n is the equilibrium n* of these rates. Raises InputError
    unless the policy is WAIT with a threshold for each type.

    >>> from fluid import IterationTime, PromptType, solve
    >>> replica = Replica(kv_capacity=9, iteration_time=IterationTime(overhead=0.1, per_kv_token=0.1))
    >>> there = balanced_rates(WaitPolicy((1, 1)), Workload([PromptType(1, 1, 9.0), PromptType(1, 2, 5.0)]), replica)
    >>> solve(there, replica).inventory.round(12).tolist(), there.rates.round(12).tolist()
    ([1.0, 1.0], [1.0, 1.0])
    """
    share = real("slack", slack, "balanced_rates", unit="the rates", zero=True)
    if not isinstance(policy, WaitPolicy):
        raise InputError("policy", "a WaitPolicy", policy, "balanced_rates")
    if len(policy.thresholds) != len(workload):
        raise InputError("thresholds", f"{len(workload)} numbers, one for each prompt type", policy.thresholds,
                         "balanced_rates")
    counts = np.array(policy.thresholds, dtype=np.float64)
    return workload.at_rates(counts / ((1 + share) * batch_time(solve(workload, replica), counts)))


def _least_above(values: Floats) -> tuple[int, ...]:
    """floor(x) + 1 of each value, a number within rounding of an integer counting as that integer."""
    return tuple((np.floor(values + TOLERANCE * np.maximum(1.0, values)) + 1).astype(np.int64).tolist())


def _largest_scale(equilibrium: Equilibrium) -> float:
    """sup of the factors f with M^pi(n0(f)) <= C, n0(f) . S <= B and n0(f) . t <= q: all increase in f, so bisect.

    At a feasible f the same n0 serves up to min_j n_j / (lambda_j Delta(n)), which makes the lower end exact.
    """
    profile, replica = equilibrium.profile, equilibrium.replica
    needs = np.stack([profile.kv_work / replica.kv_capacity, profile.stages / replica.most_sequences,
                      profile.tokens / replica.most_tokens])
    high = equilibrium.max_rate_scale
    if high == 0 or not _suffices(equilibrium, np.ones(len(profile.stages))):
        return 0.0
    low = _serves_up_to(equilibrium, np.ones(len(profile.stages)))
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        balance = Balance.of(equilibrium, middle)
        start = balance.inventory
        counts = np.full(len(balance.rates), np.inf) if start is None else balance.least(start, needs)
        if _suffices(equilibrium, counts):
            low = max(middle, _serves_up_to(equilibrium, counts))
        else:
            high = middle
    return low


def _suffices(equilibrium: Equilibrium, counts: Floats) -> bool:
    """M^pi <= C, n . S <= B and n . t <= q."""
    profile, replica = equilibrium.profile, equilibrium.replica
    return bool(np.isfinite(counts).all()) and (
        at_most(profile.whole_held(counts), replica.kv_capacity)
        and at_most(int(counts @ profile.stages), replica.most_sequences)
        and at_most(int(counts @ profile.tokens), replica.most_tokens))


def _serves_up_to(equilibrium: Equilibrium, counts: Floats) -> float:
    return float(np.min(counts / equilibrium.workload.rates) / batch_time(equilibrium, counts))
