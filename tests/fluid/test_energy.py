"""Energy at equilibrium: arithmetic by hand, limits with known answers, parts that add up."""

import math

import pytest
from hypothesis import given
from strategies import replicas, sampled, workloads

from fluid import InputError, IterationTime, Power, PromptType, Replica, Workload, energy_at, solve
from fluid.energy import idle_share

POWER = Power(idle=80.0, busy=400.0, overhead=260.0)


def at(workload, iteration_time, **options):
    """The energy of a mix on a replica of much memory."""
    return energy_at(solve(workload, Replica(10**9, iteration_time, power=POWER, **options)))


def test_joules_of_ten_seconds_by_hand():
    """2 s idle, 2 s of overheads, 6 s of work: 2 x 70 + 2 x 400 + 6 x 650 = 4,840 J."""
    assert Power(idle=70, busy=650, overhead=400).joules(10.0, busy=8.0, fixed=2.0) == 4840.0


def test_without_an_overhead_of_its_own_power_is_constant_while_iterations_run():
    assert Power(idle=70, busy=650).fixed == 650.0


@pytest.mark.parametrize(("watts", "field"), [
    ({"idle": 0, "busy": 1}, "idle"), ({"idle": 2, "busy": 1}, "idle"),
    ({"idle": 1, "busy": 2, "overhead": 3}, "overhead"), ({"idle": 1, "busy": math.inf}, "busy")])
def test_powers_are_positive_and_in_order(watts, field):
    with pytest.raises(InputError) as error:
        Power(**watts)
    assert error.value.field in (field, "overhead")


def test_a_server_without_overhead_is_idle_for_the_rest_of_its_load():
    """With d0 negligible the idle share of a shared server is 1 - rho, here 1 - 2 x (0.1 + 9 x 0.02) = 0.44."""
    energy = at(Workload([PromptType(1, 9, 2.0)]), IterationTime(1e-12, 0.0, 0.1, 0.018))
    assert energy.idle_share == pytest.approx(1 - 2 * (0.1 + 10 * 0.018), rel=1e-6)


def test_requests_that_add_nothing_to_an_iteration_are_poisson_in_number():
    """M/D/infinity: each stays S d0 = 10 x 0.01 s, so nobody is there for exp(-3 x 0.1) of the time."""
    energy = at(Workload([PromptType(1, 9, 3.0)]), IterationTime(0.01, 0.0))
    assert energy.idle_share == pytest.approx(math.exp(-0.3))
    assert energy.watts == pytest.approx(math.exp(-0.3) * 80 + (1 - math.exp(-0.3)) * 260)


@pytest.mark.parametrize(("load", "overheads"), [(0.3, 0.5), (0.8, 2.0), (0.05, 4.0)])
def test_the_idle_share_is_the_sum_of_its_product_form(load, overheads):
    """1 / sum_n prod_{k <= n} (rho + a/k), added up until nothing more comes."""
    term, total = 1.0, 1.0
    for k in range(1, 2000):
        term *= load + overheads / k
        total += term
    assert idle_share(load, overheads) == pytest.approx(1 / total, rel=1e-9)


@sampled
@given(workloads(least=2), replicas())
def test_parts_and_types_add_up_to_all_watts(workload, replica):
    """Watts lie between idle and busy; what types cost at their rates is all of it."""
    energy = energy_at(solve(workload, Replica(**{**vars(replica), "power": POWER})))
    if energy is not None:
        assert 80 * (1 - 1e-9) <= energy.watts <= 400 * (1 + 1e-9)
        assert energy.by_type @ workload.rates == pytest.approx(energy.watts)
        assert energy.per_request * workload.rate == pytest.approx(energy.per_output_token * workload.rates
                                                                   @ workload.output_tokens)
        assert min(energy.parts) >= -1e-9 * energy.watts


def test_a_prefilled_token_costs_its_time_at_full_power():
    """p_1 d2 = 400 W x 50 us = 20 mJ, whatever the load."""
    energy = at(Workload([PromptType(500, 20, 3.0)]), IterationTime(0.01, 1e-9, 50e-6))
    assert energy.per_prefill_token == pytest.approx(0.02)


def test_nothing_is_said_without_a_power_or_beyond_a_limit():
    workload = Workload([PromptType(512, 20, 20.0)])
    iteration = IterationTime(0.0106, 4.013e-7)
    assert energy_at(solve(workload, Replica(137_000, iteration))) is None
    assert energy_at(solve(workload, Replica(1_000, iteration, power=POWER))) is None
