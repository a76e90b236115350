"""Batches in the logs of engines: which lines tell one, which do not, and what is said where none does."""

from pathlib import Path

import numpy as np
import pytest

from fluid import FileError, calibrate, read_batches
from fluid.calibration import engine_logs


@pytest.fixture
def file(tmp_path):
    """Write the lines of a log and return its path."""
    def write(lines: list[str]) -> Path:
        path = tmp_path / "engine.log"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path
    return write


def refusal(path: Path) -> str:
    """The message with which a log is refused: one line."""
    with pytest.raises(FileError) as error:
        read_batches(path)
    assert "\n" not in str(error.value)
    return str(error.value)


SGLANG = [
    "[2025-05-27 20:14:30 TP0] server_args=ServerArgs(decode_log_interval=1)",
    "[2025-05-27 20:14:33 TP0] Prefill batch. #new-seq: 4, #new-token: 1024, #cached-token: 0, token usage: 0.41, "
    "#running-req: 12, #queue-req: 5, ",
    "[2025-05-27 20:14:38 TP0] Decode batch. #running-req: 16, #token: 16000, token usage: 0.71, gen throughput "
    "(token/s): 400.00, #queue-req: 3, ",
    "[2025-05-27 20:14:38 TP0] Decode batch. #running-req: 16, #token: 16016, token usage: 0.71, cuda graph: True, gen "
    "throughput (token/s): 1000.00, #queue-req: 3, ",
    "[2025-05-27 20:14:39 TP0] Decode batch. #running-req: 15, #token: 15015, token usage: 0.71, cuda graph: True, gen "
    "throughput (token/s): 1000.00, #queue-req: 3, ",
]
VLLM = [
    "INFO 02-18 16:20:01 [vllm.py:834] Chunked prefill is enabled with max_num_batched_tokens=8192.",
    "(EngineCore_DP0 pid=1) INFO 02-18 16:20:20 [kv_cache_utils.py:1291] GPU KV cache size: 100,000 tokens",
    "INFO 02-18 16:21:20 [loggers.py:182] Engine 000: Iteration(41): 1 context requests, 512 context tokens, 5 "
    "generation requests, 5 generation tokens, iteration elapsed time: 32.50 ms, GPU KV cache usage: 4.2%",
    "INFO 02-18 16:21:20 [loggers.py:182] Engine 000: Iteration(42): 0 context requests, 0 context tokens, 6 "
    "generation requests, 6 generation tokens, iteration elapsed time: 11.20 ms, GPU KV cache usage: 4.3%",
    "INFO 02-18 16:21:20 [loggers.py:182] Engine 000: Iteration(43): 0 context requests, 0 context tokens, 0 "
    "generation requests, 0 generation tokens, iteration elapsed time: 0.20 ms, GPU KV cache usage: 0.0% (dummy)",
]


def test_sglang_tells_the_iteration_between_two_decode_lines_with_the_same_requests(file):
    """Line 3 follows a prefill and line 5 an end: passed over. Line 4: 16 requests at 1,000 tokens/s take 16 ms an
    iteration, and read (16,000 + 16,016 + 16) / 2 = 16,016 tokens.
    """
    batches = read_batches(file(SGLANG))
    assert batches.lines.tolist() == [4]
    assert (batches.decode_sequences[0], batches.kv_read[0], batches.prefill_tokens[0]) == (16, 16_016, 0)
    assert batches.seconds[0] == 16 / 1000


def test_sglang_lines_forty_iterations_apart_tell_their_mean(file):
    """40 iterations of 16 requests from 16,000 tokens read 16,016, 16,032, ..., 16,640: 16,328 in the mean."""
    after = SGLANG[3].replace("16016", "16640")
    assert read_batches(file([SGLANG[2], after])).kv_read.tolist() == [np.mean(16_000 + 16 * np.arange(1, 41))]


def test_sglang_of_2026_writes_commas_iteration_numbers_and_full_tokens(file):
    def dressed(line: str) -> str:
        return line.replace("Decode batch.", "Decode batch [124],").replace("#token:", "#full token:")
    assert read_batches(file([dressed(line) for line in SGLANG])).kv_read.tolist() == [16_016]


def test_sglang_ranks_are_read_apart(file):
    """A prefill on DP1 says nothing of DP0; the second line of DP1 follows its own prefill."""
    lines = [line.replace("TP0", f"DP{rank} TP0") for line, rank in
             [(SGLANG[2], 0), (SGLANG[2], 1), (SGLANG[1], 1), (SGLANG[3], 0), (SGLANG[3], 1)]]
    assert read_batches(file(lines)).lines.tolist() == [4]


