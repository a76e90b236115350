r"""The least vector of whole thresholds that keeps load balance.

Load balance asks of positive integers n_j, with Delta(n) = max_i [a_i + sum_j n_j c_ij], that

    lambda_j Delta(n) <= n_j   for every j

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
Source: mathematics, sections 3.4 and 3.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fluid import Equilibrium
from fluid.arrays import TOLERANCE, Floats, below_one
from fluid.compiled import jit


@dataclass(frozen=True, eq=False)
class Balance:
    """Load balance of J types over I pieces: rates (J,), overheads a (I,), time work c (I, J)."""

    rates: Floats
    overheads: Floats
    time_work: Floats

    @classmethod
    def of(cls, equilibrium: Equilibrium, scale: float = 1.0) -> Balance:
        iteration_time = equilibrium.replica.iteration_time
        return cls(equilibrium.workload.rates * scale, iteration_time.overheads,
                   equilibrium.profile.time_work(iteration_time))

    @property
    def inventory(self) -> Floats | None:
        """n* = lambda Delta*, prompts per stage, shape (J,); None where rho >= 1."""
        loads = self.time_work @ self.rates
        return self.rates * np.max(self.overheads / (1.0 - loads)) if below_one(loads.max()) else None

    def least(self, start: Floats, needs: Floats | None = None) -> Floats:
        """Climb from a lower bound k of n0 to n0, or to any with a need beyond 1: `needs` (constraints, J) times k."""
        shares = np.zeros((1, len(self.rates))) if needs is None else needs
        return np.asarray(_climb(self.rates, self.overheads, self.time_work, _ceil(start), shares))


def _ceil(values: Floats) -> Floats:
    """Ceil, at least 1, a number within rounding above an integer counting as that integer."""
    return np.maximum(1.0, np.ceil(values - TOLERANCE * np.maximum(1.0, values)))


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
