"""Paced WAIT for unknown lengths: the largest window, what it keeps of the fluid limit, and what it answers."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from fluid import InputError, IterationTime, Replica, Workload, solve
from fluid.arrays import Floats, Ints
from thresholds.paced_wait.overflow import OverflowProblem, overflow_problem
from thresholds.paced_wait.unknown import UnknownPacedDesign, paced_unknown
from thresholds.policies import PacedPolicy, from_json, to_json

A100 = Replica(kv_capacity=137_000, iteration_time=IterationTime(overhead=0.0106, per_kv_token=4.013e-7))
BRIEF = Replica(10_000, A100.iteration_time)
MILLION = 1e6 * 0.0106  # seconds: at most a million iterations and one


def chat(cut: str, pairs: int = 20_000, seed: int = 3) -> Workload:
    """Prompts of mean 58 and median 21, outputs of mean 147 and median 117 (lognormal), cut at 500; 1 request/s."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([np.maximum(1, np.rint(rng.lognormal(math.log(median), math.sqrt(2 * math.log(mean / median)),
                                                          2 * pairs)))
                      for mean, median in ((58, 21), (147, 117))]).astype(np.int64)
    drawn = drawn[:, (drawn <= 500).all(axis=0)] if cut == "rejection" else np.minimum(drawn, 500)
    return mixed(*drawn[:, :pairs])


def mixed(prompt: Ints, output: Ints, rate: float = 1.0) -> Workload:
    """Every pair equally likely."""
    return Workload.from_arrays(prompt, output, np.full(len(prompt), rate / len(prompt)))


def brief() -> Workload:
    """200 pairs of up to 50 + 60 tokens."""
    rng = np.random.default_rng(2)
    return mixed(rng.integers(1, 51, 200), rng.integers(1, 61, 200))


def small(seed: int, capacity: int = 400, delta: float = 1e-3, horizon: float = 1e3) -> OverflowProblem:
    """A handful of short pairs on a cache of a few dozen prompts; one second an iteration."""
    rng = np.random.default_rng(seed)
    workload = mixed(rng.integers(1, 12, 6), rng.integers(1, 10, 6))
    return overflow_problem(solve(workload, Replica(capacity, IterationTime(1.0, 0.001))), horizon=horizon,
                            overflow_probability=delta)


def kept_kv(workload: Workload, entries: int, g: int, iterations: int) -> Floats:
    """KV tokens at each iteration with N entries together every g iterations, whole prefill."""
    rng = np.random.default_rng(0)
    cohorts = range(0, iterations, g)
    tokens = np.zeros(iterations + int(workload.output_tokens.max()) + 1)
    for start in cohorts:
        for j in rng.integers(0, len(workload), entries):
            stages = workload.output_tokens[j] + 1
            tokens[start:start + stages] += workload.prompt_tokens[j] + np.arange(stages)
    return tokens[:iterations]


@pytest.mark.parametrize("cut", ["rejection", "clipping"])
def test_chat_like_lengths_keep_93_percent_of_the_fluid_limit(cut: str) -> None:
    """The issue's demand: delta = 1e-3 over a million iterations costs at most 7% of the fluid limit."""
    design = paced_unknown(chat(cut), A100, horizon=MILLION, overflow_probability=1e-3)
    assert design.fluid_share >= 0.93
    assert design.overflow_probability is not None
    assert design.overflow_probability <= 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_no_window_with_a_larger_rate_passes_the_theorem_bound(seed: int) -> None:
    """Every pair N <= 60, g <= stages tried one by one: none with the bound at most delta has a larger N/g."""
    problem = small(seed)
    entries, g = problem.theorem_pair
    assert problem.theorem(entries, g).overflow_probability <= problem.probability * (1 + 1e-9)
    larger = [(n, w) for n, w in product(range(1, 61), range(1, problem.mix.ages + 1)) if n * g > entries * w]
    assert all(problem.theorem(*pair).overflow_probability > problem.probability for pair in larger)


@pytest.mark.parametrize("seed", range(5))
def test_no_window_with_a_larger_rate_passes_the_tight_bound(seed: int) -> None:
    """The same for the tight bound, over the pairs within 15% of the best; it never allows less than the theorem."""
    problem = small(seed)
    entries, g = problem.tight_pair
    assert problem.tight(entries, g).overflow_probability <= problem.probability * (1 + 1e-9)
    assert entries * problem.theorem_pair[1] >= problem.theorem_pair[0] * g
    larger = [(n, w) for w in range(1, problem.mix.ages + 1) for n in range(1, 61)
              if 1.0 < n * g / (entries * w) < 1.15]
    assert all(problem.tight(*pair).overflow_probability > problem.probability for pair in larger)


