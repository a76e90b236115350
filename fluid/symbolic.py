"""The fluid equilibrium and the stability region, derived by computer algebra from the flow balance.

Nothing here restates a closed form of `fluid.equilibrium` or `fluid.region`: sympy is given the balance of J prompt
types under whole prefill, blocks of one token and one affine iteration time, and works out the rest. In unknowns
Delta (s) and n_1..n_J (prompts per stage), with stages s = 0..o_j (0 is the prefill),

    n_j   = lambda_j Delta                                     arrivals of one iteration = prompts that leave a stage
    Delta = d0 + d1 KV + d2 prefill + d3 size                  the time of the batch those prompts form
    KV = sum_j sum_{s=0}^{o_j} n_j (l_j + s),   prefill = sum_j n_j l_j,   size = sum_j sum_{s=0}^{o_j} n_j

The balance is linear in the unknowns, so it has one solution; it is an equilibrium where rho < 1. From that solution:

    rho  = 1 - d0 / Delta*,   c_j = d rho / d lambda_j         the load and the time work, as the solution shows them
    M*   = KV at the solution = Delta* sum_j lambda_j w_j
    z    : M*(z lambda) = C                                    the factor at which the mix meets the capacity
    h_j  = d (1/z) / d lambda_j                                1/z is linear in the rates: h_j = c_j + d0 w_j / C

M*(z lambda) rises with z up to z = 1/rho, so M* <= C and 1/z <= 1 say the same. With the sequences of the batch (size
at the solution) for M* and the engine's cap B for C the same steps give h_j = c_j + d0 (o_j + 1) / B.

An iteration time that is the largest of several lines changes one equation: Delta = max_i f_i(Delta), f_i the line i at
n = lambda Delta, which rises with slope rho_i < 1. Its solution is the largest Delta_i* of the lines alone, for there
f_i(Delta_i*) = Delta_i* and every other f_k(Delta_i*) <= Delta_i*. So M* <= C means each line's own half-space, with
d_{0,i}..d_{3,i} for d0..d3: `SymbolicRegion.of_line`.

A length is differentiated as a real number, the sum over its stages being a polynomial in it. `o` counts decode stages:
R with first_token = "decode", R - 1 with "prefill". Source: model.md section 2; [A], arXiv 2504.11320.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy as sp

from fluid.arrays import below_one
from fluid.errors import InputError, one_of, whole
from fluid.replica import WHOLE, Line, Replica
from fluid.workload import PromptType, Workload

_STAGE = sp.Symbol("s", integer=True, nonnegative=True)


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
        return _gradient(self.kv_required, self.symbols.rates)

    @property
    def prompt_sensitivity(self) -> tuple[sp.Expr, ...]:
        """dM*/dl_j, KV tokens per prompt token."""
        return _gradient(self.kv_required, self.symbols.prompts)

    @property
    def output_sensitivity(self) -> tuple[sp.Expr, ...]:
        """dM*/do_j, KV tokens per output token."""
        return _gradient(self.kv_required, self.symbols.decodes)

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
        load = _value(self.symbols, self.load, workload, replica)
        if not below_one(load):
            raise InputError("load", "below 1, where an equilibrium exists", load, "the symbolic equilibrium")
        return _value(self.symbols, expression, workload, replica)


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

        >>> region = derive_region(derive()).of_line(1)
        >>> region.half_spaces[0].coeff(region.symbols.per_prefill_token), region.symbols.per_prefill_token
        (l, d_{2,2})
        """
        i, letters = whole("line", line, "of_line", unit="lines", least=0), _times(self.symbols)
        own = tuple(sp.Symbol(f"d_{{{k},{i + 1}}}", **letter.assumptions0) for k, letter in enumerate(letters))
        renamed = dict(zip(letters, own, strict=True))
        symbols = replace(self.symbols, overhead=own[0], per_kv_token=own[1], per_prefill_token=own[2],
                          per_sequence=own[3])
        return SymbolicRegion(symbols, tuple(h.subs(renamed) for h in self.half_spaces),
                              self.max_rate_scale.subs(renamed), i)

    @property
    def inequality(self) -> sp.Rel:
        """The half-space itself, sum_j lambda_j h_j <= 1."""
        return sp.Le(_combine(self.symbols.rates, self.half_spaces), 1)

    def numeric(self, expression: sp.Expr, workload: Workload | PromptType, replica: Replica) -> float:
        """Return the value of an expression in these symbols, at any load; raises InputError as the equilibrium does.

        A type that needs more KV than the capacity fits at no rate, which no half-space says: see `never_fits` of
        `fluid.stability_region`.
        """
        return _value(self.symbols, expression, workload, replica, self.line)


