"""The derived expressions against the numerical solver, finite differences and known limits."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest
import sympy as sp
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import Instance, examples, instances, lines, replicas

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve
from fluid.symbolic import SymbolicEquilibrium, SymbolicRegion, derive, derive_region

briefly = examples(15)  # every example compiles a dozen expressions
plain = instances(replica=replicas(lines(), plain=True))
derived = cache(derive)


@cache
def derived_region(types: int) -> SymbolicRegion:
    return derive_region(derived(types))


def vanishes(expression: sp.Expr) -> bool:
    return sp.cancel(sp.together(expression)) == 0


def of_paper(symbolic: SymbolicEquilibrium, expression: sp.Expr) -> sp.Expr:
    """The expression with d2 = d3 = 0, as in [A]."""
    return expression.subs({symbolic.symbols.per_prefill_token: 0, symbolic.symbols.per_sequence: 0})


def times(symbolic: SymbolicEquilibrium, factor: sp.Expr, expression: sp.Expr) -> sp.Expr:
    """The expression with every rate multiplied by the factor."""
    return expression.subs({rate: factor * rate for rate in symbolic.symbols.rates}, simultaneous=True)


def total(symbolic: SymbolicEquilibrium, per_prompt: tuple[sp.Expr, ...]) -> sp.Expr:
    return sum(rate * each for rate, each in zip(symbolic.symbols.rates, per_prompt, strict=True))


@pytest.mark.parametrize("types", [1, 2, 3])
def test_the_solution_leaves_no_residual_in_the_flow_balance(types: int) -> None:
    symbolic = derived(types)
    found = {symbolic.delta: symbolic.iteration_time, **dict(zip(symbolic.counts, symbolic.inventory, strict=True))}
    assert len(symbolic.balance) == types + 1
    assert all(vanishes((each.lhs - each.rhs).doit().subs(found)) for each in symbolic.balance)


@pytest.mark.parametrize("types", [1, 2, 3])
def test_required_memory_is_the_kv_of_the_equilibrium_inventory(types: int) -> None:
    """KV = sum_j n_j sum_{s=0}^{o_j} (l_j + s), with the inner sum by Gauss: (o + 1) l + o (o + 1)/2."""
    symbolic = derived(types)
    rows = zip(symbolic.inventory, symbolic.symbols.prompts, symbolic.symbols.decodes, strict=True)
    held = sum(n * ((o + 1) * prompt + o * (o + 1) / 2) for n, prompt, o in rows)
    assert vanishes(symbolic.kv_required - held)


def test_one_type_without_prefill_time_is_the_closed_form_of_the_paper() -> None:
    """Delta = d0 + d1 lambda w Delta gives Delta = d0/(1 - d1 lambda w), times lambda w tokens."""
    symbolic = derived(1)
    x, w = symbolic.symbols, symbolic.kv_work[0]
    closed = x.overhead * x.rates[0] * w / (1 - x.per_kv_token * x.rates[0] * w)
    assert vanishes(of_paper(symbolic, symbolic.kv_required) - closed)


def test_a_mix_whose_second_rate_goes_to_zero_is_the_single_type() -> None:
    one, two = derived(1), derived(2)
    x, y = one.symbols, two.symbols
    renamed = {y.rates[0]: x.rates[0], y.prompts[0]: x.prompts[0], y.decodes[0]: x.decodes[0], y.rates[1]: 0}
    for single, mixed in ((one.iteration_time, two.iteration_time), (one.kv_required, two.kv_required),
                          (one.inventory[0], two.inventory[0]), (one.load, two.load)):
        assert vanishes(single - mixed.subs(renamed))


def test_types_of_equal_lengths_are_one_type_of_their_total_rate() -> None:
    one, two = derived(1), derived(2)
    x, y = one.symbols, two.symbols
    alike = {y.prompts[0]: x.prompts[0], y.prompts[1]: x.prompts[0],
             y.decodes[0]: x.decodes[0], y.decodes[1]: x.decodes[0]}
    single = one.kv_required.subs(x.rates[0], y.rates[0] + y.rates[1])
    assert vanishes(two.kv_required.subs(alike) - single)


@pytest.mark.parametrize("types", [1, 2])
def test_at_vanishing_load_the_iteration_is_the_overhead_and_memory_is_overhead_times_kv_work(types: int) -> None:
    """With rates z lambda and z -> 0: Delta* -> d0 and M*/z -> d0 W."""
    symbolic, z = derived(types), sp.Symbol("z", positive=True)
    work = total(symbolic, symbolic.kv_work)
    assert sp.limit(times(symbolic, z, symbolic.iteration_time), z, 0) == symbolic.symbols.overhead
    small = sp.limit(times(symbolic, z, symbolic.kv_required) / z, z, 0)
    assert vanishes(small - symbolic.symbols.overhead * work)


def test_iterations_of_fixed_length_obey_littles_law() -> None:
    """d1 = d2 = d3 = 0: a token-iteration lasts d0, so lambda prompts/s of w token-iterations hold lambda w d0."""
    symbolic = derived(1)
    x = symbolic.symbols
    fixed = of_paper(symbolic, symbolic.kv_required).subs(x.per_kv_token, 0)
    assert vanishes(fixed - x.overhead * x.rates[0] * symbolic.kv_work[0])


def test_memory_grows_without_bound_as_the_load_goes_to_one() -> None:
    """With d1 = 1, l = 1, o = 1: w = 3, so rho = 3 lambda reaches 1 at lambda = 1/3."""
    symbolic = derived(1)
    x = symbolic.symbols
    memory = of_paper(symbolic, symbolic.kv_required).subs({x.per_kv_token: 1, x.prompts[0]: 1, x.decodes[0]: 1})
    assert sp.limit(memory, x.rates[0], sp.Rational(1, 3), dir="-") == sp.oo


@pytest.mark.parametrize("types", [1, 2])
def test_slopes_in_the_rates_are_those_of_the_product_rule(types: int) -> None:
    """M* = Delta W and dDelta/dlambda_j = Delta c_j/(1 - rho) give Delta (w_j + W c_j/(1 - rho))."""
    symbolic = derived(types)
    work = total(symbolic, symbolic.kv_work)
    for slope, w, c in zip(symbolic.rate_sensitivity, symbolic.kv_work, symbolic.time_work, strict=True):
        assert vanishes(slope - symbolic.iteration_time * (w + work * c / (1 - symbolic.load)))


@pytest.mark.parametrize("types", [1, 2, 3])
def test_rate_elasticities_sum_to_one_over_one_minus_load(types: int) -> None:
    """Euler: d ln M*(z lambda)/d ln z at z = 1, with M* = d0 z W/(1 - z rho), is 1 + rho/(1 - rho)."""
    symbolic = derived(types)
    assert vanishes(sum(symbolic.rate_elasticity) - 1 / (1 - symbolic.load))


@pytest.mark.parametrize("types", [1, 2, 3])
def test_half_spaces_add_time_work_and_the_share_of_memory(types: int) -> None:
    """d0 W/(1 - rho) <= C is d0 W/C + rho <= 1, so h_j = c_j + d0 w_j/C."""
    symbolic, region = derived(types), derived_region(types)
    x = symbolic.symbols
    for h, c, w in zip(region.half_spaces, symbolic.time_work, symbolic.kv_work, strict=True):
        assert vanishes(h - c - x.overhead * w / x.kv_capacity)
        assert vanishes(sp.limit(h, x.kv_capacity, sp.oo) - c)


@pytest.mark.parametrize("types", [1, 2])
def test_rates_scaled_to_the_edge_need_exactly_the_capacity(types: int) -> None:
    symbolic, region = derived(types), derived_region(types)
    edge = times(symbolic, region.max_rate_scale, symbolic.kv_required)
    assert vanishes(edge - symbolic.symbols.kv_capacity)


def test_the_region_prints_as_an_inequality_in_the_rates() -> None:
    region = derived_region(2)
    assert isinstance(region.inequality, sp.Le)
    assert region.inequality.free_symbols >= set(region.symbols.rates)
    assert vanishes(region.inequality.lhs - 1 / region.max_rate_scale)


@briefly
@given(instances(replica=replicas(lines(), plain=True), least=1))
def test_every_expression_equals_the_numerical_equilibrium(instance: Instance) -> None:
    symbolic, found = derived(len(instance.workload)), solve(*instance)
    pairs = [(symbolic.load, found.load), (symbolic.iteration_time, found.iteration_time),
             (symbolic.kv_required, found.kv_required), *zip(symbolic.inventory, found.inventory, strict=True),
             *zip(symbolic.kv_work, found.profile.kv_work, strict=True),
             *zip(symbolic.time_work, found.profile.time_work(instance.replica.iteration_time)[0], strict=True)]
    for expression, number in pairs:
        assert symbolic.numeric(expression, *instance) == pytest.approx(number, rel=1e-12)


@briefly
@given(instances(load=(0.01, 3.0), replica=replicas(lines(), plain=True)))
def test_the_derived_region_equals_the_numerical_one_at_any_load(instance: Instance) -> None:
    symbolic, found = derived_region(len(instance.workload)), solve(*instance)
    for h, number in zip(symbolic.half_spaces, found.region.half_spaces[0], strict=True):
        assert symbolic.numeric(h, *instance) == pytest.approx(number, rel=1e-12)
    assert symbolic.numeric(symbolic.max_rate_scale, *instance) == pytest.approx(found.max_rate_scale, rel=1e-12)


@briefly
@given(instances(load=(0.01, 3.0), replica=replicas(plain=True)))
def test_each_line_of_an_iteration_time_has_its_own_half_space(instance: Instance) -> None:
    """M* is the largest of what each line alone would need, so the region is where all their half-spaces hold."""
    found, pieces = solve(*instance), len(instance.replica.iteration_time.pieces)
    lined = [derived_region(len(instance.workload)).of_line(i) for i in range(pieces)]
    for region, row in zip(lined, found.region.half_spaces[:pieces], strict=True):
        for h, number in zip(region.half_spaces, row, strict=True):
            assert region.numeric(h, *instance) == pytest.approx(number, rel=1e-12)
    least = min(region.numeric(region.max_rate_scale, *instance) for region in lined)
    assert least == pytest.approx(found.max_rate_scale, rel=1e-8)  # the half-space of time, at 1 + 3e-9, may bind


def test_a_half_space_of_a_line_is_written_in_the_letters_of_that_line() -> None:
    x = derived(2).symbols
    region = derived_region(2).of_line(2)
    one_line = {x.overhead, x.per_kv_token, x.per_prefill_token, x.per_sequence}
    assert not region.inequality.free_symbols & one_line
    assert sp.latex(region.symbols.per_kv_token) == "d_{1,3}"
    assert region.symbols.rates == x.rates


def test_a_line_that_the_replica_has_not_is_refused() -> None:
    region = derived_region(1).of_line(1)
    with pytest.raises(InputError, match=r"iteration_time must be of at least 2 affine pieces \(got 1\)"):
        region.numeric(region.max_rate_scale, PromptType(2, 3, 0.1), Replica(99, IterationTime(1.0, 0.01)))
    with pytest.raises(InputError, match="line must be a whole number of lines from 0"):
        derived_region(1).of_line(-1)


def changed(instance: Instance, j: int, **by: float) -> tuple[float, float]:
    """M* and 1 - rho after adding to a field of type j; discards the example where no equilibrium exists."""
    types = list(instance.workload.types)
    fields = {name: getattr(types[j], name) + by.get(name, 0) for name in ("prompt_tokens", "output_tokens", "rate")}
    found = solve(Workload([*types[:j], PromptType(**fields), *types[j + 1:]]), instance.replica)
    assume(found.kv_required is not None)
    return found.kv_required, 1 - found.load


def central(instance: Instance, j: int, field: str, step: float) -> tuple[float, float]:
    """(M*(+step) - M*(-step))/2 and what rounding may have done to it: some eps M*/(1 - rho), taken as 1e-12."""
    (above, spare), (below, _) = changed(instance, j, **{field: step}), changed(instance, j, **{field: -step})
    return (above - below) / 2, 1e-12 * above / spare


@briefly
@given(plain, st.integers(0, 4))
def test_slopes_in_a_rate_agree_with_central_differences(instance: Instance, pick: int) -> None:
    """M* = d0 W/D with W and D = 1 - rho linear in lambda_j: a step h gives h M*' D^2/(D^2 - (c_j h)^2), exactly."""
    j, symbolic = pick % len(instance.workload), derived(len(instance.workload))
    step = float(instance.workload.rates[j]) / 2
    difference, noise = central(instance, j, "rate", step)
    D = 1 - symbolic.numeric(symbolic.load, *instance)
    slope, c = (symbolic.numeric(each[j], *instance) for each in (symbolic.rate_sensitivity, symbolic.time_work))
    assert difference == pytest.approx(step * slope * D**2 / (D**2 - (c * step) ** 2), rel=1e-9, abs=noise)


