"""The stability region, derived by computer algebra from the symbolic equilibrium.

With M* and rho of `fluid.symbolic.equilibrium`, nothing of `fluid.region` being restated,

    z    : M*(z lambda) = C                                    the factor at which the mix meets the capacity
    h_j  = d (1/z) / d lambda_j                                1/z is linear in the rates: h_j = c_j + d0 w_j / C

M*(z lambda) rises with z up to z = 1/rho, so M* <= C and 1/z <= 1 say the same. With the sequences of the batch (size
at the solution) for M* and the engine's cap B for C the same steps give h_j = c_j + d0 (o_j + 1) / B.

An iteration time that is the largest of several lines changes one equation: Delta = max_i f_i(Delta), f_i the line i at
n = lambda Delta, which rises with slope rho_i < 1. Its solution is the largest Delta_i* of the lines alone, for there
f_i(Delta_i*) = Delta_i* and every other f_k(Delta_i*) <= Delta_i*. So M* <= C means each line's own half-space, with
d_{0,i}..d_{3,i} for d0..d3: `SymbolicRegion.of_line`. Source: mathematics, sections 2.2 and 2.8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy as sp

from fluid.errors import one_of, whole
from fluid.replica import Replica
from fluid.symbolic.equilibrium import SymbolicEquilibrium
from fluid.symbolic.symbols import Symbols, by_coefficient, combine, gradient, times, value_of
from fluid.workload import PromptType, Workload


@dataclass(frozen=True)
class SymbolicRegion:
    """M* <= C, or sequences <= B, as a half-space sum_j lambda_j h_j <= 1 of the rates; made by `derive_region`.

    `line` is None where the iteration time is one line, else which of several the half-space is of (`of_line`).

    `half_spaces` h_j (s) has one entry per type; `max_rate_scale` is 1 / sum_j lambda_j h_j. Limits: as C grows,
    h_j -> c_j (time alone binds, rho <= 1); with d1 = d2 = d3 = 0, h_j = d0 w_j / C (memory alone binds);
    one type with d2 = d3 = 0 can carry C / (w (d0 + d1 C)) requests/s.
    """

    symbols: Symbols
    half_spaces: tuple[sp.Expr, ...]
    max_rate_scale: sp.Expr
    line: int | None = None

    def of_line(self, line: int) -> SymbolicRegion:
        """Return the half-space of line i of an iteration time that is the largest of several, in d_{0,i}..d_{3,i}.

        `line` counts from 0, printed indices from 1. `numeric` then takes the coefficients of that line. The region is
        where the half-spaces of all lines hold. Raises InputError for a negative line.

        >>> from fluid.symbolic import derive
        >>> region = derive_region(derive()).of_line(1)
        >>> region.half_spaces[0].coeff(region.symbols.per_prefill_token), region.symbols.per_prefill_token
        (l, d_{2,2})
        """
        i, letters = whole("line", line, "of_line", unit="lines", least=0), times(self.symbols)
        own = tuple(sp.Symbol(f"d_{{{k},{i + 1}}}", **letter.assumptions0) for k, letter in enumerate(letters))
        renamed = dict(zip(letters, own, strict=True))
        symbols = replace(self.symbols, overhead=own[0], per_kv_token=own[1], per_prefill_token=own[2],
                          per_sequence=own[3])
        return SymbolicRegion(symbols, tuple(h.subs(renamed) for h in self.half_spaces),
                              self.max_rate_scale.subs(renamed), i)

    @property
    def inequality(self) -> sp.Rel:
        """The half-space itself, sum_j lambda_j h_j <= 1."""
        return sp.Le(combine(self.symbols.rates, self.half_spaces), 1)

    def numeric(self, expression: sp.Expr, workload: Workload | PromptType, replica: Replica) -> float:
        """Return the value of an expression in these symbols, at any load; raises InputError as the equilibrium does.

        A type that needs more KV than the capacity fits at no rate, which no half-space says: see `never_fits` of
        `fluid.stability_region`.
        """
        return value_of(self.symbols, expression, workload, replica, self.line)


def derive_region(equilibrium: SymbolicEquilibrium, limit: str = "memory") -> SymbolicRegion:
    """Solve M*(z lambda) = C for the factor z; 1/z = sum_j lambda_j h_j is the load against the region's edge.

    With `limit` "sequences" those of the batch and the cap B take the place of M* and C.

    >>> from fluid.symbolic import derive
    >>> derive_region(derive()).half_spaces[0]
    d_1*(2*l + o)*(o + 1)/2 + d_2*l + d_3*(o + 1) + d_0*(2*l + o)*(o + 1)/(2*C)
    """
    x, z = equilibrium.symbols, sp.Symbol("z", positive=True)
    pairs = {"memory": (equilibrium.kv_required, x.kv_capacity), "sequences": (equilibrium.sequences, x.max_num_seqs)}
    needed, most = pairs[one_of("limit", limit, tuple(pairs), "derive_region")]
    scaled = needed.subs({rate: z * rate for rate in x.rates}, simultaneous=True)
    (edge,) = sp.solve(sp.Eq(scaled, most), z)
    half_spaces = tuple(by_coefficient(x, slope) for slope in gradient(1 / edge, x.rates))
    return SymbolicRegion(x, half_spaces, 1 / combine(x.rates, half_spaces))
