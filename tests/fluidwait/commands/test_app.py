"""The command: exit statuses, one JSON object, one line for bad input, files written whole or not at all."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import ONE_TYPE, answer, written

from fluid import IterationTime, PromptType, Replica, Workload, solve
from fluidwait import __version__
from fluidwait.__main__ import status
from thresholds import PacedPolicy, read_policy, wait
from verification import Sarathi, VllmV0, simulate

COMMANDS = ("run", "solve", "thresholds", "verify", "sweep", "plan", "plans", "init")
LONG = """[replica]
kv_capacity = 137000
block = 16
first_token = "prefill"
max_num_seqs = 256
[replica.iteration_time]
overhead = 0.0106
per_kv_token = 4.013e-7
per_prefill_token = 58.5e-6
[[workload.type]]
prompt_tokens = 512
output_tokens = 1000
rate = 1.9
"""
QUICK = ["--horizon", "60", "--replications", "2"]
SMALL = ONE_TYPE

APART = """
[replica]
kv_capacity = 500000
[replica.iteration_time]
pieces = [ {{ overhead = 0.01, per_kv_token = 4e-7 }},
           {{ overhead = 0.01, per_kv_token = 0.0, per_prefill_token = 1e-4 }} ]
[[workload.type]]
prompt_tokens = 8000
output_tokens = 5
rate = {large}
[[workload.type]]
prompt_tokens = 1
output_tokens = 200
rate = {small}
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """A file with one type, 512 + 20 tokens at 100 requests/s: inside the region, whose edge is near 190."""
    return written(tmp_path, SMALL.format(rate=100.0))


@pytest.mark.parametrize(("rates", "standing", "word"), [
    ((0.45, 50.0), "reachable", "stable: "), ((0.63, 70.0), "unknown", "stable in the fluid model, not proved: "),
    ((0.9, 100.0), "impossible", "impossible: "), ((2.0, 100.0), "impossible", "overloaded: ")])
def test_solve_says_what_is_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str], rates: tuple[float, float],
                                   standing: str, word: str) -> None:
    """Inside the fluid region too: 8,000 + 5 at 0.9/s and 1 + 200 at 100/s are impossible though the edge is 1.148.

    Of these rates 0.688 are carried, 0.709 are not: at 0.7 nobody knows.
    """
    code, found = answer(capsys, "solve", written(tmp_path, APART.format(large=rates[0], small=rates[1])))
    low, high, possible = found["proved_reachable"], found["proved_impossible"], standing != "impossible"
    assert (found["proved"], found["stable"], code) == (standing, possible, not possible)
    assert found["reason"].startswith(word)
    assert 0 < low <= high <= found["proved_impossible_recompute"] * (1 + 1e-9)
    assert high <= found["max_rate_scale"] * (1 + 1e-9)
    assert found["reachable_by"] == "paced"
    assert found["certificate"]["value"] * high == pytest.approx(1.0)