@briefly
@given(plain, st.integers(0, 4))
def test_slopes_in_a_prompt_length_agree_with_central_differences(instance: Instance, pick: int) -> None:
    """W and D = 1 - rho are linear in l_j, D' = -lambda_j (d1 (o + 1) + d2): one token gives M*' D^2/(D^2 - D'^2)."""
    j, symbolic = pick % len(instance.workload), derived(len(instance.workload))
    difference, noise = central(instance, j, "prompt_tokens", 1)
    (_, d1, d2, _), (_, o, rate) = line_and_type(instance, j)
    D, slope = (symbolic.numeric(each, *instance) for each in (1 - symbolic.load, symbolic.prompt_sensitivity[j]))
    assert difference == pytest.approx(slope * D**2 / (D**2 - (rate * (d1 * (o + 1) + d2)) ** 2), rel=1e-9, abs=noise)


@briefly
@given(instances(replica=replicas(lines(), plain=True), least=3), st.integers(0, 4))
def test_slopes_in_an_output_length_agree_with_central_differences(instance: Instance, pick: int) -> None:
    """M* = P/D, both quadratic in o_j, with w' = l + o + 1/2 and w'' = 1.

    P'/(d0 lambda) = w', P''/(d0 lambda) = 1, D' = -lambda (d1 w' + d3), D'' = -lambda d1. With A = P + P''/2 and
    B = D + D''/2 the values one token away are (A +- P')/(B +- D'), half their difference (P' B - A D')/(B^2 - D'^2),
    and P' B - A D' = M*' D^2 + (P' D'' - P'' D')/2 = M*' D^2 + d0 lambda^2 d3/2.
    """
    j, symbolic = pick % len(instance.workload), derived(len(instance.workload))
    difference, noise = central(instance, j, "output_tokens", 1)
    (d0, d1, _, d3), (prompt, o, rate) = line_and_type(instance, j)
    D, slope = (symbolic.numeric(each, *instance) for each in (1 - symbolic.load, symbolic.output_sensitivity[j]))
    B, D1 = D - rate * d1 / 2, rate * (d1 * (prompt + o + 0.5) + d3)
    expected = (slope * D**2 + d0 * rate**2 * d3 / 2) / (B**2 - D1**2)
    assert difference == pytest.approx(expected, rel=1e-9, abs=noise)


