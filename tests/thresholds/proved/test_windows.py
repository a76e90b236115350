"""Windows with their proofs: against the envelope, the search for the largest rate, literal sums, and runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fluid import IterationTime, PromptType, Replica, Workload, solve
from fluid.bounds.ignorance import under_ignorance
from fluid.uncertainty import Box, ChiSquareBall, Ellipsoid
from fluid.uncertainty.worst import UncertaintySet
from thresholds import paced
from thresholds.mean_time import Batch, longest_mean
from thresholds.paced_wait.random_prompt import LengthMix
from thresholds.paced_wait.tail_bounds import block_sums
from thresholds.policies import PacedPolicy
from thresholds.proved.chance import chance_window, chance_windows
from thresholds.proved.majorant import majorant
from thresholds.proved.window import sure_windows, with_proof
from thresholds.reachable import reachable
from verification import simulate

ONE = IterationTime(0.0106, 4.013e-7)
APART = IterationTime.largest(IterationTime(0.01, 4e-7), IterationTime(0.01, 0.0, 1e-4))
CHAT = Workload([PromptType(64, 20, 8.0), PromptType(64, 120, 3.0), PromptType(300, 400, 0.5)])


@pytest.mark.parametrize("seed", range(8))
def test_the_line_above_all_batches_is_the_concave_envelope_at_the_mean(seed: int) -> None:
    """Above every batch of the box, and at the mean exactly the envelope: strong duality."""
    generator = np.random.default_rng(seed)
    lines = IterationTime.largest(*(IterationTime(*generator.uniform(0.001, 1.0, 4)) for _ in range(3)))
    most = Batch(*generator.uniform(1.0, 50.0, 3))
    mean = Batch(*(np.array(most) * generator.uniform(0.0, 1.0, 3)))
    b = majorant(lines, mean, most)
    batches = generator.uniform(size=(500, 3)).round(1) * np.array(most)
    assert all(b @ [1, *batch] >= lines(*batch) * (1 - 1e-12) for batch in batches)
    assert b.min() >= 0
    assert b @ [1, *mean] == pytest.approx(longest_mean(lines, mean, most), rel=1e-9)


@pytest.mark.parametrize("time", [ONE, APART, IterationTime(0.01, 2e-7, 3e-5, 1e-5)])
def test_windows_by_type_carry_what_the_search_found(time: IterationTime) -> None:
    """The factor is that of `reachable`, or more; the cache and nobody's limit are kept to."""
    balance = solve(CHAT, Replica(30_000, time, max_num_seqs=200))
    found = sure_windows(balance)
    assert found is not None
    assert found.factor >= reachable(balance).scale * (1 - 2e-6)
    assert found.factor <= balance.impossible.anyone.scale
    assert found.kv_bound <= 30_000
    assert found.sequences <= 200


def test_whole_thresholds_are_windows_of_an_iteration() -> None:
    """With entries in every iteration b is exact at the full batch, and the factor that of load balance."""
    balance = solve(CHAT, Replica(300_000, APART))
    found = with_proof(balance, PacedPolicy((1, 1, 1), (1, 1, 1), False))
    full = APART(*(float(each.sum()) for each in (balance.profile.kv_read, balance.profile.prefilled,
                                                  balance.profile.stages)))
    assert found.kv_bound == balance.profile.kv_work.sum()
    assert found.factor == pytest.approx(1 / (full * CHAT.rates.max()), rel=1e-8)


def test_one_window_for_the_mix_never_overflows_and_is_no_better_than_ignorance_allows() -> None:
    """A run at 95% of what it is proved to carry keeps its bound; that on who knows no length is above it."""
    replica = Replica(30_000, ONE)
    balance = solve(CHAT, replica)
    found = sure_windows(balance, known=False)
    assert found is not None
    assert not found.by_type
    run = simulate(found.policy, CHAT.scaled(0.95 * found.factor), replica, horizon=400.0, seed=1)
    assert run.overflows == 0
    assert 0.1 * found.kv_bound < run.kv_peak <= found.kv_bound <= 30_000
    assert found.factor <= under_ignorance(balance.profile, CHAT.rates, replica).scale


