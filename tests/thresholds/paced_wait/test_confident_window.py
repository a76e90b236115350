"""Windows promised with confidence over rows: the number F, its bound on Chernoff's exponent, promises kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fluid import InputError, IterationTime, Replica, StageProfile, Workload, solve, stage_profile
from fluid.arrays import Floats, Ints
from thresholds.paced_wait.block_scores import block_means, scores
from thresholds.paced_wait.confident_window import confident_window
from thresholds.paced_wait.overflow import overflow_problem
from thresholds.paced_wait.random_prompt import LengthMix
from thresholds.paced_wait.tail_bounds import block_sums
from thresholds.paced_wait.unknown import paced_unknown
from thresholds.rows import Rows

TAU = IterationTime(0.01, 1e-6)
LONGEST = 400  # tokens of a request
SMALL = Replica(6_000, TAU, max_model_len=LONGEST)
KINDS = {"whole": Replica(10**6, TAU), "blocks": Replica(10**6, TAU, block=16),
         "chunks": Replica(10**6, TAU, prefill=7), "decode only": Replica(10**6, TAU, prefill="decode-only"),
         "mixed layers": Replica(10**6, TAU, attention_window=20, windowed_layers=(2, 3), state=5)}


def drawn(seed: int, count: int) -> tuple[Ints, Ints]:
    """Prompts and outputs of a heavy-tailed law (lognormal, sigma 1.2), cut so that no request is longer than L."""
    rng = np.random.default_rng([seed, count])
    output = np.minimum(np.rint(rng.lognormal(math.log(15), 1.2, count)) + 1, LONGEST - 40).astype(np.int64)
    return rng.integers(1, 41, count), output


def plain_scores(profile: StageProfile, j: int, theta: float, g: int, window: int, start: int) -> Floats:
    """phi_b - 1 block by block, from the KV at every age: that at a + k - 1 while a is a stage, were it to go on."""
    stages, layout = int(profile.stages[j]), profile.layout
    ends = np.arange(stages + window - 1)
    base = profile.prompt[j] - profile.prefill_stages[j] + 1
    context = np.where(ends < profile.prefill_stages[j] - 1, profile.chunk[j] * (ends + 1), base + ends)
    y = np.expm1(theta * layout.held(context))
    edges = range(start - g if start else 0, stages + window - 1, g)
    return np.array([y[max(edge, 0):edge + g].max() for edge in edges])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("g", "window", "start"), [(1, 1, 0), (4, 1, 3), (5, 3, 0), (7, 8, 2)])
def test_scores_are_sums_over_the_blocks_a_prompt_lives_through(kind: str, g: int, window: int, start: int) -> None:
    """Against the KV of every age, on whole, chunked and no prefill, cache blocks, mixed layers with a state."""
    profile = stage_profile(Workload.from_arrays([3, 30, 11], [40, 2, 9], [1.0, 1.0, 1.0]), KINDS[kind])
    rows = [plain_scores(profile, j, 0.01, g, window, start) for j in range(3)]
    weights = 1.0 + np.arange(1 + (int(profile.stages.max()) + window - 1) // g + 1)
    expected = [row @ weights[: row.size] for row in rows]
    np.testing.assert_allclose(scores(profile, weights, 0.01, g, window, start), expected, rtol=1e-12)
    means = block_means(profile, np.array([0.5, 0.3, 0.2]), 0.01, g, window, start)
    for b in range(means.size):
        assert means[b] == pytest.approx(sum(w * row[b] for w, row in zip((0.5, 0.3, 0.2), rows, strict=True)
                                             if b < row.size))


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_of_one_number_bounds_the_exponent_of_chernoff(seed: int) -> None:
    """sum_b max ln E phi <= E F for any u, with equality at the best u but for the largest inside the mean."""
    rng = np.random.default_rng(seed)
    workload = Workload.from_arrays(*drawn(seed, 50), np.ones(50))
    profile = stage_profile(workload, SMALL)
    mix, theta, g, window, start = LengthMix.of(profile, workload.rates), 0.003, 3, 2, int(rng.integers(0, 3))
    exponent = block_sums(mix.log_mgf(theta, window), g)[start]
    means = 1 + block_means(profile, np.full(50, 1 / 50), theta, g, window, start)
    for u in (means, means * rng.uniform(0.5, 2.0, means.size), np.ones(means.size)):
        mean = np.sum(np.log(u) - 1 + 1 / u) + scores(profile, 1 / u, theta, g, window, start).mean()
        assert exponent <= mean * (1 + 1e-12)
        assert np.sum(np.log(means)) <= mean * (1 + 1e-12)
    assert np.sum(np.log(means)) < 1.2 * exponent


@pytest.mark.parametrize("kind", KINDS)
def test_the_staircase_covers_every_request(kind: str) -> None:
    """No request of at most 60 tokens scores more than the largest of the staircase, whatever its lengths."""
    replica = KINDS[kind]
    rows = Rows.of(2, solve(Workload.from_arrays([2], [3], [1.0]),
                            Replica(replica.kv_capacity, TAU, replica.prefill, replica.block, max_model_len=60,
                                    attention_window=replica.attention_window, windowed_layers=replica.windowed_layers,
                                    state=replica.state)), 0.9)
    prompt, output = (each.ravel() for each in np.meshgrid(np.arange(1, 60), np.arange(1, 60)))
    inside = prompt + output <= 60
    every = stage_profile(Workload.from_arrays(prompt[inside], output[inside], np.ones(inside.sum())), replica)
    weights = np.random.default_rng(0).uniform(0, 1, 100)
    assert scores(every, weights, 0.02, 2, 3, 1).max() <= scores(rows.profile, weights, 0.02, 2, 3, 1)[1:].max()


def least_overflow(entries: int, g: int, law: LengthMix, iterations: float) -> float:
    """P(overflow) at least: N entries every g iterations; KV at moments so far apart that nobody is there twice.

    The law of KV at one moment is the N-fold convolution of those of each age, g apart, by transforms of 2^14 tokens.
    """
    size = 2**14
    spectrum = np.ones(size // 2 + 1, dtype=np.complex128)
    for age in range(g - 1, law.ages, g):
        alive = law.stages > age
        tokens = np.bincount((law.base[law.kind] + age)[alive], law.probability[alive], size)
        tokens[0] += law.probability[~alive].sum()
        spectrum *= np.fft.rfft(tokens)
    chance = np.fft.irfft(spectrum**entries, size)[SMALL.kv_capacity + 1:].sum()
    return float(-np.expm1(iterations / law.ages * np.log1p(-min(max(chance - 1e-12, 0.0), 0.5))))


def test_promises_from_few_rows_are_broken_without_confidence_and_kept_with_it() -> None:
    """30 designs from 60 rows each of a lognormal law, delta = 1e-3 over an hour; the chance from the true law.

    A design is broken if an exact lower bound of its chance exceeds the promise: without confidence several are; with
    95% at most 5% may be, so more than 5 of 30 would be less likely than 1e-3 (binomial).
    """
    prompt, output = drawn(99, 400_000)
    truth = Workload.from_arrays(prompt, output, np.full(prompt.size, 1 / prompt.size))
    law = LengthMix.of(stage_profile(truth, SMALL), truth.rates)
    broken = {"without": 0, "with": 0}
    for seed in range(30):
        seen = solve(Workload.from_arrays(*drawn(seed, 60), np.full(60, 1 / 60)), SMALL)
        problem = overflow_problem(seen, horizon=3600.0, overflow_probability=1e-3)
        without = problem.theorem_pair
        with_confidence = confident_window(Rows.of(60, seen, 0.95), problem)[:2]
        for name, (entries, g) in (("without", without), ("with", with_confidence)):
            broken[name] += least_overflow(entries, g, law, problem.iterations) > 1e-3
    assert broken["without"] >= 5
    assert broken["with"] <= 5


def test_more_rows_carry_more_and_less_than_the_law_of_the_rows() -> None:
    """Shares of the fluid limit rise with the rows: 50, 500, 5,000; all stay below what the law itself would carry."""
    shares = []
    for count in (50, 500, 5000):
        workload = Workload.from_arrays(*drawn(7, count), np.full(count, 1 / count))
        design = paced_unknown(workload, SMALL, rows=count)
        assert design.overflow_probability is not None
        assert design.overflow_probability <= 1e-3
        assert design.kv_required is not None
        assert design.kv_required <= SMALL.kv_capacity
        shares.append(design.fluid_share)
        assert design.fluid_share < design.of_the_rows.fluid_share
    assert shares == sorted(shares)


def test_rows_that_do_not_rule_out_long_requests_admit_one_at_a_time() -> None:
    """Ten rows: a third of all requests may be as long as the cache is large; the sentence says so, and what to say."""
    workload = Workload.from_arrays(*drawn(1, 10), np.ones(10))
    design = paced_unknown(workload, Replica(6_000, TAU), rows=10)
    assert (design.entries, design.feasible, design.overflow_probability) == ((1,), False, 0.0)
    assert "10 rows do not rule out that 0.3 of all requests have 6,000 tokens" in design.reason
    assert "max_model_len" in design.reason


@pytest.mark.parametrize(("rows", "replica", "field"), [
    (7, SMALL, "rows"), (1, SMALL, "rows"), (1.5, SMALL, "rows"),
    (4, Replica(6_000, TAU, max_model_len=50), "max_model")])
def test_rows_that_cannot_be_behind_a_workload_are_refused(rows: int, replica: Replica, field: str) -> None:
    """Two types at equal rates have an even number of rows; none is longer than max_model_len."""
    with pytest.raises(InputError, match=field):
        paced_unknown(Workload.from_arrays([10, 20], [30, 40], [1.0, 1.0]), replica, rows=rows)