def line_and_type(instance: Instance, j: int) -> tuple[tuple[float, ...], tuple[int, int, float]]:
    """d0..d3, and l, o, lambda of type j."""
    each = instance.workload.types[j]
    decodes = each.output_tokens - (instance.replica.first_token == "prefill")
    return instance.replica.iteration_time.pieces[0], (each.prompt_tokens, decodes, each.rate)


def test_a_prompt_type_is_taken_as_a_workload_of_one() -> None:
    replica, each = Replica(9, IterationTime(0.5, 0.05)), PromptType(1, 2, 1.0)
    symbolic = derived(1)
    single = symbolic.numeric(symbolic.kv_required, each, replica)
    assert single == symbolic.numeric(symbolic.kv_required, Workload([each]), replica)


LINE = IterationTime(1.0, 0.01)


@pytest.mark.parametrize(("replica", "complaint"), [
    (Replica(99, LINE, prefill=4), 'prefill must be "whole" (got 4) in the symbolic model'),
    (Replica(99, LINE, prefill="decode-only"), 'prefill must be "whole" (got \'decode-only\') in the symbolic model'),
    (Replica(99, LINE, block=16), "block must be 1 token (got 16) in the symbolic model"),
    (Replica(99, IterationTime.largest(LINE, LINE)),
     "iteration_time must be one affine piece (got 2) in the symbolic model"),
])
def test_a_replica_outside_the_derivation_is_refused_by_name(replica: Replica, complaint: str) -> None:
    equilibrium, region = derived(1), derived_region(1)
    for symbolic, expression in ((equilibrium, equilibrium.kv_required), (region, region.max_rate_scale)):
        with pytest.raises(InputError) as caught:
            symbolic.numeric(expression, PromptType(2, 3, 0.1), replica)
        assert str(caught.value) == complaint


