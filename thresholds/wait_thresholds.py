r"""WAIT thresholds for known output lengths: the least integers that keep load balance.

Let n range over vectors of positive integers, with the iteration time of a threshold-sized batch

    Delta(n) = max_i [ a_i + sum_j n_j c_ij ]        M^pi(n) = sum_j n_j w_j

[A, Theorem 1] asks of the thresholds, and an engine that runs at most B sequences together asks besides,

    load balance   lambda_j Delta(n) <= n_j   for every j
    memory         M^pi(n) <= C
    sequences      sum_j n_j S_j <= B

**Least element.** Put F_j(n) = max(1, ceil(lambda_j Delta(n))); load balance is F(n) <= n. Delta is monotone, so F is.
If n and m are balanced, so is their componentwise minimum: F(min(n, m)) <= min(F(n), F(m)) <= min(n, m). The positive
integers bounded below have no infinite descent, so, if any balanced vector exists, there is a least one, n0. It is a
fixed point: F(n0) <= n0 is balanced itself (F(F(n0)) <= F(n0)), so it cannot be smaller. Every objective that is
increasing in n, M^pi, the sequences and Delta among them, is least at n0: WAIT at integer thresholds is feasible if and
only if M^pi(n0) <= C and n0 . S <= B. The same holds of real thresholds, whose least point is n*: there are some if and
only if the equilibrium is stable. If rho < 1 a balanced vector exists: with n = ceil(lambda t), Delta(n) <=
max_i (a_i + rho_i t + sum_j c_ij), which is at most t for t large. If rho >= 1 none does, since Delta(n) >=
a_i + rho_i Delta(n) for every i.

**Jumps.** Iterating F from the real n* = lambda Delta* climbs to n0 (each iterate is a lower bound of n0, by
induction) but takes thousands of steps as rho -> 1. Given a lower bound k of n0, every balanced n >= k has
n_j >= max(k_j, lambda_j Delta(n)), so Delta(n) >= t where t is the least root of

    t = max_i [ a_i + sum_j c_ij max(k_j, lambda_j t) ]

whose right side is convex and piecewise linear: Newton from the left is monotone and stops after finitely many
steps. Then k' = max(k, ceil(lambda t)) is a better lower bound; when Delta(k) keeps k balanced, k = n0.

**Rounding.** A number that should be an integer may come out one ulp above it; ceil is taken as
ceil(x - 1e-9 max(1, x)).

**Sharp stability.** WAIT is stable if and only if n_j > n_j* for every j; floor(n*) + 1 are the least such integers.
They can lie well below n0: real batches hold only the types that are eligible. Source: model.md section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluid import Equilibrium, Replica, Workload, solve
from fluid.arrays import TOLERANCE, Floats, Ints, at_most
from fluid.compiled import jit
from thresholds.guarantees import OnEveryPath, batch_time
from thresholds.policies import WaitPolicy

MOST_PROMPTS = 2**52


@dataclass(frozen=True)
class WaitDesign(OnEveryPath, WaitPolicy):
    """The least integer WAIT thresholds of a workload on a replica, and what they guarantee; made by `wait`.

    `thresholds` n0 (empty where rho >= 1: there are none, or none below 2^52) satisfy load balance: if M^pi <= C the
    resident KV never exceeds M^pi, nothing is evicted, and the throughput gap vanishes [A, Theorem 1]. No batch has
    more than `sequences`, since every stage holds n_j prompts or none.
    `stable_thresholds` floor(n*) + 1 are the least that are stable: the queues stay bounded, no more is promised.
    """

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

    @cached_property
    def stable_thresholds(self) -> tuple[int, ...]:
        """floor(n_j*) + 1, the least stable thresholds; empty where rho >= 1."""
        inventory = self.equilibrium.inventory
        return () if inventory is None or inventory.max() > MOST_PROMPTS else _least_above(inventory)

    @cached_property
    def stable_kv_required(self) -> int | None:
        """sum_j (floor(n_j*) + 1) w_j, tokens."""
        stable = np.array(self.stable_thresholds, dtype=np.float64)
        return self.equilibrium.profile.whole_held(stable) if self.stable_thresholds else None

    @cached_property
    def max_rate_scale(self) -> float:
        """The largest factor on all rates at which the least integer thresholds still fit C and the cap; 0 if none."""
        return _largest_scale(self.equilibrium)

    @property
    def reason(self) -> str:
        """One sentence: what the thresholds guarantee, or which type needs how many tokens or places too many."""
        if self.kv_required is None or not self.equilibrium.stable:
            return self.equilibrium.reason
        if self.feasible:
            return (f"feasible: residents never hold more than {self.kv_required:,} of {self.kv_capacity:,} KV tokens"
                    f"{self.places}, nothing is evicted; feasible up to {self.max_rate_scale:.4g} of these rates")
        profile = self.equilibrium.profile
        if at_most(self.kv_required, self.kv_capacity) and self.places_suffice:
            budget = self.equilibrium.replica.most_tokens
            return self._too_much(profile.tokens, "tokens in an iteration",
                                  f"takes (max_num_batched_tokens {budget:,})", budget)
        if at_most(self.kv_required, self.kv_capacity):
            cap = self.equilibrium.replica.most_sequences
            return self._too_much(profile.stages, "sequences in a batch", f"takes (max_num_seqs {cap:,})", cap)
        return self._too_much(profile.kv_work, "KV tokens", "has", self.kv_capacity)

    def _too_much(self, each: Ints | Floats, unit: str, has: str, most: float) -> str:
        held = np.ceil(self._counts * each).astype(np.int64)
        j, needed = int(np.argmax(held)), int(held.sum())
        return (f"infeasible: whole thresholds need {needed:,} {unit}, {needed - most:,} "
                f'more than the replica {has}; type "{self.equilibrium.workload.names[j]}" alone takes {held[j]:,} '
                f"({self.thresholds[j]} in each of {self.equilibrium.profile.stages[j]:,} stages)")


def wait(workload: Workload, replica: Replica) -> WaitDesign:
    """Return the least integer thresholds n with lambda_j Delta(n) <= n_j for every type j.

    Infeasible is an answer (`feasible`, `reason`), not an error. Source: model.md section 3 and the module's proof.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=9, iteration_time=IterationTime(overhead=0.1, per_kv_token=0.1))
    >>> wait(Workload([PromptType(1, 1, 1.0), PromptType(1, 2, 1.0)]), replica).thresholds
    (1, 1)
    """
    return wait_at(solve(workload, replica))


def wait_at(equilibrium: Equilibrium) -> WaitDesign:
    """Return the design of `wait` for an equilibrium that is solved already."""
    return WaitDesign(least_balanced(equilibrium), equilibrium=equilibrium)


def least_balanced(equilibrium: Equilibrium) -> tuple[int, ...]:
    """Return n0, the least integer thresholds of load balance; empty where rho >= 1."""
    inventory = equilibrium.inventory
    if inventory is None or inventory.max() > MOST_PROMPTS:
        return ()
    return tuple(int(n) for n in _Balance.of(equilibrium).least(inventory))


def _least_above(values: Floats) -> tuple[int, ...]:
    """floor(x) + 1 of each value, a number within rounding of an integer counting as that integer."""
    return tuple((np.floor(values + TOLERANCE * np.maximum(1.0, values)) + 1).astype(np.int64).tolist())


def _ceil(values: Floats) -> Floats:
    """Ceil, at least 1, a number within rounding above an integer counting as that integer."""
    return np.maximum(1.0, np.ceil(values - TOLERANCE * np.maximum(1.0, values)))


@dataclass(frozen=True, eq=False)
class _Balance:
    """Load balance of J types over I pieces: rates (J,), overheads a (I,), time work c (I, J)."""

    rates: Floats
    overheads: Floats
    time_work: Floats

    @classmethod
    def of(cls, equilibrium: Equilibrium, scale: float = 1.0) -> _Balance:
        iteration_time = equilibrium.replica.iteration_time
        return cls(equilibrium.workload.rates * scale, iteration_time.overheads,
                   equilibrium.profile.time_work(iteration_time))

    def least(self, start: Floats, needs: Floats | None = None) -> Floats:
        """Climb from a lower bound k of n0 to n0, or to any with a need beyond 1: `needs` (constraints, J) times k."""
        shares = np.zeros((1, len(self.rates))) if needs is None else needs
        return np.asarray(_climb(self.rates, self.overheads, self.time_work, _ceil(start), shares))


@jit
def _climb(rates: Floats, overheads: Floats, time_work: Floats, k: Floats, needs: Floats) -> Floats:
    """Jump and round until nothing moves; near saturation that takes some 1/(1 - rho) rounds, hence compiled."""
    while np.max(np.sum(needs * k, axis=1)) <= 1.0 + TOLERANCE:
        t = _time_at_least(rates, overheads, time_work, k)
        moved = False
        for j in range(len(k)):
            x = rates[j] * t
            up = np.ceil(x - TOLERANCE * max(1.0, x))
            if up > k[j]:
                k[j] = up
                moved = True
        if not moved:
            break
    return k


@jit
def _time_at_least(rates: Floats, overheads: Floats, time_work: Floats, k: Floats) -> float:
    """The least t = max_i (a_i + sum_j c_ij max(k_j, lambda_j t)), by Newton from the left."""
    t = 0.0
    while True:
        value, root = -1.0, t
        for i in range(len(overheads)):
            fixed, slope = overheads[i], 0.0
            for j in range(len(k)):
                if rates[j] * t > k[j]:
                    slope += time_work[i, j] * rates[j]
                else:
                    fixed += time_work[i, j] * k[j]
            if fixed + slope * t > value:
                value, root = fixed + slope * t, fixed / (1.0 - slope)
        if root <= t * (1 + 1e-15):
            return t
        t = root


def _largest_scale(equilibrium: Equilibrium) -> float:
    """sup of the factors f with M^pi(n0(f)) <= C, n0(f) . S <= B and n0(f) . t <= q: all increase in f, so bisect.

    At a feasible f the same n0 serves up to min_j n_j / (lambda_j Delta(n)), which makes the lower end exact.
    """
    profile, replica = equilibrium.profile, equilibrium.replica
    needs = np.stack([profile.kv_work / replica.kv_capacity, profile.stages / replica.most_sequences,
                      profile.tokens / replica.most_tokens])
    high = equilibrium.max_rate_scale
    if high == 0 or not at_most(float(needs.sum(axis=1).max()), 1.0):
        return 0.0
    low = _serves_up_to(equilibrium, np.ones(len(profile.stages)))
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        balance = _Balance.of(equilibrium, middle)
        loads = balance.time_work @ balance.rates
        start = balance.rates * np.max(balance.overheads / (1.0 - loads))
        counts = balance.least(start, needs)
        if at_most(float((needs @ counts).max()), 1.0):
            low = max(middle, _serves_up_to(equilibrium, counts))
        else:
            high = middle
    return low


def _serves_up_to(equilibrium: Equilibrium, counts: Floats) -> float:
    return float(np.min(counts / equilibrium.workload.rates) / batch_time(equilibrium, counts))
