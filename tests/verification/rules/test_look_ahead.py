"""Look-ahead admission in simulation: what it carries, how seldom it overflows, and when its promise does not hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fluid import IterationTime, Replica, Workload
from thresholds import LookAheadDesign, LookAheadPolicy, look_ahead, paced
from verification import Arrivals, Run, VllmV1, simulate, try_out, verify
from verification.statistics.intervals import least_probability

REPLICA = Replica(6_000, IterationTime(0.01, 4e-6))
MIX = Workload.from_arrays(np.repeat([20, 60], 60), np.tile(np.arange(1, 61), 2), np.full(120, 1 / 120))
ITERATIONS = 20_000


def saturated(design: LookAheadDesign, seed: int = 1) -> Run:
    """A run in which somebody always waits, of some 20,000 iterations."""
    crowd = design.equilibrium.workload.scaled(1.3 * design.equilibrium.max_rate_scale)
    assert design.iteration_time is not None
    return simulate(design, crowd, design.equilibrium.replica, horizon=ITERATIONS * design.iteration_time, seed=seed)


def test_it_carries_what_is_proved_and_about_what_the_fluid_statement_says() -> None:
    """Entries per second from a tenth of the run on; over replications, within 4 standard errors above the proved."""
    design = look_ahead(MIX, REPLICA, horizon=ITERATIONS * 0.01)
    rates = []
    for seed in range(4):
        run = saturated(design, seed)
        assert run.overflows == 0
        rates.append(np.count_nonzero(run.admitted >= run.end_time / 10) / (0.9 * run.end_time) / MIX.rate)
    mean, error = np.mean(rates), np.std(rates, ddof=1) / 2
    assert mean >= design.max_rate_scale - 4 * error
    assert mean == pytest.approx(design.expected_rate_scale, rel=0.01)
    assert design.max_rate_scale > paced(MIX, REPLICA, lengths="unknown", horizon=ITERATIONS * 0.01).max_rate_scale


def test_it_overflows_no_more_often_than_promised() -> None:
    """delta = 0.3 over 400 iterations: in 200 runs the share of those that overflow is not surely above it."""
    design = look_ahead(MIX, REPLICA, horizon=4.0, overflow_probability=0.3)
    crowd = MIX.scaled(3 * design.equilibrium.max_rate_scale)
    overflows = sum(simulate(design, crowd, REPLICA, horizon=4.0, seed=seed).overflows > 0 for seed in range(200))
    assert least_probability(overflows, 200, 0.99) <= 0.3


def test_a_rule_that_allows_more_overflows_at_once() -> None:
    """With chances near one in every iteration the test is of a mean, which KV passes time and again."""
    design = look_ahead(MIX, REPLICA, horizon=4.0)
    lax = LookAheadPolicy(design.prompts, design.step, design.survival, design.points, (1e-6,),
                          (-1e-9,) * len(design.points))
    crowd = MIX.scaled(3 * design.equilibrium.max_rate_scale)
    assert simulate(lax, crowd, REPLICA, horizon=40.0, seed=1).overflows > 0
    assert simulate(design, crowd, REPLICA, horizon=40.0, seed=1).overflows == 0


def test_the_promise_is_of_independent_lengths() -> None:
    """The same requests, the long answers in a row: the residents that the rule takes for mixed all live long."""
    design = look_ahead(MIX, REPLICA, horizon=ITERATIONS * 0.01)
    long, short = (np.flatnonzero(mine) for mine in (MIX.output_tokens > 45, MIX.output_tokens <= 45))
    rng = np.random.default_rng(0)
    burst = np.concatenate([rng.choice(short, 600), rng.choice(long, 200)])
    shuffled = rng.permutation(burst)
    found = [simulate(design, MIX, REPLICA, arrivals=Arrivals(np.zeros(len(kinds)), kinds)).overflows
             for kinds in (burst, shuffled)]
    assert found[0] > 0
    assert found[1] == 0


def test_one_length_never_overflows_and_fills_the_cache() -> None:
    """Nothing is left to chance: KV stays within C on every path, and comes within a prompt of it."""
    workload = Workload.from_arrays([30], [40], [1.0])
    for replica in (REPLICA, replace(REPLICA, block=16), replace(REPLICA, prefill=8)):
        run = saturated(look_ahead(workload, replica))
        assert run.overflows == 0
        assert replica.kv_capacity - 2 * 80 <= run.kv_peak <= replica.kv_capacity


def test_a_cap_on_sequences_is_kept_and_filled() -> None:
    """Batches of at most 30; the rate it carries is theirs."""
    replica = replace(REPLICA, max_num_seqs=30)
    design = look_ahead(MIX, replica)
    run = saturated(design)
    entered = np.count_nonzero(run.admitted >= run.end_time / 10) / (0.9 * run.end_time) / MIX.rate
    assert entered == pytest.approx(design.expected_rate_scale, rel=0.01)
    assert run.overflows == 0


def test_verify_holds_its_promise_among_the_checks() -> None:
    """At 80% of the edge it is stable, every prediction agrees, and the chance of overflow is one of them."""
    design = look_ahead(MIX, REPLICA, horizon=100.0)
    found = verify(design, MIX.scaled(0.8 * design.equilibrium.max_rate_scale), REPLICA, horizon=100.0, replications=4)
    assert found.verified, found.checks
    assert "overflow probability at most" in {check.name for check in found.checks}


def test_tried_beside_the_engine_it_is_never_slower_where_it_admits_at_once() -> None:
    """At 80% of the edge nobody waits under either: the same delays to a hundredth."""
    design = look_ahead(MIX, REPLICA, horizon=100.0)
    mix = MIX.scaled(0.8 * design.equilibrium.max_rate_scale)
    found = try_out([design], mix, REPLICA, horizon=60.0, replications=2)
    mine = next(trial for trial in found.all if not isinstance(trial.policy, VllmV1))
    assert mine.latency.mean == pytest.approx(found.engine.latency.mean, rel=0.01)