@pytest.mark.parametrize("replica", [
    Replica(40_000, ONE), Replica(40_000, ONE, block=16, prefill=48), Replica(40_000, ONE, attention_window=64),
    Replica(40_000, ONE, max_num_seqs=60),
])
def test_the_chance_is_chernoffs_sum_age_by_age(replica: Replica) -> None:
    """Recomputed from the stages of the types alone, it is at most what was asked; paced's own bound is near."""
    balance = solve(CHAT, replica)
    found = chance_window(balance, 3600.0, 1e-3)
    assert found is not None
    profile, share = balance.profile, CHAT.rates / CHAT.rate
    (entries,), (g,) = found.windows.policy.entries, found.windows.policy.iterations
    last = int(profile.stages.max()) + found.window - 1
    mean = np.ones(last)
    for j in range(len(CHAT)):
        for e in range(int(profile.stages[j]) + found.window - 1):
            beyond = e - int(profile.stages[j]) + 1
            context = profile.prompt[j] + profile.decode[j] + beyond
            held = float(profile.layout.held(np.array(context))) if beyond > 0 else float(profile.stage_kv(j)[e])
            mean[e] += share[j] * math.expm1(found.theta * held)
    blocks: dict[int, float] = {}
    for e in range(last):
        b = (e - found.offset) // g
        blocks[b] = max(blocks.get(b, 0.0), math.log(mean[e]))
    chance = found.terms * math.exp(entries * sum(blocks.values()) - found.theta * 40_000)
    assert chance == pytest.approx(found.probability, rel=1e-6)
    assert found.probability <= 1e-3
    design = paced(CHAT, replica, lengths="unknown", overflow_probability=1e-3)
    assert 0.85 * design.max_rate_scale < found.windows.factor < 1.02 * design.max_rate_scale


@pytest.mark.parametrize("possible", [
    Box.around(CHAT.rates, 0.3), ChiSquareBall(CHAT.rates, 0.05, CHAT.rate), Ellipsoid(CHAT.rates, CHAT.rates**2, 0.3),
])
def test_the_chance_of_a_hedged_window_holds_for_every_mix_of_the_set(possible: UncertaintySet) -> None:
    """At worst points in 200 directions Chernoff's sum of the mix is at most the bound; the window is no wider."""
    balance = solve(CHAT, Replica(40_000, ONE))
    stated, found = chance_windows(balance, 3600.0, 1e-3, possible)
    assert stated is not None
    assert found is not None
    assert found.worst is not None
    assert found.probability <= found.worst <= 1e-3
    assert found.windows.factor <= stated.windows.factor * (1 + 1e-9)
    (entries,), (g,) = found.windows.policy.entries, found.windows.policy.iterations
    for slope in np.random.default_rng(1).normal(size=(200, 3)):
        mix = LengthMix.of(balance.profile, np.maximum(possible.worst(slope).point, 0.0))
        each = block_sums(mix.log_mgf(found.theta, found.window)[None, :], g)[0][found.offset]
        assert found.terms * math.exp(entries * each - found.theta * 40_000) <= found.worst * (1 + 1e-9)


def test_half_spaces_of_windows_hold_where_their_factor_says() -> None:
    """At the factor the fullest row is just below 1; rows are linear in the rates."""
    for known in (True, False):
        found = sure_windows(solve(CHAT, Replica(30_000, ONE)), known)
        assert found is not None
        loads = found.rows @ (found.factor * CHAT.rates)
        assert loads.max() == pytest.approx(1.0, rel=1e-8)
        assert loads.max() < 1


def test_a_type_that_never_fits_has_no_windows() -> None:
    """There is none to prove anything of."""
    balance = solve(Workload([PromptType(500, 600, 1.0)]), Replica(1000, ONE))
    assert sure_windows(balance) is None
    assert chance_window(balance, 60.0, 1e-3) is None
