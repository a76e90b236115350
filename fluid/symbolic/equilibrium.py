"""The fluid equilibrium, derived by computer algebra from the flow balance.

Nothing here restates a closed form of `fluid.equilibrium`: sympy is given the balance of J prompt
types under whole prefill, blocks of one token and one affine iteration time, and works out the rest. In unknowns
Delta (s) and n_1..n_J (prompts per stage), with stages s = 0..o_j (0 is the prefill),

    n_j   = lambda_j Delta                                     arrivals of one iteration = prompts that leave a stage
    Delta = d0 + d1 KV + d2 prefill + d3 size                  the time of the batch those prompts form
    KV = sum_j sum_{s=0}^{o_j} n_j (l_j + s),   prefill = sum_j n_j l_j,   size = sum_j sum_{s=0}^{o_j} n_j

The balance is linear in the unknowns, so it has one solution; it is an equilibrium where rho < 1. From that solution:

    rho  = 1 - d0 / Delta*,   c_j = d rho / d lambda_j         the load and the time work, as the solution shows them
    M*   = KV at the solution = Delta* sum_j lambda_j w_j

A length is differentiated as a real number, the sum over its stages being a polynomial in it. `o` counts decode stages:
R with first_token = "decode", R - 1 with "prefill". Source: mathematics, sections 2.1 and 2.8; [A], arXiv 2504.11320.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from fluid.arrays import below_one
from fluid.errors import InputError, whole
from fluid.replica import Replica
from fluid.symbolic.symbols import Symbols, by_coefficient, combine, gradient, indexed, letters, value_of
from fluid.workload import PromptType, Workload

_STAGE = sp.Symbol("s", integer=True, nonnegative=True)


@dataclass(frozen=True)
class SymbolicEquilibrium:
    """The solution of the flow balance in symbols; made by `derive`.

    `balance` holds the J + 1 equations in the unknowns `delta` and `counts`; `iteration_time` Delta* (s), `inventory`
    n*, `kv_required` M* (tokens) and the `sequences` of a batch solve them; `load` is rho; `kv_work` w_j
    (token-iterations) and `time_work` c_j (s) are what one prompt adds over its life. Tuples have one entry per type.

    Limits: as rho -> 0, Delta* -> d0 and M* -> d0 W (one iteration's overhead of arriving work); with
    d1 = d2 = d3 = 0 that holds at any rate (Little's law for iterations of fixed length); as rho -> 1, M* grows
    without bound; with d2 = d3 = 0, M* = d0 W / (1 - d1 W), where W = sum_j lambda_j w_j.
    """

    symbols: Symbols
    delta: sp.Symbol
    counts: tuple[sp.Symbol, ...]
    balance: tuple[sp.Eq, ...]
    kv_work: tuple[sp.Expr, ...]
    time_work: tuple[sp.Expr, ...]
    load: sp.Expr
    iteration_time: sp.Expr
    inventory: tuple[sp.Expr, ...]
    kv_required: sp.Expr
    sequences: sp.Expr

    @property
    def rate_sensitivity(self) -> tuple[sp.Expr, ...]:
        """dM*/dlambda_j = Delta* (w_j + W c_j / (1 - rho)), tokens per request/s."""
        return gradient(self.kv_required, self.symbols.rates)

    @property
    def prompt_sensitivity(self) -> tuple[sp.Expr, ...]:
        """dM*/dl_j, KV tokens per prompt token."""
        return gradient(self.kv_required, self.symbols.prompts)

    @property
    def output_sensitivity(self) -> tuple[sp.Expr, ...]:
        """dM*/do_j, KV tokens per output token."""
        return gradient(self.kv_required, self.symbols.decodes)

    @property
    def rate_elasticity(self) -> tuple[sp.Expr, ...]:
        """(lambda_j/M*) dM*/dlambda_j = lambda_j w_j / W + lambda_j c_j / (1 - rho): per cent of M* per cent of rate.

        They sum to 1 / (1 - rho): at load 0.9, one per cent more traffic needs ten per cent more memory.
        """
        pairs = zip(self.symbols.rates, self.rate_sensitivity, strict=True)
        return tuple(rate * slope / self.kv_required for rate, slope in pairs)

    def numeric(self, expression: sp.Expr, workload: Workload | PromptType, replica: Replica) -> float:
        """Return the value of an expression in these symbols for J prompt types on a replica.

        Raises InputError where rho >= 1 (no equilibrium exists), where the number of types is not J, for a cached
        prefix, and for a replica other than whole prefill, block 1, one affine piece, no attention window and no state.

        >>> from fluid import IterationTime
        >>> replica = Replica(kv_capacity=40, iteration_time=IterationTime(0.5, 0.05))
        >>> symbolic = derive()
        >>> round(symbolic.numeric(symbolic.kv_required, PromptType(1, 2, 1.0), replica), 6)  # 0.5 * 6 / (1 - 0.3)
        4.285714
        """
        load = value_of(self.symbols, self.load, workload, replica)
        if not below_one(load):
            raise InputError("load", "below 1, where an equilibrium exists", load, "the symbolic equilibrium")
        return value_of(self.symbols, expression, workload, replica)


def derive(types: int = 1) -> SymbolicEquilibrium:
    """Solve the flow balance n_j = lambda_j Delta, Delta = d0 + d1 KV + d2 prefill + d3 size for J = `types` types.

    With one type the symbols carry no index. Raises InputError unless 1 <= types <= 8 (longer expressions are of no
    use to a reader; `fluid.solve` takes any number of types). Source: mathematics, section 2.1.

    >>> symbolic = derive()
    >>> symbolic.kv_work[0]
    (2*l + o)*(o + 1)/2
    >>> x = symbolic.symbols
    >>> symbolic.iteration_time.subs({x.per_prefill_token: 0, x.per_sequence: 0})
    d_0/(-d_1*lambda*(2*l + o)*(o + 1)/2 + 1)
    """
    x = letters(whole("types", types, "derive", unit="prompt types", most=8))
    delta = sp.Symbol("Delta", positive=True)
    counts = indexed("n", len(x.rates), positive=True)
    flow = tuple(sp.Eq(n, rate * delta) for n, rate in zip(counts, x.rates, strict=True))
    balance = (*flow, sp.Eq(delta, _batch_time(x, counts)))
    (solution,) = sp.solve([equation.doit() for equation in balance], [delta, *counts], dict=True)

    time_work = tuple(by_coefficient(x, slope) for slope in gradient(1 - x.overhead / solution[delta], x.rates))
    load = combine(x.rates, time_work)
    iteration_time = x.overhead / (1 - load)  # the same as solution[delta], in the order a reader expects
    flow_through = tuple(sp.cancel(solution[n] / solution[delta]) for n in counts)
    one_each = (sp.Integer(1),) * len(counts)
    kv_work = tuple(sp.factor(held.doit()) for held in _held(x, one_each))
    return SymbolicEquilibrium(x, delta, counts, balance, kv_work, time_work, load, iteration_time,
                               inventory=tuple(through * iteration_time for through in flow_through),
                               kv_required=iteration_time * combine(flow_through, kv_work),
                               sequences=iteration_time * combine(flow_through, _stages(x, one_each)))


def _batch_time(x: Symbols, counts: tuple[sp.Expr, ...]) -> sp.Expr:
    return (x.overhead + x.per_kv_token * sum(_held(x, counts)) + x.per_prefill_token * combine(counts, x.prompts)
            + x.per_sequence * sum(_stages(x, counts)))


def _stages(x: Symbols, counts: tuple[sp.Expr, ...]) -> tuple[sp.Expr, ...]:
    """Sequences of each type where `counts` prompts of it are in every stage."""
    return tuple(sp.Sum(n, (_STAGE, 0, o)).doit() for n, o in zip(counts, x.decodes, strict=True))


def _held(x: Symbols, counts: tuple[sp.Expr, ...]) -> tuple[sp.Sum, ...]:
    """KV tokens that each type holds where `counts` prompts of it are in every stage."""
    rows = zip(counts, x.prompts, x.decodes, strict=True)
    return tuple(sp.Sum(n * (prompt + _STAGE), (_STAGE, 0, o)) for n, prompt, o in rows)