def test_a_log_without_an_iteration_to_be_told_holds_no_batches(file):
    assert "holds no batches" in refusal(file(SGLANG[:3]))


def test_vllm_tells_kv_tokens_as_a_share_of_the_cache(file):
    """4.2% and 4.3% of 100,000 tokens; the dummy iteration is passed over."""
    batches = read_batches(file(VLLM))
    assert batches.lines.tolist() == [3, 4]
    assert batches.kv_read.tolist() == [4200, 4300]
    assert batches.prefill_tokens.tolist() == [512, 0]
    assert batches.sequences.tolist() == [6, 6]
    assert batches.seconds == pytest.approx([0.0325, 0.0112])


@pytest.mark.parametrize(("lines", "problem"), [
    (["INFO [vllm.py:834] Asynchronous scheduling is enabled.", *VLLM], "must be logged with --no-async-scheduling"),
    (VLLM[:1] + VLLM[2:], 'must hold the line "GPU KV cache size'),
    ([line.split(", GPU")[0] for line in VLLM], "must have the GPU KV cache usage in its iteration lines"),
    (VLLM[:2], "must be a CSV file with the columns"),
])
def test_a_vllm_log_that_does_not_tell_enough_is_refused_with_what_to_do(file, lines, problem):
    assert problem in refusal(file(lines))


@pytest.mark.parametrize("line", [
    SGLANG[3].replace("cuda graph", "accept len: 2.40, accept rate: 0.84, cuda graph"),
    VLLM[3].replace("6 generation tokens", "18 generation tokens"),
])
def test_lines_of_speculative_decoding_are_bad_rows(file, line):
    path = file([VLLM[1], VLLM[2], line])
    assert "1 of 2 rows cannot be used: line 3" in refusal(path)
    assert read_batches(path, skip_bad_rows=True).lines.tolist() == [2]


# --- the statistics that vLLM writes every ten seconds ---

CACHE = "INFO 07-28 06:40:00 [kv_cache_utils.py:864] GPU KV cache size: 100,000 tokens"


def average(running: int, throughput: float, usage: float, prompt: float = 0.0, engine: int = 0) -> str:
    """A statistics line of vLLM."""
    return (f"INFO 07-28 06:41:00 [loggers.py:118] Engine {engine:03}: Avg prompt throughput: {prompt} tokens/s, Avg "
            f"generation throughput: {throughput} tokens/s, Running: {running} reqs, Waiting: 0 reqs, GPU KV cache "
            f"usage: {usage}%, Prefix cache hit rate: 0.0%")


STEADY = [average(8, 500.0, 10.0 + i) for i in range(9)]


def test_two_averages_with_the_same_requests_tell_the_mean_iteration_between_them(file):
    """8 requests at 500 tokens/s take 16 ms; the cache fills from 10% to 11% of 100,000 tokens: 10,500 in the mean."""
    batches = read_batches(file([CACHE, *STEADY]))
    assert batches.lines.tolist() == list(range(3, 11))
    assert set(batches.seconds) == {8 / 500}
    assert batches.kv_read.tolist() == [10_500 + 1000 * i for i in range(8)]
    assert set(batches.sequences) == {8}
    assert "each row is a mean over ten seconds" in calibrate(batches).notes[0]


@pytest.mark.parametrize(("line", "rows"), [
    (average(8, 500.0, 19.0, prompt=0.1), 0), (average(9, 500.0, 19.0), 0), (average(0, 0.0, 0.0), 0),
    (average(8, 0.0, 19.0), 0), (average(8, 500.0, 19.0, engine=1), 0), (average(8, 500.0, 19.0), 1)])
def test_an_average_with_prompts_other_requests_or_of_another_engine_tells_nothing(file, line, rows):
    """9 requests after 8 are 12% more: what the mean between is, the line does not say."""
    assert len(read_batches(file([CACHE, *STEADY, line]))) == 8 + rows


def test_a_request_more_among_twenty_is_steady_and_the_line_itself_is_taken(file):
    batches = read_batches(file([CACHE, *STEADY, average(19, 900.0, 20.0), average(20, 1000.0, 30.0)]))
    assert (batches.sequences[-1], batches.kv_read[-1], batches.seconds[-1]) == (20, 30_000, 0.02)


def test_iterations_come_before_averages_in_one_log(file):
    assert read_batches(file([CACHE, *STEADY, *VLLM[1:]])).lines.tolist() == [12, 13]


