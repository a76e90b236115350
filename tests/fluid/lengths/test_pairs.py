"""Few lengths keep the chance, the mean and the variance of a law, few pairs the mean of everything linear in these."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from fluid import InputError, IterationTime, LengthPairs, Lengths, Replica, Workload, solve, stage_profile

PROMPTS = Lengths.lognormal(mean=150, p95=400, max=819)
OUTPUTS = Lengths.geometric(mean=60, max=400)
GPU = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.01e-7, 5e-5, 8e-5), max_num_seqs=256)


@examples(200)
@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=80).filter(lambda p: sum(p) > 0.1), st.integers(1, 9),
       st.integers(1, 500))
def test_cells_keep_chance_mean_and_variance(weights: list[float], cells: int, first: int) -> None:
    """Of any law, in any number of cells: nothing is negative, at most three lengths a cell, inside its limits."""
    law = Lengths(np.arange(first, first + len(weights)), np.array(weights) / sum(weights))
    few = law.in_cells(cells)
    assert len(few.tokens) <= 3 * cells
    assert few.probabilities.min() > 0
    assert few.tokens[0] >= law.tokens[0]
    assert few.tokens[-1] <= law.tokens[-1]
    assert few.probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert few.mean == pytest.approx(law.mean, rel=1e-9)
    assert few.variance == pytest.approx(law.variance, rel=1e-8, abs=1e-7)


def test_more_cells_come_closer_to_the_law() -> None:
    """The largest distance between the distribution functions falls with the number of cells."""
    def off(cells: int) -> float:
        few = PROMPTS.in_cells(cells)
        grid = PROMPTS.tokens
        exact = np.cumsum(PROMPTS.probabilities)
        places = np.searchsorted(few.tokens, grid, side="right")
        return float(np.abs(np.concatenate([[0.0], np.cumsum(few.probabilities)])[places] - exact).max())

    errors = [off(cells) for cells in (2, 8, 32)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


def all_pairs(prompts: Lengths, outputs: Lengths) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of two laws and its chance."""
    prompt, output = np.meshgrid(prompts.tokens, outputs.tokens, indexing="ij")
    return prompt.ravel(), output.ravel(), np.outer(prompts.probabilities, outputs.probabilities).ravel()


@pytest.mark.parametrize("bins", [9, 40, 500, 2000])
def test_pairs_keep_the_means_of_lengths_and_kv_work(bins: int) -> None:
    """Sums over all 327,600 pairs of two laws: of l, R, KV work, KV read and time work."""
    prompt, output, chances = all_pairs(PROMPTS, OUTPUTS)
    every = Workload.from_arrays(prompt, output, chances)
    few = Workload.from_lengths(PROMPTS, OUTPUTS, 1.0, bins=bins)
    assert len(few) <= bins
    means = [(w.rates @ w.prompt_tokens, w.rates @ w.output_tokens, w.rates @ stage_profile(w, GPU).kv_work,
              *(stage_profile(w, GPU).time_work(GPU.iteration_time) @ w.rates)) for w in (every, few)]
    assert means[1] == pytest.approx(means[0], rel=1e-9)
    pairs = LengthPairs(PROMPTS, OUTPUTS, bins=bins)
    assert pairs.mean_kv_work == pytest.approx(means[0][2], rel=1e-9)
    assert abs(pairs.kv_work_error) < 1e-9


def test_the_equilibrium_is_that_of_all_pairs() -> None:
    """Load, iteration time and edge of few pairs are those of the laws; with blocks of 16 KV is to 1e-3."""
    prompt, output, chances = all_pairs(PROMPTS, OUTPUTS)
    every = Workload.from_arrays(prompt, output, 8 * chances)
    few = Workload.from_lengths(PROMPTS, OUTPUTS, 8.0, bins=500)
    exact, found = solve(every, GPU), solve(few, GPU)
    assert found.iteration_time == pytest.approx(exact.iteration_time, rel=1e-9)
    assert found.max_rate_scale == pytest.approx(exact.max_rate_scale, rel=1e-9)
    blocks = Replica(kv_capacity=137_000, iteration_time=GPU.iteration_time, block=16)
    assert solve(few, blocks).kv_required == pytest.approx(solve(every, blocks).kv_required, rel=1e-3)


def test_laws_of_few_lengths_are_kept_as_they_are() -> None:
    """Every pair is a type where there are no more than the bins; what one law does not need is the other's."""
    both = LengthPairs(Lengths.uniform(1, 4), Lengths.uniform(10, 30), name="chat")
    assert both.exact
    assert len(both.chances) == 84
    assert both.names[0] == "chat 1+10"
    one = LengthPairs(Lengths.fixed(512), Lengths.geometric(mean=300), bins=90)
    assert len(one.few_prompts.tokens) == 1
    assert len(one.few_outputs.tokens) == 90
    assert LengthPairs(Lengths.fixed(5), Lengths.fixed(6)).names == ["5+6"]


def test_too_few_bins_are_refused() -> None:
    """Three lengths of each law are the fewest that keep its mean and variance."""
    with pytest.raises(InputError, match="bins must be a whole number of types from 9"):
        Workload.from_lengths(PROMPTS, OUTPUTS, 1.0, bins=8)
    with pytest.raises(InputError, match="prompt must be Lengths"):
        Workload.from_lengths("long", OUTPUTS, 1.0)  # type: ignore[arg-type]


def test_a_number_is_a_law_of_one_length() -> None:
    """Fixed lengths make the one type that they are."""
    assert Workload.from_lengths(512, 20, 2.0) == Workload.from_arrays([512], [20], [2.0])
