"""What is promised of a trace: with confidence over its requests, or of nothing but the trace in its order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import answer, status, written

REPLICA = "[replica]\nkv_capacity = {cache}\n{cap}[replica.iteration_time]\noverhead = 0.01\nper_kv_token = 1e-6\n"
WORKLOAD = '[workload]\ntrace = "requests.csv"\nrate = {rate}\nlengths = "unknown"\narrivals = "{arrivals}"\n'


def deployment(folder: Path, outputs: np.ndarray, *, rate: float, cap: str = "", arrivals: str = "poisson",
               cache: int = 20_000, target: str = "") -> Path:
    """A deployment of a trace with these outputs, prompts of 20 tokens, ten requests a second."""
    rows = "".join(f"{0.1 * i:.1f},20,{output}\n" for i, output in enumerate(outputs))
    (folder / "requests.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + rows)
    text = REPLICA.format(cap=cap, cache=cache) + WORKLOAD.format(rate=rate, arrivals=arrivals)
    return written(folder, f"{text}[target]\nhorizon = 100.0\n{target}")


def blocks() -> np.ndarray:
    """Every fourth block of 600 requests has outputs of 200 to 300 tokens, the others of 10 to 30."""
    rng = np.random.default_rng(0)
    return np.where(np.arange(4_800) // 600 % 4 == 3, rng.integers(200, 300, 4_800), rng.integers(10, 30, 4_800))


def test_a_trace_with_long_requests_in_blocks_gets_no_number_and_never_overflows(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON has no overflow probability but the test's p-value; replays stay under `kv_required`."""
    file = deployment(tmp_path, blocks(), rate=20.0, arrivals="trace")
    code, found = answer(capsys, "thresholds", file, "--policy", "paced")
    assert (code, found["feasible"], found["in_order"], found["overflow_probability"]) == (0, True, True, None)
    assert (found["rows"], found["confidence"], found["lengths_p_value"]) == (4_800, None, 0.005)
    assert "nothing is promised of other traffic" in found["reason"]
    _, run = answer(capsys, "verify", file, "--policy", "paced", "--replications", 3)
    assert run["overflow_runs"] == 0
    assert run["kv_peak"] <= found["kv_required"] <= 20_000


def test_a_trace_of_independent_lengths_is_promised_with_confidence(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, confidence and the longest request stand beside the number; more confidence carries less."""
    outputs = np.random.default_rng(1).integers(10, 60, 2_000)
    scales = []
    for confidence in (0.9, 0.999):
        file = deployment(tmp_path, outputs, rate=20.0, cap="max_model_len = 200\n",
                          target=f"confidence = {confidence}\n")
        _, found = answer(capsys, "thresholds", file, "--policy", "paced")
        assert not found["in_order"]
        assert 0 <= found["overflow_probability"] <= 1e-3
        assert (found["rows"], found["confidence"], found["max_model_len"]) == (2_000, confidence, 200)
        assert found["lengths_p_value"] > 0.01
        scales.append(found["max_rate_scale"])
    assert scales[0] > scales[1] > 0


def test_without_a_longest_request_independent_lengths_get_a_window_for_their_order_too(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing rules out a request as long as the cache: no number, and the key that would give one is named."""
    file = deployment(tmp_path, np.random.default_rng(1).integers(10, 60, 2_000), rate=20.0)
    _, found = answer(capsys, "thresholds", file, "--policy", "paced")
    assert (found["in_order"], found["overflow_probability"], found["confidence"]) == (True, None, None)
    assert found["lengths_p_value"] > 0.01
    assert found["max_model_len"] is None
    assert "(replica.max_model_len)" in found["reason"]


def test_the_report_says_on_what_a_promise_rests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sentences of both kinds of trace."""
    outputs = np.random.default_rng(1).integers(10, 60, 2_000)
    for rows, words in ((outputs, "with confidence 95% over 2,000 rows"), (np.sort(outputs), "replayed in its order")):
        file = deployment(tmp_path, rows, rate=20.0, cap="max_model_len = 200\n")
        status(["thresholds", str(file), "--policy", "paced"])
        assert words in " ".join(capsys.readouterr().out.split())


def test_a_request_longer_than_the_engine_takes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names the trace's pair, the key and the number."""
    file = deployment(tmp_path, np.array([10, 500]), rate=1.0, cap="max_model_len = 300\n")
    assert status(["solve", str(file)]) == 2
    error = capsys.readouterr().err
    assert "max_model_len" in error
    assert "520" in error
    assert error.count("\n") == 1


def test_given_types_are_the_law_and_have_no_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rates stated by the user: the promise is as it was, rows and confidence are null."""
    text = REPLICA.format(cap="", cache=20_000) + '[workload]\nlengths = "unknown"\n'
    text += "".join(f"[[workload.type]]\nprompt_tokens = 20\noutput_tokens = {o}\nrate = 5.0\n" for o in (10, 60))
    _, found = answer(capsys, "thresholds", written(tmp_path, text), "--policy", "paced")
    assert 0 < found["overflow_probability"] <= 1e-3
    assert (found["rows"], found["confidence"], found["in_order"]) == (None, None, False)
    assert {"theorem", "tight"} == set(found["bounds"])


def test_what_is_installed_says_what_it_promises(tmp_path: Path) -> None:
    """Under async scheduling requests are a token longer, also where the longest has as many as the engine takes."""
    outputs = np.random.default_rng(1).integers(10, 61, 2_000)
    for rows, words in ((outputs, "with confidence 95% over 2,000 independent rows"),
                        (np.sort(outputs), "of other traffic nothing is promised")):
        file = deployment(tmp_path, rows, rate=5.0, cap="max_model_len = 80\n")
        assert status(["thresholds", str(file), "--install", "vllm", "--out", str(tmp_path)]) == 0
        assert words in (tmp_path / "paced_scheduler.py").read_text()