def test_another_number_of_types_is_refused() -> None:
    with pytest.raises(InputError, match=r"workload must be of 2 prompt types \(got 1\)"):
        derived(2).numeric(derived(2).load, PromptType(2, 3, 0.1), Replica(99, LINE))


def test_at_load_one_there_is_no_equilibrium_to_evaluate_but_there_is_an_edge() -> None:
    """w = 3 tokens for 1 + 1, so d1 = 1/3 at one request/s is rho = 1, and h = 1 + d0 w/C = 1 + 3/9."""
    at_one = (PromptType(1, 1, 1.0), Replica(9, IterationTime(1.0, 1 / 3)))
    with pytest.raises(InputError, match="load must be below 1, where an equilibrium exists"):
        derived(1).numeric(derived(1).kv_required, *at_one)
    assert derived_region(1).numeric(derived_region(1).half_spaces[0], *at_one) == pytest.approx(4 / 3)


@pytest.mark.parametrize("types", [0, 9, 1.5, "one", True])
def test_derive_refuses_a_number_of_types_nobody_can_read(types: object) -> None:
    with pytest.raises(InputError, match="types must be a whole number of prompt types from 1 to 8"):
        derive(types)  # type: ignore[arg-type]


def test_importing_fluid_does_not_import_sympy() -> None:
    code = "import sys, fluid; sys.exit('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