@pytest.mark.parametrize(("lines", "problem"), [
    (STEADY, 'must hold the line "GPU KV cache size'),
    ([CACHE, *STEADY[:3]], "holds 2 batches that can be told, of 8 at least: 3 statistics lines of vLLM were found"),
    ([CACHE, *(average(8 + 2 * i, 500.0, 10.0) for i in range(9))], "holds no batches that can be told"),
    ([CACHE, *STEADY, "INFO [metrics.py:100] SpecDecoding metrics: Mean acceptance length: 2.1"], "one token a seq"),
])
def test_averages_that_do_not_tell_enough_are_refused_and_the_flags_named(file, lines, problem):
    message = refusal(file(lines))
    assert problem in message
    assert "speculative" in message or "--enable-logging-iteration-details --no-async-scheduling" in message


def test_decode_lines_that_tell_nothing_are_counted_and_the_flag_named(file):
    """Requests end before every line; then none ends, and the tokens stand still."""
    ending = [SGLANG[3].replace("req: 16", f"req: {16 - i}") for i in range(5)]
    message = refusal(file(ending))
    assert "holds no batches: 5 decode lines were found, none after one with the same #running-req" in message
    assert "log with --decode-log-interval 1" in refusal(file([SGLANG[3]] * 5))


# --- lines that no engine wrote ---

DECODES = [SGLANG[2].replace("16000", str(16_000 + 16 * i)) for i in range(3)]


@pytest.mark.parametrize("line", [
    "Decode batch. #running-req: 1, #token: 1, " * 500,
    "Decode batch. #running-req: 1, " + "#token: 1, " * 2000 + "gen throughput (token/s): x" * 1000,
    "Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 1.0 tokens/s, Running: 1 reqs, " * 600,
    "Avg prompt throughput: " + "1" * 60_000, "Decode batch [" + "1" * 60_000, "Iteration(" + "1" * 60_000,
    "GPU KV cache size: " + "1," * 30_000], ids=lambda line: line[:12])
def test_a_line_that_begins_like_one_of_ours_and_never_ends_is_passed_over(file, line):
    """21 KB of the first took half a minute when its gaps were matched in all ways."""
    assert read_batches(file([line, DECODES[0], line, DECODES[1], line])).lines.tolist() == [4]


def test_a_line_too_long_to_be_an_engine_s_is_passed_over(file):
    """A prompt that is logged may hold what looks like a batch."""
    assert read_batches(file([DECODES[0], "x" * 2**16 + DECODES[2], DECODES[1]])).lines.tolist() == [3]


@pytest.mark.parametrize(("lines", "line", "problem"), [
    ([DECODES[0]], DECODES[1].replace("16016", "9" * 400),
     "#token must be a whole number of at most 15 digits (got '" + "9" * 76 + "...)"),
    ([DECODES[0]], DECODES[1].replace("16016", "9" * 5000), "#token must be a whole number of at most 15 digits"),
    ([DECODES[0]], DECODES[1].replace("req: 16", "req: 9007199254740993"),
     "#running-req must be a whole number of at most 15 digits (got '9007199254740993')"),
    ([DECODES[0]], DECODES[1].replace("400.00", "4" * 16 + ".00"),
     "gen throughput must be a number of at most 15 digits before the point (got '4444444444444444.00')"),
    ([], VLLM[1].replace("100,000", ",,,"),
     "GPU KV cache size must be a whole number of at most 15 digits (got ',,,')"),
    ([], VLLM[1].replace("100,000", "9" * 5000), "GPU KV cache size must be a whole number of at most 15 digits"),
    (VLLM[1:2], VLLM[2].replace("512 context", "9" * 5000 + " context"),
     "context tokens must be a whole number of at most 15 digits"),
    (VLLM[1:2], VLLM[2].replace("4.2%", "9" * 400 + "%"), "GPU KV cache usage must be a number of at most 15 digits"),
])
def test_a_number_too_long_in_a_line_is_a_bad_row_that_says_so(file, lines, line, problem):
    message = refusal(file([*lines, line]))
    assert f"1 of 1 rows cannot be used: line {len(lines) + 1}, {problem}" in message
    assert len(message) < 300


def test_digits_of_other_scripts_are_not_read_as_numbers(file):
    """Python's int("\uff11\uff12") is 12."""
    lines = [DECODES[0], DECODES[1].replace("16016", "\uff11\uff12"), DECODES[2]]
    assert read_batches(file(lines)).lines.tolist() == [3]


def test_averages_are_counted_and_too_many_refused(file, monkeypatch):
    monkeypatch.setattr(engine_logs, "MOST_AVERAGES", 7)
    assert "must hold at most 7 statistics lines that tell an iteration" in refusal(file([CACHE, *STEADY]))
