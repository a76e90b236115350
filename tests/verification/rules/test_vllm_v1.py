"""vLLM V1: the recordings of the engine's own scheduler, by hand, at its limits, and what it refuses."""

from __future__ import annotations

import csv
import gzip
import json
from typing import Any

import numpy as np
import pytest
from shared_data import SHARED_DATA

from fluid import IterationTime, PromptType, Replica, Workload
from fluid.errors import InputError
from verification import Arrivals, Run, VllmV1, simulate

SECOND = IterationTime(1.0, 0.0)
PER_TOKEN = IterationTime(1.0, 0.0, per_prefill_token=0.25)
RECORDINGS = SHARED_DATA / "vllm_v1" / "index.json"
# vLLM 0.33's AsyncScheduler on the same arrivals, in the order of events of its `step_with_batch_queue`:
# preemptions, mean moment of the first token and of the finish (`benchmarks/vllm_scheduler.py --asynchronous`)
ASYNCHRONOUS = {
    "run00": (215, 61.39444206758968, 63.475829367590016), "run02": (202, 38.88794695977364, 41.24792680977369),
    "run05": (57, 35.96431056728561, 38.17443132728563), "run07": (104, 9.401457400820677, 10.376895160820686),
    "run08": (18, 38.31457889164355, 40.39302074414362), "run09": (117, 23.322579797144886, 26.078943007144826),
    "run14": (68, 43.227549568749616, 45.29404471624977), "run15": (0, 15.840086365421987, 16.447490100422026),
}


def played(policy: VllmV1, prompt: int, output: int, times: list[float], capacity: int,
           time: IterationTime = SECOND, **replica: Any) -> Run:
    """One type on explicit arrivals, with its timeline; the prefill makes the first token."""
    server = Replica(capacity, time, first_token="prefill", **replica)
    return simulate(policy, Workload([PromptType(prompt, output, 1.0)]), server, record=True,
                    arrivals=Arrivals(times, [0] * len(times)))


def rows(run: Run) -> list[tuple[int, int]]:
    """KV tokens and sequences of each iteration."""
    assert run.timeline is not None
    return list(zip(run.timeline.kv.tolist(), run.timeline.batch.tolist(), strict=True))


def recordings() -> list[dict[str, Any]]:
    """The settings and totals of each recording; none where the shared data is not."""
    return json.loads(RECORDINGS.read_text()) if RECORDINGS.exists() else []


@pytest.mark.skipif(not RECORDINGS.exists(), reason="the shared data is not here")
def test_there_are_recordings() -> None:
    assert len(recordings()) >= 8


def replayed(setting: dict[str, Any], asynchronous: bool = False) -> tuple[Run, dict[str, np.ndarray]]:
    """Our run of a recording's requests under its settings, and the recording by column."""
    with gzip.open(RECORDINGS.with_name(setting["run"] + ".csv.gz"), "rt") as file:
        columns = {name: np.array(values, dtype=float) for name, *values in zip(*csv.reader(file), strict=True)}
    pairs = np.stack([columns["prompt_tokens"], columns["output_tokens"]], axis=1).astype(int)
    lengths, types = np.unique(pairs, axis=0, return_inverse=True)
    time = IterationTime(*(setting[name] for name in ("overhead", "per_kv_token", "per_prefill_token")))
    replica = Replica(setting["kv_blocks"] * setting["block"], time, block=setting["block"], first_token="prefill",
                      max_num_seqs=setting["max_num_seqs"])
    policy = VllmV1(setting["max_num_batched_tokens"], setting["watermark"], setting["scheduler_reserve_full_isl"],
                    asynchronous=asynchronous)
    return simulate(policy, Workload.from_arrays(*lengths.T, np.ones(len(lengths))), replica,
                    arrivals=Arrivals(columns["arrival_s"], types.ravel())), columns


@pytest.mark.parametrize("setting", recordings(), ids=lambda setting: setting["run"])
def test_the_engines_own_scheduler_is_reproduced_request_by_request(setting: dict[str, Any]) -> None:
    """vLLM 0.33 in virtual time: every first token and every finish to 1e-9, preemptions and iterations to the unit."""
    run, columns = replayed(setting)
    np.testing.assert_allclose(run.first_token, columns["first_token_s"], rtol=1e-9)
    np.testing.assert_allclose(run.finished, columns["finished_s"], rtol=1e-9)
    assert (run.evictions, run.iterations) == (setting["preemptions"], setting["iterations"])


@pytest.mark.parametrize("setting", recordings(), ids=lambda setting: setting["run"])
def test_so_is_its_async_scheduler(setting: dict[str, Any]) -> None:
    """Means of 400 requests to 1e-12: all of them were compared, to 2e-13, when these numbers were taken."""
    run, _ = replayed(setting, asynchronous=True)
    preemptions, first, finished = ASYNCHRONOUS[setting["run"]]
    assert run.evictions == preemptions
    assert run.first_token.mean() == pytest.approx(first, rel=1e-12)
    assert run.finished.mean() == pytest.approx(finished, rel=1e-12)


def test_async_scheduling_sees_arrivals_and_freed_places_a_step_late() -> None:
    """2 + 2 tokens, one place, a second an iteration: the second, there from 0.5 on, is first seen at 1, when the last
    token of the first is being made; at 2, where nobody took a token, it enters. In step it enters at 2 as well; with
    two places at 2 instead of 1.
    """
    late = VllmV1(asynchronous=True)
    for places, admitted in ((1, 2.0), (2, 2.0)):
        np.testing.assert_array_equal(played(late, 2, 2, [0, 0.5], 100, max_num_seqs=places).admitted, [0, admitted])
    np.testing.assert_array_equal(played(VllmV1(), 2, 2, [0, 0.5], 100, max_num_seqs=2).admitted, [0, 1])


