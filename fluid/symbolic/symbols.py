"""The letters of the symbolic model, the algebra done with them, and their values for a workload on a replica."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from fluid.errors import InputError
from fluid.replica import WHOLE, Line, Replica
from fluid.workload import PromptType, Workload


@dataclass(frozen=True)
class Symbols:
    """The letters of the model: d0 (s), d1, d2 (s/token), d3 (s), C (tokens), B (sequences); and for each of J types,
    as tuples, `rates` lambda_j (requests/s), `prompts` l_j (tokens), `decodes` o_j (decode stages).
    """

    overhead: sp.Symbol
    per_kv_token: sp.Symbol
    per_prefill_token: sp.Symbol
    per_sequence: sp.Symbol
    kv_capacity: sp.Symbol
    max_num_seqs: sp.Symbol
    rates: tuple[sp.Symbol, ...]
    prompts: tuple[sp.Symbol, ...]
    decodes: tuple[sp.Symbol, ...]


def letters(types: int) -> Symbols:
    """The letters for so many types, with what is known of their signs."""
    overhead, capacity, cap = sp.symbols("d_0 C B", positive=True)
    per_kv_token, per_prefill_token, per_sequence = sp.symbols("d_1:4", nonnegative=True)
    return Symbols(overhead, per_kv_token, per_prefill_token, per_sequence, capacity, cap,
                   indexed("lambda", types, positive=True), indexed("l", types, positive=True),
                   indexed("o", types, nonnegative=True))


def indexed(letter: str, types: int, **assumptions: bool) -> tuple[sp.Symbol, ...]:
    """A letter for each type: with an index where there are several."""
    names = [letter] if types == 1 else [f"{letter}_{j}" for j in range(1, types + 1)]
    return tuple(sp.Symbol(name, **assumptions) for name in names)


def gradient(expression: sp.Expr, variables: tuple[sp.Symbol, ...]) -> tuple[sp.Expr, ...]:
    """The derivatives of an expression in each variable."""
    return tuple(expression.diff(variable) for variable in variables)


def combine(weights: tuple[sp.Expr, ...], values: tuple[sp.Expr, ...]) -> sp.Expr:
    """The sum of products."""
    return sp.Add(*(weight * value for weight, value in zip(weights, values, strict=True)))


def by_coefficient(x: Symbols, expression: sp.Expr) -> sp.Expr:
    """The expression as a sum over d0..d3 with factored coefficients."""
    return sp.collect(sp.expand(sp.cancel(expression)), times(x), sp.factor)


def times(x: Symbols) -> tuple[sp.Symbol, ...]:
    """The letters d0..d3 of the iteration time."""
    return x.overhead, x.per_kv_token, x.per_prefill_token, x.per_sequence


def value_of(x: Symbols, expression: sp.Expr, workload: Workload | PromptType, replica: Replica,
             line: int | None = None) -> float:
    """The value of an expression in these letters; raises InputError for a replica the symbolic model does not know."""
    mix = Workload([workload]) if isinstance(workload, PromptType) else workload
    if len(mix) != len(x.rates):
        raise InputError("workload", f"of {len(x.rates)} prompt types", len(mix), "the symbolic model")
    if mix.cached_prefix.any():
        raise InputError("cached_prefix", "0 tokens", int(mix.cached_prefix.max()), "the symbolic model")
    coefficients = _line(replica, line)
    decodes = mix.output_tokens - (replica.first_token == "prefill")
    if x.max_num_seqs in expression.free_symbols and replica.max_num_seqs is None:
        raise InputError("max_num_seqs", "given", None, "the symbolic model")
    unknowns = (*x.rates, *x.prompts, *x.decodes, *times(x), x.kv_capacity, x.max_num_seqs)
    numbers = (*mix.rates.tolist(), *mix.prompt_tokens.tolist(), *decodes.tolist(), *coefficients)
    evaluate = sp.lambdify(unknowns, expression, "math")
    return float(evaluate(*numbers, replica.kv_capacity, replica.max_num_seqs))


def _line(replica: Replica, line: int | None) -> Line:
    """The coefficients of a line of the iteration time; of its only one where no line is named."""
    if replica.prefill != WHOLE:
        raise InputError("prefill", f'"{WHOLE}"', replica.prefill, "the symbolic model")
    if replica.block != 1:
        raise InputError("block", "1 token", replica.block, "the symbolic model")
    if replica.attention_window is not None:
        raise InputError("attention_window", "absent", replica.attention_window, "the symbolic model")
    if replica.state:
        raise InputError("state", "0 tokens", replica.state, "the symbolic model")
    pieces = replica.iteration_time.pieces
    if line is None and len(pieces) != 1:
        raise InputError("iteration_time", "one affine piece", len(pieces), "the symbolic model")
    if line is not None and line >= len(pieces):
        raise InputError("iteration_time", f"of at least {line + 1} affine pieces", len(pieces), "the symbolic model")
    return pieces[line or 0]
