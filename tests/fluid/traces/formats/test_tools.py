"""Traces as tools write them, read without a word; what a benchmark says of its traffic is not passed over."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tool_files import ROWS, TOOLS, aiperf, benchmark, guidellm, lines, llmperf, run, sglang, written

from fluid import FileError, Trace, read_trace
from fluid.files import text_file
from fluid.traces.summary import summarise


def lengths(trace: Trace) -> list[tuple[int, int]]:
    """The lengths of the requests, in order."""
    return list(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True))


def refusal(path: Path, **options: Any) -> str:
    """What `read_trace` says of a file it refuses, less the file's name; one line."""
    with pytest.raises(FileError) as caught:
        read_trace(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


PAIRS = [(prompt, output) for _, prompt, output in ROWS]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("zipped", [False, True])
def test_the_files_of_tools_are_read_by_themselves(tmp_path: Path, monkeypatch: Any, tool: str, zipped: bool) -> None:
    """Four requests within 4 s, whatever the unit, and however the text is cut into blocks."""
    name, text = TOOLS[tool]
    path = written(tmp_path, gzip.compress(text.encode()) if zipped else text, name)
    for block in (2**20, 150):
        monkeypatch.setattr(text_file, "BLOCK", block)
        monkeypatch.setattr(text_file, "MOST_LINE_ENDS", block)
        trace = read_trace(path, format=tool.partition(",")[0]) if block == 150 else read_trace(path)
        assert trace.times is not None
        assert trace.times.tolist() == [time for time, _, _ in ROWS]
        assert (lengths(trace), trace.format, trace.notes) == (PAIRS, tool.partition(",")[0], ())


def test_a_qwen_trace_has_seconds_and_blocks_of_16_tokens(tmp_path: Path) -> None:
    """The first block of each prompt is the same: 16 tokens of 396, 374 and 91 were seen before, of 1,235 in all."""
    trace = read_trace(written(tmp_path, TOOLS["bailian"][1]))
    assert summarise(trace).repeated_share == pytest.approx(3 * 16 / 1235)


def test_failed_cancelled_and_warm_up_records_of_aiperf_are_left_out(tmp_path: Path) -> None:
    failed = aiperf(1.0, 5, 5, error={"code": 499}, metrics={"error_isl": {"value": 5, "unit": "tokens"}})
    cancelled, warm_up = aiperf(1.5, 5, 5), aiperf(-9.0, 5, 5)
    cancelled["metadata"]["was_cancelled"], warm_up["metadata"]["benchmark_phase"] = True, "warmup"
    trace = read_trace(written(tmp_path, lines([warm_up, failed, cancelled, *(aiperf(*row) for row in ROWS)])))
    assert (lengths(trace), trace.failed, trace.duration) == (PAIRS, 2, 4.0)
    assert trace.notes == ("requests of the warm-up are left out",)


def test_responses_of_llmperf_have_lengths_and_no_moments(tmp_path: Path) -> None:
    text = json.dumps([*(llmperf(p, o) for p, o in PAIRS), llmperf(7, 0, error=500)], indent=4)
    trace = read_trace(written(tmp_path, text))
    assert (lengths(trace), trace.format, trace.failed, trace.times, trace.rate) == (PAIRS, "llmperf", 1, None, None)


@pytest.mark.parametrize(("said", "reason"), [
    ({"request_rate": "inf", "start_times": [9.0, 9.001, 9.002, 9.003]}, "request_rate is inf: all requests were sent"),
    ({"request_rate": float("inf"), "start_times": None}, "request_rate is inf: all requests were sent at once"),
    ({"request_rate": "inf", "max_concurrency": 8}, "request_rate is inf with at most 8 requests under way: each was"),
    ({"start_times": [9.0, 9.0, 9.0, 9.0]}, "all 4 requests were sent within 0 s, so no traffic rate is in the file"),
    ({"request_rate": None, "start_times": [9.0, 9.0001, 9.0002, 9.0003]}, "all 4 requests were sent within 0.0003 s"),
])
def test_a_benchmark_that_sent_everything_at_once_has_lengths_and_no_rate(tmp_path: Path, said: dict[str, Any],
                                                                          reason: str) -> None:
    given = {key: value for key, value in run(**said).items() if value is not None}
    trace = read_trace(written(tmp_path, json.dumps(given)))
    assert (lengths(trace), trace.times, trace.duration, trace.rate) == (PAIRS, None, None, None)
    assert trace.notes[0].startswith(reason)


@pytest.mark.parametrize(("said", "notes"), [
    ({}, ()), ({"ramp_up_strategy": "linear", "request_rate": "inf"}, ()),
    ({"request_rate": "inf"}, ()),  # start times over 4 of 6 s: a trace that times itself
    ({"max_concurrency": 8}, ("the client had at most 8 requests under way: arrivals beyond were late",)),
])
def test_a_benchmark_at_a_rate_has_its_start_times(tmp_path: Path, said: dict[str, Any], notes: Any) -> None:
    trace = read_trace(written(tmp_path, json.dumps(run(**said))))
    assert (trace.rate, trace.notes) == (1.0, notes)


def test_a_run_without_start_times_says_what_its_client_was_asked_for(tmp_path: Path) -> None:
    """4 requests over the 6 s of the run; 2.5/s were asked for."""
    trace = read_trace(written(tmp_path, json.dumps(sglang(2.5))))
    assert (trace.format, trace.rate) == ("sglang", 4 / 6)
    assert trace.notes == ("the client was asked for 2.5 requests/s, and the file has no start times",)


def test_of_several_runs_one_is_chosen_or_all_lengths_are_taken_and_no_rate(tmp_path: Path, monkeypatch: Any) -> None:
    """As sglang.bench_serving and vllm bench serve --append-result write them, an object a line, or indented."""
    runs = [sglang(2.0), sglang(float("inf"), max_concurrency=4), sglang(4.0, duration=2.0)]
    for text in (lines(runs), "\n".join(json.dumps(each, indent=1) for each in runs)):
        path = written(tmp_path, text)
        monkeypatch.setattr(text_file, "BLOCK", 700)  # of 900 characters that a run has
        monkeypatch.setattr(text_file, "MOST_LINE_ENDS", 700)
        trace = read_trace(path)
        assert (len(trace), trace.rate, trace.notes) == (12, None, (
            "the file holds 3 runs, which have no traffic rate together: --run chooses one",))
        assert trace.runs == tuple(f"4 requests completed at request_rate {rate}" for rate in ("2", "inf", "4"))
        assert read_trace(path, run=3).rate == 2.0
        assert read_trace(path, run=2).rate is None
        assert read_trace(written(tmp_path, text + '\n{"completed": 4, "duration": 1}', "more.json"), run=3).rate == 2.0
        assert refusal(path, run=4) == "must have a run 4 (it has 3): choose with --run"
        monkeypatch.undo()
    assert refusal(written(tmp_path, TOOLS["bailian"][1]), run=1) == (
        "holds one run: --run goes with results of several")


@pytest.mark.parametrize("strategy", ["concurrent", "synchronous", "throughput"])
def test_a_strategy_of_guidellm_that_follows_the_server_is_no_traffic(tmp_path: Path, strategy: str) -> None:
    text = json.dumps({"benchmarks": [benchmark([guidellm(*row) for row in ROWS], strategy)]})
    trace = read_trace(written(tmp_path, text))
    assert (len(trace), trace.times, trace.rate) == (4, None, None)
    assert trace.notes[0].startswith(f"the strategy is {strategy}: requests were sent as fast as the server took them")


def test_a_sweep_of_guidellm_has_runs(tmp_path: Path) -> None:
    """Failed requests of the run that is chosen are counted."""
    fast = benchmark([guidellm(time / 2, p, o) for time, p, o in ROWS], "constant", errored=[guidellm(1.0, 5, 5)])
    path = written(tmp_path, json.dumps({"benchmarks": [benchmark([guidellm(*ROWS[0])], "synchronous"), fast]}))
    assert (len(read_trace(path)), read_trace(path).rate) == (5, None)
    chosen = read_trace(path, run=2)
    assert (lengths(chosen), chosen.duration, chosen.failed, chosen.notes) == (PAIRS, 2.0, 1, ())


def test_a_sample_of_a_run_of_guidellm_has_no_rate(tmp_path: Path) -> None:
    one = {**benchmark([guidellm(*row) for row in ROWS]), "request_totals": {"successful": 400}}
    trace = read_trace(written(tmp_path, json.dumps({"benchmarks": [one]})))
    assert trace.notes == ("the file holds a sample of 4 of 400 requests, so no traffic rate is in it",)
    assert trace.rate is None


def test_sessions_have_lengths_and_their_requests_no_moments(tmp_path: Path) -> None:
    session = {"session_id": "a", "arrival_time_ns": 5, "sub_requests": [
        {"input_toks": 10, "output_toks": 2, "tool_duration_ns": 7}, {"input_toks": 15, "output_toks": 3}]}
    flat = {"input_toks": 9, "output_toks": 1, "arrival_time_ns": 0}
    trace = read_trace(written(tmp_path, lines([session, flat])))
    assert (sorted(lengths(trace)), trace.rate) == ([(9, 1), (10, 2), (15, 3)], None)
    assert trace.notes[0].startswith("requests of a session are sent when the one before them has been answered")


def turn(who: str, tokens: Any, key: str = "num_tokens") -> dict[str, Any]:
    return {"from": who, "value": "text", key: tokens}


@pytest.mark.parametrize("conversation", [
    {"id": "a", "conversations": [turn("human", 10), turn("gpt", 4), turn("human", 6), turn("gpt", 5)]},
    {"messages": [{"role": "user", "content": "", "tokens": [1] * 10}, {"role": "assistant", "tokens": [1] * 4},
                  {"role": "user", "token_count": 6}, {"role": "assistant", "token_count": 5}]},
])
def test_every_answer_of_a_conversation_is_a_request_behind_all_turns_before_it(tmp_path: Path,
                                                                               conversation: Any) -> None:
    """10 tokens are answered with 4; 10 + 4 + 6 with 5."""
    for text in (json.dumps([conversation, conversation], indent=1), lines([conversation, conversation])):
        trace = read_trace(written(tmp_path, text))
        assert (lengths(trace), trace.format, trace.times) == ([(10, 4), (20, 5)] * 2, "sharegpt", None)


def test_an_answer_with_its_usage_is_a_request(tmp_path: Path) -> None:
    record = {"messages": [{"role": "user", "content": "hi"}], "usage": {"prompt_tokens": 12, "completion_tokens": 3}}
    assert lengths(read_trace(written(tmp_path, lines([record])))) == [(12, 3)]


@pytest.mark.parametrize(("content", "problem"), [
    (json.dumps([{"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}]),
     "has conversations without token counts, which depend on the tokenizer of the model: it must have a count at each "
     "turn, under num_tokens, token_count, tokens, or prompt_tokens and completion_tokens under usage"),
    (json.dumps({"backend": "sglang", "duration": 5.0, "completed": 4, "total_input_tokens": 9, "input_throughput": 1}),
     "input_lens must be a list of tokens by request, which sglang.bench_serving writes with --output-details"),
    (json.dumps({"backend": "vllm", "duration": 5.0, "completed": 4, "total_input_tokens": 9}),
     "input_lens must be a list of tokens by request, which vllm bench serve writes with --save-result --save-det"),
    (lines([{"timestamp": 5, "input_length": 9}]),
     "is in no known format (mooncake without output_length): name its keys of prompt and output tokens, "
     "--prompt-column and --output-column, and of arrival times, --time-column (its keys are input_length, timestamp)"),
    ("[]", "must be JSON, an object a line or one list or object, or a CSV"),
    ("TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,1\n",
     "is in no known format (azure without GeneratedTokens): name its columns of prompt and output tokens, "
     "--prompt-column and --output-column, and of arrival times, --time-column (its columns are TIMESTAMP, "
     "ContextTokens)"),
    (json.dumps({"benchmarks": [benchmark([guidellm(*ROWS[0])])]})[:-9], "must be one JSON object, as GuideLLM writes"),
])
def test_what_is_missing_is_named_with_what_supplies_it(tmp_path: Path, content: str, problem: str) -> None:
    assert refusal(written(tmp_path, content)).startswith(problem)