def test_async_scheduling_holds_the_blocks_of_a_request_until_the_decision_after_its_last_token() -> None:
    """3 + 2 tokens, C = 9, four at once. The last step is the fourth's alone; decided while the last token of the third
    was being made, it finds the 4 of that held beside its own 4. In step they are free.
    """
    late, in_step = (rows(played(VllmV1(asynchronous=each), 3, 2, [0, 0, 0, 0], 9)) for each in (True, False))
    assert in_step == [(9, 3), (8, 2), (7, 2), (4, 1)]
    assert late == [(9, 3), (8, 2), (7, 2), (8, 1)]


def test_a_preempted_request_keeps_its_tokens_and_a_step_that_preempts_admits_no_one() -> None:
    """2 + 3 tokens, C = 7, three at once. Prefilled together, 6, each has a token. At 3 + 3 + 3 the third goes, at
    4 + 4 the second, and the first ends alone. Then 2 + 2 and 2 + 1 tokens are prefilled, which makes the last of the
    second and the second of the third.
    """
    run = played(VllmV1(), 2, 3, [0, 0, 0], 7, PER_TOKEN)
    assert rows(run) == [(6, 3), (6, 2), (4, 1), (7, 2), (4, 1)]
    assert run.timeline is not None
    np.testing.assert_array_equal(run.timeline.duration, [2.5, 1, 1, 2.75, 1])
    np.testing.assert_array_equal(run.first_token, [2.5, 2.5, 2.5])
    np.testing.assert_array_equal(run.finished, [4.5, 7.25, 8.25])
    assert run.evictions == 2


def test_with_restart_the_tokens_are_made_again() -> None:
    """As before until 3; then two prompts of 2, 4, 3 + 3, and 4 + 4 is too much once more."""
    run = played(VllmV1(eviction="restart"), 2, 3, [0, 0, 0], 7)
    assert rows(run) == [(6, 3), (6, 2), (4, 1), (4, 2), (6, 2), (4, 1), (2, 1), (3, 1), (4, 1)]
    np.testing.assert_array_equal(run.first_token, [1, 4, 7])


@pytest.mark.parametrize(("reserve", "capacity", "admitted", "first"), [
    (True, 12, 1.0, 3.0), (True, 11, 2.0, 4.0), (False, 11, 1.0, 3.0)])
def test_running_requests_come_first_and_the_head_takes_what_is_left_if_its_prompt_fits(
        reserve: bool, capacity: int, admitted: float, first: float) -> None:
    """6 + 1 tokens, a budget of 4: A takes 4, then 2, B 2 beside these if 6 + 6 fit or only 6 + 2 must; then 4."""
    run = played(VllmV1(4, reserve_full_prompt=reserve), 6, 1, [0, 0], capacity)
    np.testing.assert_array_equal(run.admitted, [0, admitted])
    np.testing.assert_array_equal(run.first_token, [2, first])


@pytest.mark.parametrize(("watermark", "admitted"), [(0.0, 0.0), (0.19, 0.0), (0.28, 2.0), (0.99, 2.0)])
def test_the_watermark_counts_whole_blocks_and_only_while_something_runs(watermark: float, admitted: float) -> None:
    """Ten blocks of 2, prompts of 8 tokens, 2 + 1 made: beside the first 6 blocks are free, so that 4 + W fit while
    W = floor(11 watermark) <= 2. The first enters whatever is to be kept free.
    """
    run = played(VllmV1(watermark=watermark), 8, 2, [0, 0], 21, block=2)
    np.testing.assert_array_equal(run.admitted, [0.0, admitted])


@pytest.mark.parametrize(("times", "iterations"), [([0.0], 1), ([0.0, 0.0], 4)])
def test_a_long_prefill_is_cut_only_where_others_are_there(times: list[float], iterations: int) -> None:
    """12 tokens under a threshold of 3: at once if alone, else 3 in each of four iterations, together."""
    run = played(VllmV1(100, long_prefill_token_threshold=3), 12, 1, times, 100)
    assert run.iterations == iterations


def test_the_last_token_is_never_written_and_what_could_never_fit_is_rejected() -> None:
    """6 + 4 tokens hold 9 at the end."""
    assert played(VllmV1(), 6, 4, [0], 9).completed == 1
    assert played(VllmV1(), 6, 4, [0], 8).rejected == 1


@pytest.mark.parametrize(("make", "message"), [
    (lambda: VllmV1(0), "max_num_batched_tokens must be"),
    (lambda: VllmV1(None), "max_num_batched_tokens must be"),
    (lambda: VllmV1(watermark=1.0), r"watermark must be a share of the KV cache in \[0, 1\) \(got 1.0\)"),
    (lambda: VllmV1(long_prefill_token_threshold=0), "long_prefill_token_threshold must be"),
    (lambda: VllmV1(reserve_full_prompt=1), "reserve_full_prompt must be True or False"),
    (lambda: VllmV1(asynchronous="yes"), "asynchronous must be True or False"),
    (lambda: played(VllmV1(8), 2, 2, [0], 9, max_num_seqs=16), "max_num_batched_tokens must be at least max_num_seqs"),
])
def test_settings_the_engine_refuses_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