def test_solve_says_that_a_request_that_never_fits_is_impossible(tmp_path: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """512 + 20 tokens on 500: nothing to prove, no certificate."""
    code, found = answer(capsys, "solve", written(tmp_path, SMALL.format(rate=1.0).replace("137000", "500")))
    assert (code, found["proved"], found["proved_impossible"], found["certificate"]) == (1, "impossible", 0.0, None)


def test_the_report_of_solve_names_both_sides_and_the_prices(tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["solve", str(written(tmp_path, APART.format(large=0.9, small=100.0)))]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("proved: paced WAIT carries up to 0.6", "no policy carries more than 0.7088", "nobody knows",
                 "75.42 us a token prefilled in pieces of 8,000 tokens", "a second's arrivals are worth 1.411 s"):
        assert part in shown


def test_solve_says_what_the_library_says(deployment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`solve --json` carries the fields of the contract with the numbers of `fluid.solve`."""
    code, found = answer(capsys, "solve", deployment)
    replica = Replica(137_000, IterationTime(0.0106, 4.013e-7))
    balance = solve(Workload([PromptType(512, 20, 100.0, "chat")]), replica)
    assert code == 0
    assert found["schema"] == 1
    assert found["source"] == str(deployment)
    for key in ("stable", "reason", "load", "iteration_time", "kv_required", "kv_capacity", "throughput",
                "max_rate_scale"):
        assert found[key] == getattr(balance, key), key
    assert found["types"] == [{"name": "chat", "rate": 100.0, "inventory": balance.inventory[0],
                               "kv_tokens": balance.kv_tokens[0], "kv_work": 21 * 522}]


def test_thresholds_say_what_the_library_says(deployment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`thresholds --json` carries the design of `thresholds.wait`."""
    code, found = answer(capsys, "thresholds", deployment, "--policy", "wait")
    design = wait(Workload([PromptType(512, 20, 100.0)]), Replica(137_000, IterationTime(0.0106, 4.013e-7)))
    assert (code, found["policy"], found["feasible"]) == (0, "wait", True)
    assert found["kv_required"] == found["kv_base"] + found["kv_buffer"] == design.kv_required
    assert found["types"][0]["threshold"] == design.thresholds[0]
    assert found["types"][0]["slack"] == pytest.approx(design.thresholds[0] - 100.0 * found["iteration_time"])
    assert found["predicted"]["latency"] > found["predicted"]["ttft"] > 0


def test_verify_reports_intervals_and_checks(deployment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`verify --json` gives verdict, checks with their intervals, and measurements around their means."""
    code, found = answer(capsys, "verify", deployment, "--policy", "greedy", "--horizon", 200, "--replications", 6)
    assert (code, found["verdict"], found["agrees"], found["replications"]) == (0, "stable", True, 6)
    for key in ("throughput", "latency", "latency_p99", "ttft", "evictions"):
        assert found[key]["low"] <= found[key]["mean"] <= found[key]["high"], key
    assert set(found["checks"][0]) == {"name", "predicted", "measured", "low", "high", "accuracy", "agrees", "answer"}
    assert found["overflow_runs"] == 0
    assert 0 < found["kv_peak"] <= 137_000


@pytest.mark.parametrize(("policy", "prefill", "rule"), [
    ("vllm-v0", '"whole"', VllmV0()), ("sarathi", '"whole"', Sarathi(512)), ("sarathi", "{ chunk = 96 }", Sarathi(96))])
def test_the_orders_of_engines_are_verified_as_the_library_does(
        policy: str, prefill: str, rule: VllmV0 | Sarathi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sarathi takes the chunk of the file, 512 tokens where it names none; the numbers are those of `simulate`."""
    text = SMALL.format(rate=5.0).replace("kv_capacity", f"prefill = {prefill}\nkv_capacity", 1)
    file = written(tmp_path, text)
    code, found = answer(capsys, "verify", file, "--policy", policy, "--horizon", 60, "--replications", 2)
    assert (code, found["policy"], found["verdict"], found["agrees"]) == (0, policy, "stable", True)
    workload = Workload([PromptType(512, 20, 5.0)])
    replica = replace(Replica(137_000, IterationTime(0.0106, 4.013e-7)), prefill=96 if "96" in prefill else "whole")
    runs = [simulate(rule, workload, replica, horizon=60.0, replication=r) for r in range(2)]
    assert found["kv_peak"] == max(run.kv_peak for run in runs)
    assert found["evictions"]["mean"] == np.mean([run.evictions for run in runs])


def test_one_replication_has_no_interval(deployment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With one replication the intervals of the measurements are null."""
    _, found = answer(capsys, "verify", deployment, "--horizon", 200, "--replications", 1)
    assert found["latency"]["low"] is None
    assert found["latency"]["mean"] > 0


def test_the_same_seed_prints_the_same_bytes(deployment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs of one command differ in nothing; another seed differs."""
    texts = []
    for seed in ("3", "3", "4"):
        status(["verify", str(deployment), "--json", "--seed", seed, *QUICK])
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_run_writes_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`run --out` leaves the report, a policy that reads back, and two figures as PNG and SVG."""
    out = tmp_path / "results"
    code, found = answer(capsys, "run", "--out", out, "--horizon", 600)
    assert (code, found["answer"], found["verify"]["verdict"]) == (0, True, "stable")
    assert json.loads((out / "report.json").read_text()) == found
    policy = read_policy(out / "policy.json")
    assert isinstance(policy, PacedPolicy)
    assert list(policy.entries) == [each["entries"] for each in found["thresholds"]["types"]]
    assert list(policy.iterations) == [each["iterations"] for each in found["thresholds"]["types"]]
    assert sorted(path.name for path in out.iterdir()) == ["batch.png", "batch.svg", "kv.png", "kv.svg", "policy.json",
                                                           "report.json"]
    assert all(path.stat().st_size > 50 for path in out.iterdir())


def test_run_without_a_file_reports_the_built_in_deployment(capsys: pytest.CaptureFixture[str]) -> None:
    """The first thing a new user tries: exit status 0, one screen, which begins with the answer and says what to do."""
    assert status(["run", "--horizon", "600"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = " ".join(" ".join(lines).split())
    assert lines[0] == "Answer yes".replace(" ", "  ")
    for part in ("with paced WAIT", "vLLM V1 as it comes is", "edge memory binds at 2.27 requests/s",
                 "set at most 4 report in any 35 iterations: fluidwait thresholds --install vllm", "predictions",
                 "same arrivals", "evictions", "0 a run", "difference", "of the edge", "80% vllm-v1"):
        assert part in shown
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80


def test_the_verbose_report_has_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    """The equilibrium, the thresholds, the trials, each simulation; the same answer at the end."""
    assert status(["run", "--horizon", "600", "--verbose"]) == 0
    shown = capsys.readouterr().out
    for part in ("Fluid equilibrium", "Thresholds", "Advice  install the windows", "nearer to the edge",
                 "Simulation of vllm-v1", "Simulation of paced", "Answer: yes. The replica carries this mix"):
        assert part in shown
    assert "greedy" not in shown


def test_an_overloaded_file_leads_with_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No first, and by how much it is too much."""
    assert status(["run", str(written(tmp_path, SMALL.format(rate=400.0))), *QUICK]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Answer  no"
    assert lines[1].startswith("overloaded: ")


@pytest.mark.parametrize(("text", "flags", "message"), [
    ("max_num_seqs = 64\nmax_num_batched_tokens = 32\n", [], "must be at least max_num_seqs, 64"),
    ("kv_capacity = 1000\n", [], "grows to 1,511 KV tokens, the replica has 1,000, and vLLM refuses such requests"),
    ("", ["--watermark", "100%"], "watermark must be a share of the KV cache in [0, 1)"),
    ("", ["--watermark", "5%", "--policy", "paced"], "beside --watermark"),
])
def test_settings_that_the_engine_refuses_are_one_line(
        text: str, flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A budget below the cap, a request longer than the cache, nothing but free blocks."""
    given = LONG.replace("max_num_seqs = 256\n", "").replace("block = 16\n", text)
    if "kv_capacity" in text:
        given = given.replace("kv_capacity = 137000\n", "")
    file = str(written(tmp_path, given))
    assert status(["verify", file, "--policy", "vllm-v1", "--horizon", "60", *flags]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert message in captured.err


def test_a_watermark_may_be_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the engine near the edge it stops most preemptions."""
    file, asked = written(tmp_path, LONG), ["--policy", "vllm-v1", "--horizon", 2000, "--replications", 4]
    plain, free = (answer(capsys, "verify", file, *asked, *more)[1] for more in ([], ["--watermark", "5%"]))
    assert (plain["setting"], free["setting"]) == ("", "watermark 0.05")
    assert free["evictions"]["mean"] < 0.5 * plain["evictions"]["mean"]


def test_run_simulates_what_it_is_asked_to_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    """[A]'s greedy admission, and Sarathi; another name is one line."""
    code, found = answer(capsys, "run", "--against", "greedy, sarathi", "--horizon", 200, "--replications", 3)
    assert code == 0
    assert [each["policy"] for each in found["rivals"]] == ["vllm-v1", "greedy", "sarathi"]
    assert status(["run", "--against", "paced"]) == 2
    assert capsys.readouterr().err.startswith('fluidwait: --against must be "vllm-v1"')


def test_where_thresholds_pay_auto_installs_them_and_says_what_the_engine_does(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """512 + 1000 tokens at 98% of the edge with prefills that cost time: windows; vLLM V1 as it comes preempts."""
    file = written(tmp_path, LONG)
    code, found = answer(capsys, "thresholds", file)
    advice = found["advice"]
    assert (code, advice["use"], advice["leave_engine"]) == (0, "paced", False)
    engine, windows = advice["trials"][0], advice["trials"][-1]
    assert (engine["policy"], windows["policy"]) == ("vllm-v1", "paced")
    assert engine["evictions_per_hour"]["mean"] > 1000
    assert windows["evictions_per_hour"]["mean"] == 0
    assert windows["latency_p99"]["mean"] < 0.9 * min(each["latency_p99"]["mean"] for each in advice["trials"][:-1])
    assert answer(capsys, "thresholds", file, "--policy", "paced")[1]["advice"] is None


@pytest.mark.parametrize("command", ["run", "solve", "thresholds", "verify"])
def test_overload_is_an_answer(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 1e12 requests/s, the most that a file may say, every command says no, exit status 1, in finite numbers."""
    file = written(tmp_path, SMALL.format(rate=1e12))
    code, found = answer(capsys, command, file, *(QUICK if command in ("run", "verify") else []))
    assert code == 1
    part = found["solve"] if command == "run" else found
    if command in ("run", "solve"):
        assert part["stable"] is False
        assert part["iteration_time"] is None
        assert math.isfinite(part["load"])
        assert "overloaded" in part["reason"]
    if command == "verify":
        assert found["verdict"] == "unstable"
    assert status([command, str(file), *(QUICK if command in ("run", "verify") else [])]) == 1
    assert "overloaded" in " ".join(capsys.readouterr().out.split())


def test_a_load_that_fits_while_whole_thresholds_do_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """512 + 1000 tokens at 1 request/s: w = 1001 x 1012 = 1,013,012 tokens exceed C = 137,000: no WAIT, but paced."""
    file = written(tmp_path, SMALL.format(rate=1.0).replace("output_tokens = 20", "output_tokens = 1000"))
    assert answer(capsys, "solve", file)[0] == 0
    code, found = answer(capsys, "thresholds", file, "--policy", "wait")
    assert (code, found["feasible"], found["kv_required"]) == (1, False, 1_013_012)
    assert "876,012" in found["reason"]  # 1,013,012 - 137,000
    code, found = answer(capsys, "thresholds", file)
    assert (code, found["policy"], found["feasible"], found["kv_required"]) == (0, "paced", True, 136_278)
    assert found["types"] == [{"name": "chat", "entries": 2, "iterations": 15, "gate": False}]
    assert "whole WAIT thresholds do not fit" in found["why"]


def test_unknown_lengths_get_one_window_for_the_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`lengths = "unknown"`: one entry for all types; base and buffer add up; overflow is as rare as asked for."""
    text = SMALL.format(rate=60.0).replace("[[workload.type]]", '[workload]\nlengths = "unknown"\n[[workload.type]]')
    code, found = answer(capsys, "thresholds", written(tmp_path, text))
    assert (code, found["policy"], len(found["types"])) == (0, "paced", 1)
    assert found["kv_base"] + found["kv_buffer"] == pytest.approx(found["kv_required"])
    assert 0 <= found["overflow_probability"] <= 1e-3


@pytest.mark.parametrize("policy", ["paced", "nested"])
def test_every_policy_is_designed_explained_and_verified(policy: str, deployment: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    """One type at 100 requests/s, half the edge: the design fits, the report explains it, the simulation agrees."""
    code, found = answer(capsys, "thresholds", deployment, "--policy", policy)
    assert (code, found["policy"], found["feasible"]) == (0, policy, True)
    assert status(["thresholds", str(deployment), "--policy", policy]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("base +", "traffic 10% higher", "Installation"):
        assert part in shown
    code, found = answer(capsys, "verify", deployment, "--policy", policy, "--horizon", 300, "--replications", 5)
    assert (code, found["verdict"], found["agrees"], found["overflow_runs"]) == (0, "stable", True, 0)


@pytest.mark.parametrize("policy", ["protected", "clearing", "a-min"])
def test_rules_that_read_no_length_are_simulated_where_lengths_are_unknown(
        policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By name; at a tenth of the edge nobody is cleared and what the fluid model predicts of it agrees."""
    file = tmp_path / "mix.toml"
    file.write_text('[workload]\nlengths = "unknown"\n' + SMALL.format(rate=20.0))
    code, found = answer(capsys, "verify", file, "--policy", policy, "--horizon", 200, "--replications", 3)
    assert (code, found["policy"], found["verdict"], found["agrees"]) == (0, policy, "stable", True)


BAD_INPUT = [
    (["solve", "nowhere.toml"], "nowhere.toml"),
    (["solve", "."], "."),
    (["verify", "--policy", "lifo"], "lifo"),
    (["verify", "--policy", "mc-sf", "--watermark", "5%"], "beside --watermark"),
    (["thresholds", "--policy", "sarathi"], "sarathi"),
    (["verify", "--horizon", "-1"], "horizon"),
    (["verify", "--horizon", "nan"], "horizon"),
    (["verify", "--horizon", "soon"], "soon"),
    (["verify", "--horizon", "1e15"], "horizon"),
    (["verify", "--replications", "0"], "replications"),
    (["verify", "--seed", "-1"], "seed"),
    (["sweep", "--rates", "1:2:1"], "--policies"),
    (["sweep", "--rates", "2:1:1", "--policies", "greedy"], "2:1:1"),
    (["solve", "--frobnicate"], "frobnicate"),
    (["frobnicate"], "frobnicate"),
]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("arguments", "named"), BAD_INPUT, ids=[" ".join(a) for a, _ in BAD_INPUT])
def test_bad_input_is_one_line(arguments: list[str], named: str, as_json: bool, tmp_path: Path,
                               monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on standard error that names the culprit, nothing on standard output, exit status 2."""
    monkeypatch.chdir(tmp_path)
    assert status(arguments + ["--json"] * as_json) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert named in captured.err


FILES = {
    "an unknown key": (SMALL.format(rate=1.0) + "colour = 3\n", "colour"),
    "a negative rate": (SMALL.format(rate=-2.0), "-2.0"),
    "a rate that is no number": (SMALL.format(rate="nan"), "nan"),
    "no types": (SMALL.format(rate=1.0).split("[[workload")[0], "workload"),
    "no output token": (SMALL.format(rate=1.0).replace("output_tokens = 20", "output_tokens = 0"), "output_tokens"),
    "a binary file": ("\x00\x01\udcff", "mix.toml"),
}


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("what", FILES)
def test_a_bad_file_is_one_line(what: str, as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line names the file and the key or the value; nothing is printed or written."""
    text, named = FILES[what]
    path = tmp_path / "mix.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert status(["run", str(path), "--out", str(tmp_path / "out"), *["--json"] * as_json]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "mix.toml" in captured.err
    assert named in captured.err
    assert not (tmp_path / "out").exists()


def test_a_result_folder_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--out` naming a file: one line, before anything long is started."""
    (tmp_path / "taken").write_text("mine")
    assert status(["run", "--out", str(tmp_path / "taken")]) == 2
    assert "taken" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "mine"


def test_init_writes_a_deployment_that_runs_and_replaces_nothing(tmp_path: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """The example solves to a yes; a second `init` refuses to overwrite it unless told to."""
    file = tmp_path / "mine.toml"
    assert status(["init", str(file)]) == 0
    assert status(["solve", str(file)]) == 0
    file.write_text(file.read_text() + "# mine\n")
    assert status(["init", str(file)]) == 2
    assert "# mine" in file.read_text()
    assert status(["init", str(file), "--force"]) == 0
    assert "# mine" not in file.read_text()
    capsys.readouterr()


def test_every_command_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    """The list of commands holds those that answer."""
    assert status(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(command in listed for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_a_version(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` shows an example, `--version` the version."""
    assert status([command, "--help"]) == 0
    assert f"Example: fluidwait {command}" in " ".join(capsys.readouterr().out.split())
    assert status([command, "--version"]) == 0
    assert capsys.readouterr().out == f"fluidwait {__version__}\n"


def test_the_installed_command_starts() -> None:
    """`python -m fluidwait` is the command, and bad usage leaves no traceback."""
    ran = subprocess.run([sys.executable, "-m", "fluidwait", "solve", "nowhere.toml"], capture_output=True, text=True,
                         check=False)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