def test_looking_at_long_lives_in_steps_costs_a_percent_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs of up to 600 tokens, whole or in 100 steps of 6 iterations: the promise is kept, most of N/g too."""
    rng = np.random.default_rng(4)
    equilibrium = solve(mixed(rng.integers(1, 200, 50), rng.integers(1, 601, 50)), A100)
    exact = overflow_problem(equilibrium, horizon=3600.0, overflow_probability=1e-3)
    monkeypatch.setattr("thresholds.paced_wait.overflow.MOST_STEPS", 101)
    coarse = overflow_problem(equilibrium, horizon=3600.0, overflow_probability=1e-3)
    assert (exact.mix.step, coarse.mix.step) == (1, 6)
    entries, g = coarse.tight_pair
    assert coarse.tight(entries, g).overflow_probability <= 1e-3 * (1 + 1e-9)
    assert exact.tight(entries, g).overflow_probability <= coarse.tight(entries, g).overflow_probability
    assert 0.99 < entries / g / (exact.tight_pair[0] / exact.tight_pair[1]) <= 1.0


def test_convolutions_of_several_blocks_as_one_still_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """With at most 3 blocks the same window needs no less, and no wider window is found."""
    fine = small(2)
    monkeypatch.setattr("thresholds.paced_wait.overflow.MOST_BLOCKS", 3)
    coarse = small(2)
    for pair in product((1, 4, 9), (1, 2)):
        assert coarse.tight(*pair).kv_required >= fine.tight(*pair).kv_required
    assert coarse.tight_pair[0] * fine.tight_pair[1] <= fine.tight_pair[0] * coarse.tight_pair[1]


def test_required_tokens_and_probability_say_the_same() -> None:
    """The bound at C is at most delta if and only if the level whose bound is delta is at most C."""
    problem = small(1)
    for pair in product(range(1, 30, 3), range(1, problem.mix.ages + 1)):
        for bound in (problem.theorem(*pair), problem.tight(*pair)):
            assert (bound.overflow_probability <= problem.probability) == (bound.kv_required <= problem.capacity)


def test_the_window_grows_with_room_and_tolerance_and_shrinks_with_the_horizon() -> None:
    """N/g is monotone in C, delta and T."""
    for chain in ([small(0, capacity=c) for c in (100, 200, 400, 800)],
                  [small(0, delta=d) for d in (1e-12, 1e-6, 1e-3, 0.5)],
                  [small(0, horizon=t) for t in (1e9, 1e6, 1e3, 1.0)]):
        rates = [problem.theorem_pair[0] / problem.theorem_pair[1] for problem in chain]
        assert rates == sorted(rates)


def test_one_length_gets_the_worst_case_window_with_certainty() -> None:
    """512 + 1000 tokens: KV <= N sum_b (1512 - b g) for b <= 1000/g, no chance involved, and no larger N/g fits."""
    design = paced_unknown(mixed(np.array([512]), np.array([1000])), A100)

    def worst(n: int, g: int) -> int:
        return n * sum(1512 - b * g for b in range(1000 // g + 1))

    fitting = [(n / g, -n) for n, g in product(range(1, 91), range(1, 1002)) if worst(n, g) <= 137_000]
    entries, g = design.entries[0], design.iterations[0]
    assert (entries / g, -entries) == max(fitting)
    assert design.kv_required == worst(entries, g)
    assert design.overflow_probability == 0.0


def test_base_is_the_mean_of_a_full_window() -> None:
    """(N/g) times the mean KV work, and the simulated mean within 4 standard errors; the peak stays below C."""
    workload = chat("clipping", 2_000)
    design = paced_unknown(workload, A100, horizon=MILLION)
    prompt, output = workload.prompt_tokens, workload.output_tokens
    entries, g = design.entries[0], design.iterations[0]
    assert design.kv_base == pytest.approx(entries / g * np.mean((output + 1) * (prompt + output / 2)))
    tokens = kept_kv(workload, entries, g, 21_000)[1_000:]
    batches = tokens.reshape(20, -1).mean(axis=1)
    assert abs(tokens.mean() - design.kv_base) <= 4 * batches.std(ddof=1) / math.sqrt(20)
    assert tokens.max() <= design.kv_capacity
    assert design.kv_required == pytest.approx(design.kv_base + design.kv_buffer)
    assert design.kv_required <= design.kv_capacity


def test_iteration_time_is_that_of_the_mean_batch() -> None:
    """d0 + d1 (N/g) w + d2 (N/g) l + d3 (N/g) (o + 1), and the larger of two lines."""
    memory, compute = IterationTime(0.01, 4e-7), IterationTime(0.005, 2e-7, 5e-5, 6e-5)
    workload = mixed(np.array([100, 300]), np.array([50, 20]))
    design = paced_unknown(workload, Replica(20_000, IterationTime.largest(memory, compute)))
    rate = design.entries[0] / design.iterations[0]
    work = (51 * 125 + 21 * 310) / 2
    assert design.iteration_time == pytest.approx(max(memory(rate * work), compute(rate * work, rate * 200, rate * 36)))


def test_rates_decide_whether_the_window_carries_them_not_which_it_is() -> None:
    """Scaled to 0.999 of max_rate_scale the same window is feasible, to 1.001 it is not; N/g > n* says the same."""
    workload = brief()
    design = paced_unknown(workload, BRIEF)
    for factor in (0.1, 0.999, 1.001):
        scaled = workload.scaled(factor * design.max_rate_scale)
        again = paced_unknown(scaled, BRIEF)
        assert (again.entries, again.iterations) == (design.entries, design.iterations)
        inventory = solve(scaled, BRIEF).inventory
        assert inventory is not None
        assert again.feasible == (factor < 1) == (again.entries[0] / again.iterations[0] > inventory.sum())
        assert again.max_rate_scale == pytest.approx(1 / factor)
        assert again.fluid_share == pytest.approx(design.fluid_share)


def test_overload_is_an_answer_that_says_how_much_fits() -> None:
    """Beyond the fluid limit, in memory or in time, the window stays and the sentence names the largest rates."""
    workload = brief()
    for scale in (600.0, 1e4):
        design = paced_unknown(workload.scaled(scale), BRIEF)
        assert not design.feasible
        assert design.reason.startswith("infeasible: ")
        assert f"{design.max_rate_scale:.4g} of these rates" in design.reason


def test_a_type_that_never_fits_leaves_no_window() -> None:
    """Largest stage KV above C: nothing to install, numbers are None, the reason is that of the fluid model."""
    workload = mixed(np.array([10, 900]), np.array([10, 200]))
    design = paced_unknown(workload, Replica(1_000, IterationTime(0.01, 1e-6)))
    assert (design.entries, design.iterations, design.feasible, design.max_rate_scale) == ((), (), False, 0.0)
    assert (design.kv_base, design.kv_buffer, design.kv_required, design.iteration_time) == (None,) * 4
    assert (design.theorem, design.tight, design.overflow_probability, design.fluid_share) == (None, None, None, 0.0)
    assert "never fits" in design.reason


@pytest.mark.parametrize(("prefill", "block"), [("whole", 16), ("decode-only", 1), (64, 16)])
def test_other_servers_get_windows_too(prefill: str | int, block: int) -> None:
    """Chunks, blocks and decode-only: a window within delta whose mean KV is below what it requires."""
    design = paced_unknown(chat("clipping", 500), Replica(137_000, A100.iteration_time, prefill, block))
    assert design.kv_base is not None
    assert design.kv_required is not None
    assert design.kv_base < design.kv_required <= 137_000
    assert design.feasible


def test_a_cache_of_one_prompt_serves_one_at_a_time() -> None:
    """C equal to the largest prompt's KV: N = 1 every S iterations needs exactly C, with certainty."""
    design = paced_unknown(mixed(np.array([10, 10]), np.array([5, 9])), Replica(19, IterationTime(1.0, 0.0)))
    assert (design.entries, design.iterations, design.overflow_probability) == ((1,), (10,), 0.0)