def derive(types: int = 1) -> SymbolicEquilibrium:
    """Solve the flow balance n_j = lambda_j Delta, Delta = d0 + d1 KV + d2 prefill + d3 size for J = `types` types.

    With one type the symbols carry no index. Raises InputError unless 1 <= types <= 8 (longer expressions are of no
    use to a reader; `fluid.solve` takes any number of types). Source: model.md section 2.

    >>> symbolic = derive()
    >>> symbolic.kv_work[0]
    (2*l + o)*(o + 1)/2
    >>> x = symbolic.symbols
    >>> symbolic.iteration_time.subs({x.per_prefill_token: 0, x.per_sequence: 0})
    d_0/(-d_1*lambda*(2*l + o)*(o + 1)/2 + 1)
    """
    x = _symbols(whole("types", types, "derive", unit="prompt types", most=8))
    delta = sp.Symbol("Delta", positive=True)
    counts = _indexed("n", len(x.rates), positive=True)
    flow = tuple(sp.Eq(n, rate * delta) for n, rate in zip(counts, x.rates, strict=True))
    balance = (*flow, sp.Eq(delta, _batch_time(x, counts)))
    (solution,) = sp.solve([equation.doit() for equation in balance], [delta, *counts], dict=True)

    time_work = tuple(_by_coefficient(x, slope) for slope in _gradient(1 - x.overhead / solution[delta], x.rates))
    load = _combine(x.rates, time_work)
    iteration_time = x.overhead / (1 - load)  # the same as solution[delta], in the order a reader expects
    flow_through = tuple(sp.cancel(solution[n] / solution[delta]) for n in counts)
    one_each = (sp.Integer(1),) * len(counts)
    kv_work = tuple(sp.factor(held.doit()) for held in _held(x, one_each))
    return SymbolicEquilibrium(x, delta, counts, balance, kv_work, time_work, load, iteration_time,
                               inventory=tuple(through * iteration_time for through in flow_through),
                               kv_required=iteration_time * _combine(flow_through, kv_work),
                               sequences=iteration_time * _combine(flow_through, _stages(x, one_each)))


def derive_region(equilibrium: SymbolicEquilibrium, limit: str = "memory") -> SymbolicRegion:
    """Solve M*(z lambda) = C for the factor z; 1/z = sum_j lambda_j h_j is the load against the region's edge.

    With `limit` "sequences" those of the batch and the cap B take the place of M* and C.

    >>> derive_region(derive()).half_spaces[0]
    d_1*(2*l + o)*(o + 1)/2 + d_2*l + d_3*(o + 1) + d_0*(2*l + o)*(o + 1)/(2*C)
    """
    x, z = equilibrium.symbols, sp.Symbol("z", positive=True)
    pairs = {"memory": (equilibrium.kv_required, x.kv_capacity), "sequences": (equilibrium.sequences, x.max_num_seqs)}
    needed, most = pairs[one_of("limit", limit, tuple(pairs), "derive_region")]
    scaled = needed.subs({rate: z * rate for rate in x.rates}, simultaneous=True)
    (edge,) = sp.solve(sp.Eq(scaled, most), z)
    half_spaces = tuple(_by_coefficient(x, slope) for slope in _gradient(1 / edge, x.rates))
    return SymbolicRegion(x, half_spaces, 1 / _combine(x.rates, half_spaces))


