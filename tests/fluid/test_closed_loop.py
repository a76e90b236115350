"""The balance of users with a replica: Little's law, the asymptotic bounds, and where they meet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve, solve_users

GPU = Replica(137_000, IterationTime(0.0106, 4.013e-7, 5e-5, 8e-5), first_token="prefill")
MIX = Workload([PromptType(512, 200, 3.0), PromptType(100, 50, 1.0)])


@examples(60)
@given(users=st.integers(1, 5000), think=st.floats(0.0, 100.0))
def test_littles_law_and_the_bounds_hold(users: int, think: float) -> None:
    """N = X (Z + R) below saturation, more at the edge; X is never above min(N/(Z + R_0), edge).

    R = (d0 E S + E c)/(1 - (N - 1)/N rho): alone R_0, of many users E S Delta* + E c/(1 - rho), as Poisson streams.
    """
    loop = solve_users(MIX, GPU, users, think)
    stages = 200 * 0.75 + 50 * 0.25  # first_token = "prefill": a prompt of R tokens takes R iterations
    load = loop.equilibrium.load
    life = (0.0106 * stages + load / loop.rate) / (1 - (users - 1) / users * load)
    assert loop.rate <= loop.most * (1 + 1e-9)
    assert loop.equilibrium.workload.rate == pytest.approx(loop.rate)
    if not loop.saturated:
        assert loop.rate * (think + life) == pytest.approx(users, rel=1e-9)
        assert loop.latency == pytest.approx(life, rel=1e-6)
    else:
        assert loop.rate * (think + life) < users * (1 + 1e-9)


def test_with_a_fixed_iteration_time_the_balance_is_exact_arithmetic() -> None:
    """No work but overhead, no limit: X = N/(Z + S d0), the infinite server."""
    replica = Replica(10**9, IterationTime(0.01, 0.0))
    loop = solve_users(Workload([PromptType(5, 199, 7.0)]), replica, 50, 20.0)  # a prefill and 199 decodes: 2 s
    assert loop.rate == pytest.approx(50 / 22)
    assert loop.alone == pytest.approx(2.0)


def test_the_saturating_users_are_where_the_bounds_meet() -> None:
    """N* = edge (Z + R_0); beyond some more than that the throughput is the edge, and the latency N/edge - Z."""
    loop = solve_users(MIX, GPU, 10, 30.0)
    edge = solve(MIX, GPU).max_rate_scale * MIX.rate
    assert loop.edge == pytest.approx(edge)
    assert loop.saturating == pytest.approx(edge * (30.0 + loop.alone))
    many = solve_users(MIX, GPU, round(3 * loop.saturating), 30.0)
    assert many.saturated
    assert many.rate == pytest.approx(edge)
    assert many.latency == pytest.approx(round(3 * loop.saturating) / edge - 30.0)


def test_throughput_rises_with_users_and_rates_are_proportions() -> None:
    """More users never send less; the total rate of the workload says nothing."""
    rates = [solve_users(MIX, GPU, users, 5.0).rate for users in (1, 10, 100, 1000)]
    assert rates == sorted(rates)
    assert solve_users(MIX.scaled(1e-3), GPU, 100, 5.0).rate == pytest.approx(rates[2], rel=1e-9)


def test_what_has_no_balance_is_refused() -> None:
    """No user, a negative time, a type that never fits."""
    for users, think in ((0, 1.0), (1, -1.0)):
        with pytest.raises(InputError):
            solve_users(MIX, GPU, users, think)
    with pytest.raises(InputError, match="types that fit the replica"):
        solve_users(MIX, Replica(100, IterationTime(0.01, 0.0)), 5, 1.0)