@pytest.mark.parametrize("pairs", [100_000, pytest.param(10**6, marks=pytest.mark.slow)])
def test_hundred_thousands_of_pairs_get_a_window(pairs: int) -> None:
    """Random pairs up to 500 + 500 tokens: the design keeps delta."""
    rng = np.random.default_rng(0)
    design = paced_unknown(mixed(rng.integers(1, 501, pairs), rng.integers(1, 501, pairs)), A100)
    assert design.overflow_probability is not None
    assert 0 < design.overflow_probability <= 1e-3


def test_the_installed_part_is_a_paced_policy() -> None:
    """JSON holds one pair for the whole mix and no gate."""
    design = paced_unknown(mixed(np.array([512]), np.array([1000])), A100)
    assert isinstance(design, UnknownPacedDesign)
    assert from_json(to_json(design)) == PacedPolicy(design.entries, design.iterations, gate=False)


@pytest.mark.parametrize(("field", "value"), [("horizon", 0.0), ("horizon", math.inf), ("overflow_probability", 0.0),
                                              ("overflow_probability", 1.0), ("overflow_probability", math.nan)])
def test_unusable_targets_are_refused(field: str, value: float) -> None:
    """The message names the field."""
    with pytest.raises(InputError, match=field):
        paced_unknown(mixed(np.array([5]), np.array([5])), A100, **{field: value})


def test_the_reason_names_both_bounds() -> None:
    """One sentence: the window, the bound that decides and the theorem beside it, the share that is kept."""
    design = paced_unknown(brief(), BRIEF)
    assert design.tight is not None
    for part in (f"{design.entries[0]} prompts in any {design.iterations[0]} iterations", design.tight.method,
                 "block Chernoff alone", "of the fluid limit"):
        assert part in design.reason
    assert design.tight.method in design.tight.guarantee