def _symbols(types: int) -> Symbols:
    overhead, capacity, cap = sp.symbols("d_0 C B", positive=True)
    per_kv_token, per_prefill_token, per_sequence = sp.symbols("d_1:4", nonnegative=True)
    return Symbols(overhead, per_kv_token, per_prefill_token, per_sequence, capacity, cap,
                   _indexed("lambda", types, positive=True), _indexed("l", types, positive=True),
                   _indexed("o", types, nonnegative=True))


def _indexed(letter: str, types: int, **assumptions: bool) -> tuple[sp.Symbol, ...]:
    names = [letter] if types == 1 else [f"{letter}_{j}" for j in range(1, types + 1)]
    return tuple(sp.Symbol(name, **assumptions) for name in names)


def _batch_time(x: Symbols, counts: tuple[sp.Expr, ...]) -> sp.Expr:
    return (x.overhead + x.per_kv_token * sum(_held(x, counts)) + x.per_prefill_token * _combine(counts, x.prompts)
            + x.per_sequence * sum(_stages(x, counts)))


def _stages(x: Symbols, counts: tuple[sp.Expr, ...]) -> tuple[sp.Expr, ...]:
    """Sequences of each type where `counts` prompts of it are in every stage."""
    return tuple(sp.Sum(n, (_STAGE, 0, o)).doit() for n, o in zip(counts, x.decodes, strict=True))


def _held(x: Symbols, counts: tuple[sp.Expr, ...]) -> tuple[sp.Sum, ...]:
    """KV tokens that each type holds where `counts` prompts of it are in every stage."""
    rows = zip(counts, x.prompts, x.decodes, strict=True)
    return tuple(sp.Sum(n * (prompt + _STAGE), (_STAGE, 0, o)) for n, prompt, o in rows)


def _gradient(expression: sp.Expr, variables: tuple[sp.Symbol, ...]) -> tuple[sp.Expr, ...]:
    return tuple(expression.diff(variable) for variable in variables)


def _combine(weights: tuple[sp.Expr, ...], values: tuple[sp.Expr, ...]) -> sp.Expr:
    return sp.Add(*(weight * value for weight, value in zip(weights, values, strict=True)))


def _by_coefficient(x: Symbols, expression: sp.Expr) -> sp.Expr:
    """The expression as a sum over d0..d3 with factored coefficients."""
    return sp.collect(sp.expand(sp.cancel(expression)), _times(x), sp.factor)


def _times(x: Symbols) -> tuple[sp.Symbol, ...]:
    return x.overhead, x.per_kv_token, x.per_prefill_token, x.per_sequence


def _value(x: Symbols, expression: sp.Expr, workload: Workload | PromptType, replica: Replica,
           line: int | None = None) -> float:
    mix = Workload([workload]) if isinstance(workload, PromptType) else workload
    if len(mix) != len(x.rates):
        raise InputError("workload", f"of {len(x.rates)} prompt types", len(mix), "the symbolic model")
    if mix.cached_prefix.any():
        raise InputError("cached_prefix", "0 tokens", int(mix.cached_prefix.max()), "the symbolic model")
    coefficients = _line(replica, line)
    decodes = mix.output_tokens - (replica.first_token == "prefill")
    if x.max_num_seqs in expression.free_symbols and replica.max_num_seqs is None:
        raise InputError("max_num_seqs", "given", None, "the symbolic model")
    letters = (*x.rates, *x.prompts, *x.decodes, *_times(x))
    numbers = (*mix.rates.tolist(), *mix.prompt_tokens.tolist(), *decodes.tolist(), *coefficients)
    evaluate = sp.lambdify([*letters, x.kv_capacity, x.max_num_seqs], expression, "math")
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
