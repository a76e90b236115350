"""Traces as tools write them, small: each kind with the requests that are in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROWS = [(0.0, 374, 44), (0.5, 396, 109), (2.0, 374, 44), (4.0, 91, 16)]  # seconds, prompt tokens, output tokens
EPOCH = 1_759_813_207_532_900_363  # ns since 1970


def lines(objects: list[dict[str, Any]]) -> str:
    """An object a line."""
    return "".join(json.dumps(each) + "\n" for each in objects)


def aiperf(start: float, prompt: int, output: int, **changes: Any) -> dict[str, Any]:
    """A record of profile_export.jsonl: first token after 200 ms, end after 2 s."""
    begin = EPOCH + round(start * 1e9)
    record = {"metadata": {"session_num": 0, "benchmark_phase": "profiling", "request_start_ns": begin,
                           "request_ack_ns": begin + 10**7, "request_end_ns": begin + 2 * 10**9, "worker_id": "w",
                           "was_cancelled": False},
              "metrics": {"input_sequence_length": {"value": prompt, "unit": "tokens"},
                          "output_sequence_length": {"value": output, "unit": "tokens"},
                          "time_to_first_token": {"value": 200.0, "unit": "ms"},
                          "inter_chunk_latency": {"value": [4.9, 5.3], "unit": "ms"}}, "error": None}
    return {**record, **changes}


def guidellm(start: float, prompt: int, output: int) -> dict[str, Any]:
    """A successful request of GuideLLM: first token after 0.2 s, end after 2 s."""
    begin = 1_759_813_207.5 + start
    return {"type_": "generative_request_stats", "request_id": "r", "output": "text } ] with \"brackets\"",
            "info": {"status": "completed", "timings": {
                "request_start": begin, "first_token_iteration": begin + 0.2, "request_end": begin + 2.0}},
            "input_metrics": {"text_tokens": prompt}, "request_start_time": begin, "request_end_time": begin + 2.0,
            "prompt_tokens": prompt, "output_tokens": output, "time_to_first_token_ms": 200.0}


def old_guidellm(start: float, prompt: int, output: int) -> dict[str, Any]:
    """The same before version 0.4."""
    begin = 1_759_813_207.5 + start
    return {"type_": "generative_text_response", "prompt": "p", "output": "o", "prompt_tokens": prompt,
            "output_tokens": output, "start_time": begin, "end_time": begin + 2.0, "first_token_time": begin + 0.2}


def benchmark(requests: list[dict[str, Any]], strategy: str = "poisson", **others: Any) -> dict[str, Any]:
    """One benchmark of GuideLLM."""
    return {"type_": "generative_benchmark", "config": {"strategy": {"type_": strategy, "rate": 2.0}},
            "metrics": {"requests_per_second": {"successful": {"mean": 1.0, "percentiles": {"p50": 1.0}}}},
            "requests": {"successful": requests, "incomplete": [], "errored": others.get("errored", [])}}


def run(**changes: Any) -> dict[str, Any]:
    """A run of vllm bench serve: first tokens after 0.2 s, ends after 2 s."""
    start = 5000.25
    return {"date": "20250822-101010", "backend": "vllm", "endpoint_type": "openai", "num_prompts": len(ROWS),
            "request_rate": 1.0, "burstiness": 1.0, "max_concurrency": None, "duration": 6.0, "completed": len(ROWS),
            "total_input_tokens": 1235, "input_lens": [p for _, p, _ in ROWS], "output_lens": [o for _, _, o in ROWS],
            "ttfts": [0.2] * len(ROWS), "itls": [[0.9, 0.9]] * len(ROWS),
            "start_times": [start + t for t, _, _ in ROWS], "generated_texts": ["a [ \" }"] * len(ROWS),
            "errors": [""] * len(ROWS), **changes}


def sglang(rate: float, **changes: Any) -> dict[str, Any]:
    """A run of sglang.bench_serving with --output-details: it has no start times."""
    given = run(request_rate=rate, backend="sglang", dataset_name="random", input_throughput=5.0,
                total_output_tokens_retokenized=9, server_info={"internal_states": [{"a": [1, {}]}]}, **changes)
    return {key: value for key, value in given.items() if key not in ("start_times", "endpoint_type")}


def llmperf(prompt: int, output: int, error: Any = None) -> dict[str, Any]:
    """A response of individual_responses.json."""
    return {"error_code": error, "error_msg": "", "inter_token_latency_s": 0.05, "ttft_s": 0.2,
            "end_to_end_latency_s": 2.0, "request_output_throughput_token_per_s": 20.0,
            "number_total_tokens": prompt + output, "number_output_tokens": output, "number_input_tokens": prompt}


HEAD = "instance id,request id,model,input,output,arrival,end_time,latency,queuing_delay,TTFT,TPOT,ITL\n"
SIMULATED = HEAD + "".join(
    f'0,{i},meta-llama/Llama-3.1-8B,{p},{o},{round(t * 1e9)},{round((t + 2) * 1e9)},2000000000,1867,200000000,11,'
    f'"[11, 12]"\n' for i, (t, p, o) in enumerate(ROWS))
TOOLS: dict[str, tuple[str, str]] = {  # a name: the name of its file and its text
    "servegen": ("w.csv", "request_id,timestamp,input_tokens,output_tokens\n" + "".join(
        f"{i},{t},{p},{o}\n" for i, (t, p, o) in enumerate(ROWS))),
    "llmservingsim": ("w.jsonl", lines([{"input_toks": p, "output_toks": o, "arrival_time_ns": round(t * 1e9),
                                         "input_tok_ids": [1, 2]} for t, p, o in ROWS])),
    "llmservingsim, results": ("sim.csv", SIMULATED),
    "bailian": ("qwen.jsonl", lines([{"chat_id": i, "parent_chat_id": -1, "timestamp": 61.25 + t, "input_length": p,
                                      "output_length": o, "type": "text", "turn": 1, "hash_ids": [7, i]}
                                     for i, (t, p, o) in enumerate(ROWS)])),
    "aiperf": ("profile_export.jsonl", lines([aiperf(*row) for row in ROWS])),
    "guidellm": ("benchmarks.json", json.dumps({"metadata": {"version": 1}, "benchmarks": [
        benchmark([guidellm(*row) for row in ROWS])]}, indent=1)),
    "guidellm, old": ("benchmarks.json", json.dumps({"benchmarks": [{"requests": {
        "successful": [old_guidellm(*row) for row in ROWS], "incomplete": [], "errored": []}, "args": {
            "strategy": {"type_": "constant"}}}]})),
    "vllm": ("result.json", json.dumps(run())),
    "vllm, on many lines": ("result.json", json.dumps(run(), indent=2)),
}


PICKED = {  # of those, and others, for what damages files: an ending and a text
    "aiperf": (".jsonl", TOOLS["aiperf"][1]), "guidellm": (".json", TOOLS["guidellm"][1]),
    "simulated": (".csv", SIMULATED), "llmperf": (".json", json.dumps([llmperf(p, o) for _, p, o in ROWS], indent=1)),
    "runs": (".jsonl", lines([sglang(2.0), run()])),
    "sessions": (".jsonl", lines([{"arrival_time_ns": 5, "sub_requests": [{"input_toks": 9, "output_toks": 2}]},
                                  {"input_toks": 9, "output_toks": 1, "arrival_time_ns": 0}])),
    "sharegpt": (".json", json.dumps([{"conversations": [{"from": "human", "num_tokens": 5},
                                                         {"from": "gpt", "tokens": [1, 2]}]}] * 2))}


def written(folder: Path, content: str | bytes, name: str = "requests.json") -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
