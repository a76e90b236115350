"""How many lines are given, what a fit is refused for, and errors by region of batches."""

import tomllib

import numpy as np
import pytest

from fluid import Batches, InputError, IterationTime, PromptType, Replica, Workload, calibrate, solve

NOISE = 0.02
GRID = np.array([(n, n * context, int(prompt > 0), prompt) for n in (0, 1, 4, 16, 64, 128)
                 for context in (128, 512, 1024) for prompt in (0, 64, 256, 1024, 2048) if n + prompt > 0], dtype=float)


def batches(seconds: np.ndarray, grid: np.ndarray = GRID) -> Batches:
    decode, kv, prefill, tokens = grid.T
    return Batches.from_arrays(decode, kv, seconds, prefill_sequences=prefill, prefill_tokens=tokens)


def timed(truth: IterationTime, seed: int, grid: np.ndarray = GRID) -> Batches:
    decode, kv, prefill, tokens = grid.T
    exact = np.array([truth(*each) for each in zip(kv + tokens, tokens, decode + prefill, strict=True)])
    return batches(exact * (1 + NOISE * np.random.default_rng(seed).standard_normal(exact.size)), grid)


@pytest.mark.parametrize("seed", range(5))
def test_two_lines_are_given_where_the_batches_have_two(seed):
    truth = IterationTime.largest(IterationTime(0.012, 2.5e-7), IterationTime(0.008, 2.5e-7, 60e-6, 60e-6))
    found = calibrate(timed(truth, seed), pieces=2)
    assert len(found.pieces) == 2
    one, two = found.held_out
    assert (one.pieces, two.pieces) == (1, 2)
    assert two.error < one.error
    assert len(found.one_line.pieces) == 1


@pytest.mark.parametrize("seed", range(5))
def test_one_line_is_given_where_a_second_forecasts_no_better_and_a_note_says_so(seed):
    found = calibrate(timed(IterationTime(0.0106, 4e-7, 60e-6, 40e-6), seed), pieces=2)
    assert len(found.pieces) == 1
    assert found.one_line is None
    assert any(note.startswith("one line is given: more do not forecast") for note in found.notes)


def test_held_out_errors_are_those_of_noise_where_the_lines_are_true():
    """E|e| = sd sqrt(2/pi); 100 rows know it to 0.76 / sqrt(100), 8%, of itself, and the coefficients add little."""
    found = calibrate(timed(IterationTime(0.0106, 4e-7, 60e-6, 40e-6), 1), pieces=2)
    for error in found.held_out[0].regions.values():
        assert error == pytest.approx(NOISE * np.sqrt(2 / np.pi), rel=0.45)


def test_errors_are_given_by_region_and_their_rows_add_up():
    """Prefill-only batches that take 30% longer than the line of all others: fitted 0.3 / 1.3 = 23% too short."""
    measured = timed(IterationTime(0.0106, 4e-7, 60e-6, 40e-6), 3)
    alone = measured.decode_sequences == 0
    found = calibrate(batches(measured.seconds * np.where(alone, 1.3, 1.0)))
    assert [each.name for each in found.regions] == ["decode-only", "mixed", "prefill-only"]
    assert sum(each.rows for each in found.regions) == found.rows
    assert sum(each.outliers for each in found.regions) == found.outliers
    last = found.regions[-1]
    assert last.bias is None or last.bias < -0.1
    assert any("prefill-only batches" in note for note in found.notes)


def test_a_fit_to_some_rows_that_is_worse_than_a_constant_for_all_is_refused_in_one_line():
    """60 rows of 10 ms + 0.4 us a token, exactly, and 50 of another setting, that fall from 400 to 50 ms meanwhile."""
    kv = np.concatenate([np.linspace(1000, 100_000, 60), np.linspace(1000, 100_000, 50)]).round()
    seconds = np.concatenate([0.01 + 4e-7 * kv[:60], np.linspace(0.4, 0.05, 50)])
    with pytest.raises(InputError, match="the fit must be no worse than a constant") as error:
        calibrate(Batches.from_arrays(1, kv, seconds))
    assert "\n" not in str(error.value)


def test_times_that_follow_no_count_are_called_so():
    """Between 10 and 40 ms whatever the batch."""
    found = calibrate(batches(np.random.default_rng(1).uniform(0.01, 0.04, len(GRID))))
    assert any("follow none of their counts" in note for note in found.notes)


def test_coefficients_that_are_not_told_are_left_out_of_the_section():
    """Decodes only, 512 tokens each: sequences and KV tokens are one column, and nothing prefills."""
    n = np.arange(1.0, 65.0)
    text = calibrate(Batches.from_arrays(n, 512 * n, 0.01 + 2e-4 * n)).to_toml()
    assert set(tomllib.loads(text)["replica"]["iteration_time"]) == {"overhead", "per_kv_token"}
    assert "# per_prefill_token, per_sequence left out" in text


def test_a_deployment_that_prefills_beside_decodes_is_warned_where_no_batch_does():
    grid = GRID[(GRID[:, 0] == 0) | (GRID[:, 3] == 0)]
    found = calibrate(timed(IterationTime(0.0106, 4e-7, 60e-6, 40e-6), 1, grid))
    balance = solve(Workload([PromptType(100, 100, 5.0)]), Replica(137_000, found.iteration_time))
    (warning,) = found.warnings_for(balance)
    assert warning.endswith("no measured batch decodes and prefills")
