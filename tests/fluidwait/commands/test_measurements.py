"""The commands on what users measured: traces and batches, their JSON, sections that can be pasted, refusals."""

from __future__ import annotations

import gzip
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared_data import SHARED_DATA

from fluid import IterationTime
from fluid.traces.trace import read_trace
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import load

AZURE = SHARED_DATA / "azure_conv.csv"
A100 = SHARED_DATA / "iteration_times_a100_llama2_7b.csv"
ROWS = [(0.0, 374, 44), (0.5, 396, 109), (2.0, 374, 44), (4.0, 91, 16)]
REPLICA = "[replica]\nkv_capacity = 137000\n[replica.iteration_time]\noverhead = 0.0106\nper_kv_token = 4.013e-7\n"
QUICK = ("--horizon", "30", "--replications", "2")


def vidur(rows: list[tuple[float, int, int]]) -> str:
    return "\n".join(["arrived_at,num_prefill_tokens,num_decode_tokens", *(f"{t},{p},{o}" for t, p, o in rows)]) + "\n"


FORMATS = {
    "azure": ("t.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
        f"2023-11-16 18:15:{46 + t:09.6f}0,{p},{o}\n" for t, p, o in ROWS)),
    "burstgpt": ("t.csv", "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,"
                 "Log Type\n" + "".join(f"{t},1,1,ChatGPT,{p},{o},{p + o},Conversation log\n" for t, p, o in ROWS)
                 + "5,1,1,ChatGPT,100,0,100,Conversation log\n"),
    "mooncake": ("t.jsonl", "".join(json.dumps({"timestamp": 1000 * t, "input_length": p, "output_length": o,
                                                "hash_ids": [1, 2]}) + "\n" for t, p, o in ROWS)),
    "vidur": ("t.csv", vidur(ROWS)),
    "vllm": ("t.json", json.dumps({"duration": 4.0, "input_lens": [p for _, p, _ in ROWS],
                                   "output_lens": [o for _, _, o in ROWS], "errors": [""] * len(ROWS)})),
}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """The four requests as a trace."""
    return written(tmp_path / "requests.csv", vidur(ROWS))


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit status and the JSON object of a command."""
    code = status([str(argument) for argument in arguments] + ["--json"])
    return code, json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a command that is refused; standard output stays empty."""
    assert status([str(argument) for argument in arguments]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("\n") == 1
    return found.err


def test_trace_says_what_the_four_requests_amount_to(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """KV work by hand, (o + 1)(l + o/2): 45 x 396 twice, 110 x 450.5, 17 x 99, in all 86,878 over 4 requests in 4 s;
    the 1% and 10% of four requests, rounded up, are the largest one."""
    code, found = answer(capsys, "trace", trace)
    assert code == 0
    assert (found["format"], found["requests"], found["skipped"], found["pairs"]) == ("vidur", 4, 0, 3)
    assert (found["duration"], found["rate"]) == (4.0, 1.0)
    assert found["prompt_tokens"] == {"mean": 308.75, "median": 374.0, "p99": pytest.approx(395.34), "max": 396}
    assert found["kv_work"]["mean"] == (2 * 45 * 396 + 110 * 450.5 + 17 * 99) / 4
    assert found["kv_work"]["low"] < found["kv_work"]["mean"] < found["kv_work"]["high"]
    assert found["kv_work_share"] == {"1%": pytest.approx(49555 / 86878), "10%": pytest.approx(49555 / 86878)}
    assert found["dispersion"] == {}
    assert found["poisson_p_value"] is None


def test_trace_counts_kv_work_for_the_replica_of_a_deployment(trace: Path, tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    """Decode only: the prefill stage of l tokens falls away, 308.75 tokens on average."""
    file = written(tmp_path / "d.toml", REPLICA.replace("137000", '137000\nprefill = "decode-only"')
                   + "[[workload.type]]\nprompt_tokens = 1\noutput_tokens = 2\nrate = 1\n")
    _, plain = answer(capsys, "trace", trace)
    _, decodes = answer(capsys, "trace", trace, "--deployment", file)
    assert decodes["kv_work"]["mean"] == plain["kv_work"]["mean"] - 308.75


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_format_is_summarised_and_run_without_a_hand_made_type(
        kind: str, zipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The section that `trace` prints, below a replica, is a deployment that `run` answers."""
    name, text = FORMATS[kind]
    path = tmp_path / (name + ".gz" * zipped)
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    code, found = answer(capsys, "trace", path)
    assert (code, found["format"], found["requests"], found["rate"]) == (0, kind, 4, 1.0)
    assert found["failed"] == (kind == "burstgpt")
    code, report = answer(capsys, "run", written(tmp_path / "d.toml", REPLICA + found["workload"]), *QUICK)
    assert (code, report["answer"]) == (0, True)
    assert [each["name"] for each in report["solve"]["types"]] == ["91+16", "374+44", "396+109"]
    assert report["solve"]["types"][1]["rate"] == pytest.approx(0.5)


def test_a_trace_can_be_given_in_place_of_a_deployment(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is served by the built-in A100 at its own rate."""
    code, found = answer(capsys, "solve", trace)
    assert code == 0
    assert found["source"] == str(trace)
    assert found["kv_capacity"] == 119_488
    assert sum(each["rate"] for each in found["types"]) == pytest.approx(1.0)
    assert found["trace"] == {"source": str(trace), "sha256": read_trace(trace).digest, "format": "vidur",
                              "requests": 4, "skipped": 0, "failed": 0, "notes": [], "read_as": {
                                  "prompt": "num_prefill_tokens", "output": "num_decode_tokens",
                                  "time": "arrived_at", "unit": "s", "why": "as the format vidur has them"}}


COLUMNS = ("--prompt-column", "in", "--output-column", "out", "--time-column", "at")


@pytest.fixture
def nanoseconds(tmp_path: Path) -> Path:
    """The four requests with columns of other names, their times in nanoseconds."""
    rows = "".join(f"{round(t * 1e9)},{p},{o}\n" for t, p, o in ROWS)
    return written(tmp_path / "requests.tsv", "at,in,out\n" + rows)


@pytest.mark.parametrize(("command", "flags"), [
    ("solve", ()), ("thresholds", ("--policy", "paced")), ("run", QUICK), ("verify", ("--policy", "greedy", *QUICK)),
    ("sweep", ("--rates", "1", "--policies", "greedy", *QUICK)),
    ("capacity", ("--policy", "greedy", "--precision", "50%", *QUICK))])
def test_every_command_takes_a_trace_with_its_columns_and_unit(nanoseconds: Path, command: str, flags: Any,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    """Where a trace may stand in place of a deployment, so may the flags that say how to read it, and the rate."""
    code, found = answer(capsys, command, nanoseconds, *COLUMNS, "--time-unit", "ns", *flags)
    assert (code, found["source"]) == (0, str(nanoseconds))
    if command == "solve":
        assert sum(each["rate"] for each in found["types"]) == pytest.approx(1.0)
        assert found["trace"]["read_as"] == {"prompt": "in", "output": "out", "time": "at", "unit": "ns",
                                             "why": "as asked"}
        _, other = answer(capsys, command, nanoseconds, *COLUMNS, "--time-unit", "ns", "--rate", "3")
        assert sum(each["rate"] for each in other["types"]) == pytest.approx(3.0)


def test_a_deployment_knows_the_keys_by_which_its_trace_is_read(nanoseconds: Path, tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    """The section that `trace` prints has them; without the unit the question names the key."""
    _, found = answer(capsys, "trace", nanoseconds, *COLUMNS, "--time-unit", "ns")
    assert tomllib.loads(found["workload"])["workload"]["time_unit"] == "ns"
    deployment = load(written(tmp_path / "d.toml", REPLICA + found["workload"]))
    assert deployment.workload.rate == pytest.approx(1.0)
    text = REPLICA + found["workload"].replace('time_unit = "ns"\n', "")
    line = refusal(capsys, "solve", written(tmp_path / "e.toml", text))
    assert "does not say in which unit at is" in line
    assert line.endswith("say workload.time_unit s, ms, us or ns\n")


def test_a_section_chooses_a_run_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs of a benchmark without start times: 4 requests in 4 s and in 2 s."""
    one = json.loads(FORMATS["vllm"][1])
    path = written(tmp_path / "runs.jsonl", json.dumps(one) + "\n" + json.dumps({**one, "duration": 2.0}) + "\n")
    _, both = answer(capsys, "trace", path)
    assert (both["requests"], both["rate"], len(both["runs"])) == (8, None, 2)
    _, found = answer(capsys, "trace", path, "--run", 2)
    assert (found["requests"], found["rate"]) == (4, 2.0)
    deployment = load(written(tmp_path / "d.toml", REPLICA + found["workload"]))
    assert (len(deployment.mix.trace or ()), deployment.workload.rate) == (4, 2.0)


def test_a_trace_without_a_rate_needs_one_where_it_is_served(tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    one = {**json.loads(FORMATS["vllm"][1]), "request_rate": "inf"}
    path = written(tmp_path / "result.json", json.dumps(one))
    assert status(["trace", str(path)]) == 0
    assert "note: request_rate is inf: all requests were sent at once" in capsys.readouterr().out
    assert "--rate must be given, as a positive finite number of requests/s" in refusal(capsys, "solve", path)
    code, found = answer(capsys, "solve", path, "--rate", 2)
    assert (code, sum(each["rate"] for each in found["types"])) == (0, pytest.approx(2.0))


@pytest.mark.parametrize("arguments", [("--time-unit", "s"), ("d.toml", "--time-unit", "s"), ("d.toml", "--rate", "2")])
def test_flags_of_a_trace_go_with_a_trace(capsys: pytest.CaptureFixture[str], arguments: Any) -> None:
    assert "must go with a trace (got " in refusal(capsys, "solve", *arguments)


def test_the_section_follows_the_rate_over_time(trace: Path, tmp_path: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    """Windows of 2 s hold 2 and 2 of the four requests: factors 1 and 1; of 1 s, 2, 0, 1, 1 requests: the empty second
    is put to the first, so 2 s at 1, then 1 s at 1 twice."""
    _, found = answer(capsys, "trace", trace, "--window", 1)
    windows = tomllib.loads(found["workload"])["workload"]["window"]
    assert [(each["duration"], each["scale"]) for each in windows] == [(2.0, 1.0), (1.0, 1.0), (1.0, 1.0)]
    deployment = load(written(tmp_path / "d.toml", REPLICA + found["workload"]))
    assert [each.end for each in deployment.mix.windows] == [2.0, 3.0, 4.0]


def test_the_section_in_few_types_says_what_they_cost(trace: Path, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    _, found = answer(capsys, "trace", trace, "--bins", 2, "--rate", 8)
    workload = load(written(tmp_path / "d.toml", REPLICA + found["workload"])).workload
    assert len(workload) == 2
    assert workload.rate == pytest.approx(8.0)
    assert found["workload"].startswith(f"# {trace} in 2 types: KV work ")


def test_out_writes_the_report_and_figures(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = answer(capsys, "trace", trace, "--out", tmp_path / "results")
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "arrivals.png", "arrivals.svg", "lengths.png", "lengths.svg", "report.json"]
    assert json.loads((tmp_path / "results/report.json").read_text()) == found


def test_bad_rows_are_refused_with_their_lines_or_left_out_and_counted(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text, a negative number and a NaN in lines 3, 4 and 6 of a file."""
    path = written(tmp_path / "bad.csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,5\n1,abc,5\n2,10,-5\n"
                   "3,10,5\nnan,10,5\n")
    line = refusal(capsys, "trace", path)
    assert "3 of 5 rows cannot be used" in line
    assert "--skip-bad-rows" in line
    for place in ("line 3", "line 4", "line 6"):
        assert place in line
    code, found = answer(capsys, "trace", path, "--skip-bad-rows")
    assert (code, found["requests"], found["skipped"], len(found["bad_rows"])) == (0, 2, 3, 3)
    deployment = REPLICA + f'[workload]\ntrace = "{path.name}"\n'
    assert "workload.skip_bad_rows = true" in refusal(capsys, "solve", written(tmp_path / "d.toml", deployment))
    skipping = written(tmp_path / "d.toml", deployment + "skip_bad_rows = true\n")
    code, found = answer(capsys, "solve", skipping)
    assert (code, found["trace"]["skipped"]) == (0, 3)


def test_any_csv_is_read_by_the_names_of_its_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "mine.csv", "when,in,out\n0,10,5\n2,20,5\n")
    line = refusal(capsys, "trace", path)
    assert "when" in line
    names = ("--prompt-column", "in", "--output-column", "out", "--time-column", "when")
    code, found = answer(capsys, "trace", path, *names)
    assert (code, found["format"], found["rate"]) == (0, "columns", 1.0)
    code, again = answer(capsys, "solve", written(tmp_path / "d.toml", REPLICA + found["workload"]))
    assert (code, [each["name"] for each in again["types"]]) == (0, ["10+5", "20+5"])


@pytest.mark.parametrize(("arguments", "message"), [
    (("--format", "vidir"), '--format must be "azure" or'),
    (("--prompt-column", "num_prefill_tokens"), "--output-column must be given, as the name of a column"),
    (("--time-column", "arrived_at"), "--prompt-column must be given, as the name of a column (got None)"),
    (("--format", "columns"), '--prompt-column must be given, as the name of a column, for the format "columns"'),
    (("--format", "azure", "--prompt-column", "a", "--output-column", "b"),
     '--format must be "columns" where columns are named (got \'azure\')'),
    (("--rate", "-1"), "--rate must be a positive finite number of requests/s (got -1.0)"),
    (("--bins", "0"), "--bins must be a whole number of types from 1"),
    (("--window", "nan"), "--window must be a positive finite number of seconds (got nan)"),
    (("--deployment", "no.toml"), "no.toml: cannot be read: No such file or directory"),
])
def test_a_flag_that_cannot_be_used_is_one_line(arguments: tuple[str, ...], message: str, trace: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refusal(capsys, "trace", trace, *arguments)


@pytest.mark.parametrize(("keys", "message"), [
    ('trace = "no.csv"', "workload.trace must be a trace (got 'no.csv'): cannot be read: No such file or directory"),
    ('trace = "requests.csv"\nrate = 0', "workload.rate must be a positive finite number of requests/s"),
    ('trace = "requests.csv"\nformat = "x"', 'workload.format must be "azure" or'),
    ('trace = "requests.csv"\nbins = 0', "workload.bins must be a whole number of types from 1"),
    ('trace = "requests.csv"\nbins = 2\narrivals = "trace"',
     'workload.bins must stand without workload.arrivals = "trace" (got 2)'),
    ('trace = "requests.csv"\ntime_column = "x"',
     "workload.prompt_column is missing: it must be the name of a column"),
    ('trace = "requests.csv"\nprompt_column = "x"', "workload.output_column is missing: it must be the name of a c"),
    ('trace = "requests.csv"\nformat = "columns"',
     'workload.prompt_column is missing: it must be the name of a column, for the format "columns"'),
    ('trace = "requests.csv"\nformat = "azure"\nprompt_column = "x"\noutput_column = "y"',
     'workload.format must be "columns" where columns are named (got \'azure\')'),
    ('trace = "lengths.csv"\nprompt_column = "in"\noutput_column = "out"',
     "workload.rate is missing: it must be a positive finite number of requests/s, as the trace has no rate"),
    ('trace = "requests.csv"\n[[workload.window]]\nduration = -1\nscale = 1',
     "workload.window[0].duration must be a positive finite number of seconds (got -1.0)"),
    ('trace = "requests.csv"\narrivals = "trace"\n[[workload.window]]\nduration = 1\nscale = 1',
     'workload.window must stand without workload.arrivals = "trace"'),
    ('trace = "requests.csv"\n[[workload.type]]\nprompt_tokens = 1\noutput_tokens = 1\nrate = 1.0',
     "workload.trace must stand without [[workload.type]]"),
    ('arrivals = "trace"\n[[workload.type]]\nprompt_tokens = 1\noutput_tokens = 1\nrate = 1.0',
     'workload.arrivals must go with workload.trace (got "trace")'),
])
def test_a_workload_that_cannot_be_used_is_one_line(keys: str, message: str, trace: Path, tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "lengths.csv", "in,out\n10,5\n")
    file = written(tmp_path / "d.toml", REPLICA + "[workload]\n" + keys + "\n")
    line = refusal(capsys, "solve", file)
    assert str(file) in line
    assert message in line


def test_windows_that_do_not_fit_are_named_and_the_answer_is_no(tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    """The edge of 512 + 20 tokens is near 190 requests/s: at 100 requests/s a window at twice that does not fit."""
    types = "[[workload.type]]\nprompt_tokens = 512\noutput_tokens = 20\nrate = 100\n"
    windows = "".join(f"[[workload.window]]\nduration = 300\nscale = {scale}\n" for scale in (2.0, 0.5))
    file = written(tmp_path / "d.toml", REPLICA + types + windows)
    code, found = answer(capsys, "solve", file)
    assert code == 1
    assert [window["stable"] for window in found["windows"]] == [False, True]
    assert [window["rate"] for window in found["windows"]] == [200.0, 50.0]
    assert found["stable"] is False
    assert found["windows"][0]["backlog"] == pytest.approx(300 * (200 / (50 * found["max_rate_scale"]) - 1))
    assert found["mean_rates_fit"] is True
    assert status(["solve", str(file)]) == 1
    assert "1 of 2 windows do not fit; the mean rate, 125 requests/s, does" in " ".join(capsys.readouterr().out.split())


def test_a_trace_is_replayed_at_its_own_moments(trace: Path, tmp_path: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    """With one replication over the trace's 4 s every request of it arrives: 2 x 44 + 109 + 16 output tokens, all but
    the last request's done by then (a request alone takes its stages of some 11 ms)."""
    file = written(tmp_path / "d.toml", REPLICA + f'[workload]\ntrace = "{trace.name}"\narrivals = "trace"\n')
    code, found = answer(capsys, "verify", file, "--policy", "greedy", "--horizon", 4, "--replications", 1)
    assert code == 0
    assert found["throughput"]["mean"] > 0
    assert [check["name"] for check in found["checks"]] == ["requests rejected at most", "kv_capacity at least"]


def test_prefill_takes_its_share_of_the_region_in_the_report(tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    """The same deployment with and without prefill cost: 512 + 20 tokens on an A100 are dominated by it."""
    def solved(per_prefill_token: float) -> dict[str, Any]:
        text = REPLICA + f"per_prefill_token = {per_prefill_token}\n"
        text += "[[workload.type]]\nprompt_tokens = 512\noutput_tokens = 20\nrate = 20\n"
        return answer(capsys, "solve", written(tmp_path / "d.toml", text))[1]

    paid, free = solved(5.88e-5), solved(0.0)
    assert paid["max_rate_scale_without_prefill_cost"] == pytest.approx(free["max_rate_scale"])
    assert paid["max_rate_scale"] < 0.2 * free["max_rate_scale"]
    assert paid["time_shares"]["prefill"] == pytest.approx(20 * 512 * 5.88e-5)
    assert status(["solve", str(tmp_path / "d.toml")]) == 0
    assert "prefill takes" not in capsys.readouterr().out
    solved(5.88e-5)
    status(["solve", str(tmp_path / "d.toml")])
    share = 1 - paid["max_rate_scale"] / free["max_rate_scale"]
    assert f"prefill takes {share:.1%} of the region" in capsys.readouterr().out


def measured(folder: Path, noise: float = 0.01) -> Path:
    """Batches of a replica with d0 = 10 ms, d1 = 0.4 us, d2 = 60 us, d3 = 20 us, with relative noise."""
    generator, rows = np.random.default_rng(1), []
    for sequences in (1, 4, 16, 64, 128):
        for context in (128, 512, 1024):
            for tokens in (0, 64, 512):
                kv = sequences * context
                seconds = 0.01 + 4e-7 * (kv + tokens) + 6e-5 * tokens + 2e-5 * (sequences + (tokens > 0))
                seconds *= 1 + noise * generator.standard_normal()
                rows.append(f"{sequences},{kv},{int(tokens > 0)},{tokens},{seconds:.9f}")
    head = "num_decode,kv_tokens_decode,num_prefill,prefill_tokens,batch_time_s"
    return written(folder / "batches.csv", "\n".join([head, *rows]) + "\n")


def test_calibrate_gives_a_section_that_a_deployment_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answer(capsys, "calibrate", measured(tmp_path), "--out", tmp_path / "results")
    assert code == 0
    assert found["rows"] == 45
    assert found["mape"] < 0.02
    (line,), (interval,) = found["pieces"], found["intervals"]
    for name, true in (("overhead", 0.01), ("per_kv_token", 4e-7), ("per_prefill_token", 6e-5), ("per_sequence", 2e-5)):
        assert interval[name][0] <= line[name] <= interval[name][1]
        assert line[name] == pytest.approx(true, rel=0.25)
    text = "[replica]\nkv_capacity = 137000\n" + found["iteration_time"] + \
        "[[workload.type]]\nprompt_tokens = 1\noutput_tokens = 2\nrate = 1\n"
    fitted = load(written(tmp_path / "d.toml", text)).replica.iteration_time
    assert fitted.coefficients == pytest.approx(IterationTime(**line).coefficients, rel=1e-5)
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "fit.png", "fit.svg", "iteration_time.toml", "report.json"]


def test_calibrate_warns_where_the_equilibrium_leaves_the_range(tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    """Far more KV at equilibrium than the 131,584 tokens of the largest measured batch, on a replica of a million."""
    file = written(tmp_path / "d.toml", REPLICA.replace("137000", "1000000")
                   + "[[workload.type]]\nprompt_tokens = 100\noutput_tokens = 900\nrate = 4.4\n")
    path = measured(tmp_path, noise=0.0)
    _, found = answer(capsys, "calibrate", path, "--deployment", file)
    assert any("KV tokens read lie outside the measured" in warning for warning in found["warnings"])
    _, found = answer(capsys, "calibrate", path)
    assert found["warnings"] == []


@pytest.mark.parametrize(("text", "message"), [
    ("", "is empty"),
    ("num_decode,kv_tokens_decode,batch_time_s\n", "holds no batch"),
    ("num_decode,batch_time_s\n1,0.01\n", "one column kv_tokens_decode"),
    ("num_decode,kv_tokens_decode,batch_time_s\n1,10,0.01\n1,10,nan\n", "line 3"),
    ("num_decode,kv_tokens_decode,batch_time_s\n1,10,0.01\n", "at least 8 rows"),
])
def test_batches_that_cannot_be_used_are_one_line(text: str, message: str, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refusal(capsys, "calibrate", written(tmp_path / "b.csv", text))


def test_pieces_must_be_a_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--pieces must be a whole number of lines from 1 to 8 (got 9)" in refusal(
        capsys, "calibrate", measured(tmp_path), "--pieces", 9)


@pytest.mark.skipif(not AZURE.exists(), reason="needs the shared data")
def test_the_azure_trace_is_summarised_and_run_behind_one_window(tmp_path: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """19,366 requests with 14,027 distinct length pairs; KV work is the row-by-row sum exactly."""
    _, prompt, output = np.loadtxt(AZURE, delimiter=",", skiprows=1, unpack=True).astype(np.int64)
    doubled = sum((o + 1) * (2 * p + o) for p, o in zip(prompt.tolist(), output.tolist(), strict=True))
    code, found = answer(capsys, "trace", AZURE)
    assert (code, found["requests"], found["pairs"]) == (0, 19_366, 14_027)
    assert found["kv_work"]["mean"] == doubled // 2 / 19_366
    text = '[replica]\nmodel = "llama-2-7b"\ngpu = "a100-80gb"\n' + found["workload"]
    file = written(tmp_path / "d.toml", text.replace("rate = 5.53042", "rate = 4.0    "))
    code, report = answer(capsys, "run", file, "--horizon", 200, "--replications", 2)
    assert (code, report["answer"]) == (0, True)
    assert len(report["solve"]["types"]) == 14_027
    assert report["thresholds"]["policy"] == "paced"
    assert [each["name"] for each in report["thresholds"]["types"]] == ["all"]


@pytest.mark.skipif(not A100.exists(), reason="needs the shared data")
def test_the_batches_of_an_a100_are_calibrated(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answer(capsys, "calibrate", A100, "--pieces", 2)
    assert code == 0
    assert (found["rows"], len(found["pieces"])) == (1018, 2)
    assert found["mape"] < 0.1


def test_batches_that_the_deployment_cannot_hold_do_not_count(tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    """Of 45 batches, those of 128 x 1,024 tokens (3 of them) and more than 100,000 tokens do not fit its KV cache."""
    file = written(tmp_path / "d.toml", REPLICA.replace("137000", "100000")
                   + "[[workload.type]]\nprompt_tokens = 100\noutput_tokens = 20\nrate = 4\n")
    _, found = answer(capsys, "calibrate", measured(tmp_path), "--deployment", file)
    assert found["rows"] == 42
    assert any("cannot hold 3 of the batches" in warning for warning in found["warnings"])


def test_three_lines_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answer(capsys, "calibrate", measured(tmp_path), "--pieces", 3)
    assert code == 0
    assert 1 <= len(found["pieces"]) <= 3


def test_rates_that_change_are_simulated_over_whole_periods(tmp_path: Path,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    """A verdict in the middle of a period would depend on where it stops."""
    types = "[[workload.type]]\nprompt_tokens = 512\noutput_tokens = 20\nrate = 50\n"
    windows = "".join(f"[[workload.window]]\nduration = 20\nscale = {scale}\n" for scale in (1.5, 0.5))
    file = written(tmp_path / "d.toml", REPLICA + types + windows + "[target]\nhorizon = 50\n")
    line = refusal(capsys, "verify", file, "--horizon", 50)
    assert "--horizon must be a multiple of the 40 seconds in which the rates repeat (got 50.0)" in line
    code, found = answer(capsys, "verify", file, "--replications", 2)
    assert (code, found["horizon"]) == (0, 80.0)


def test_a_benchmark_without_a_usable_duration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = json.dumps({"duration": -3, "input_lens": [10], "output_lens": [5]})
    assert "duration must be a positive finite number of seconds (got -3)" in refusal(
        capsys, "trace", written(tmp_path / "b.json", text))


def bench(gap: float, requests: int = 400) -> str:
    """The result of a benchmark that sent a request every `gap` seconds to a server that ends one a second."""
    starts = [gap * i for i in range(requests)]
    ends: list[float] = []
    for start in starts:
        ends.append(max(start, ends[-1] if ends else 0.0) + 1.0)
    spans = [end - start for start, end in zip(starts, ends, strict=True)]
    return json.dumps({"request_rate": 1 / gap, "duration": ends[-1], "input_lens": [100] * requests,
                       "output_lens": [11] * requests, "start_times": [5.0 + each for each in starts],
                       "ttfts": [span - 0.9 for span in spans], "itls": [[0.09] * 10] * requests})


@pytest.mark.parametrize(("gap", "code", "verdict"), [(2.0, 0, "stable"), (0.8, 1, "unstable")])
def test_diagnose_says_whether_a_measured_server_keeps_up(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                          gap: float, code: int, verdict: str) -> None:
    """One request at a time, a second each: 0.1 s to the first token, 0.9 s of tokens, at 0.5 or 1.25 requests/s."""
    path = written(tmp_path / "result.json", bench(gap))
    found_code, found = answer(capsys, "diagnose", path)
    assert (found_code, found["verdict"], found["requests"]) == (code, verdict, 400)
    assert found["rate"] == pytest.approx(1 / gap)
    assert found["sustained_rate"] == pytest.approx(min(1.0, 1 / gap), rel=0.01)
    assert found["throughput"] == pytest.approx(11 * min(1.0, 1 / gap), rel=0.01)
    assert found["time"]["prefill"] == pytest.approx(0.1)
    assert found["time"]["decode"] == pytest.approx(0.9)
    assert found["tpot"]["mean"] == pytest.approx(0.09)
    assert found["little"]["agrees"] is (verdict == "stable")
    assert status(["diagnose", str(path)]) == code
    assert verdict in capsys.readouterr().out


def test_diagnose_puts_the_model_of_a_deployment_beside_what_was_measured(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A replica whose iterations take 10.6 ms and read 0.04 ms of KV makes tokens 8 times as fast as 90 ms each."""
    file = written(tmp_path / "d.toml", REPLICA + "[[workload.type]]\nprompt_tokens = 1\noutput_tokens = 2\nrate = 1\n")
    _, found = answer(capsys, "diagnose", written(tmp_path / "result.json", bench(2.0)), "--deployment", file)
    compared = {each["name"]: each for each in found["model"]["compared"]}
    assert compared["tpot_mean"]["predicted"] == pytest.approx(0.0106 + 4.013e-7 * 106, rel=0.01)
    assert compared["tpot_mean"]["ratio"] == pytest.approx(0.09 / compared["tpot_mean"]["predicted"])
    assert compared["throughput"]["ratio"] == pytest.approx(1.0, rel=0.01)
    assert found["model"]["stable"] is True
    assert found["model"]["max_rate_scale"] > 10


def test_diagnose_names_the_times_that_are_missing(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--first-token-column" in refusal(capsys, "diagnose", trace)
    assert "must go with --prompt-column" in refusal(capsys, "diagnose", trace, "--end-column", "end")
