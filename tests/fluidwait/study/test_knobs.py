"""Flags for an engine: what is tried, which setting is the best by rules with known answers, what is printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from command_line import answer, written

from fluid import solve
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import parse
from fluidwait.study.knobs.search import budgets_of, caps, choose, knobs
from fluidwait.study.knobs.setting import Setting
from fluidwait.study.outcomes import Plan
from verification import Bound, Interval, Targets, Trial
from verification.experiments.targets.bounds import Held

NUMBERS = """
[replica]
kv_capacity = 20000
max_num_seqs = 256
first_token = "prefill"
[replica.iteration_time]
overhead = 0.0106
per_kv_token = 4.013e-7
per_prefill_token = 5.88e-5
[[workload.type]]
prompt_tokens = 512
output_tokens = 100
rate = 10.0
"""
NAMED = """
[replica]
model = "llama-3.1-8b"
gpu = "h100-80gb"
[[workload.type]]
prompt_tokens = 512
output_tokens = 100
rate = 10.0
"""
OWN = Setting(256, 2048)


def trial(latency: float, *, target: float | None = None) -> Trial:
    """A trial with a mean latency, and of a target of 1 s on TTFT so much, 10% either way."""
    known = {name: Interval(latency, latency, latency) for name in ("latency", "latency_p99", "ttft")}
    held = () if target is None else (Held(Bound("ttft", 1.0), Interval(target, 0.9 * target, 1.1 * target)),)
    return Trial(OWN.policy, Interval(1.0, 1.0, 1.0), known, Interval(0.0, 0.0, 0.0), held)


def test_without_targets_the_fewest_flags_within_what_is_tolerated_are_changed() -> None:
    """1% in the mean is no reason to change anything, 10% is one; of two changes that do as well the smaller."""
    other, both = replace(OWN, max_num_seqs=64), Setting(64, 512)
    assert choose({OWN: trial(1.01), other: trial(1.0)}) is OWN
    assert choose({OWN: trial(1.1), both: trial(1.0), other: trial(1.005)}) is other


def test_with_targets_one_that_meets_them_is_taken_though_it_is_slower() -> None:
    """Of several that do the one that changes fewest flags; where none does, the least strained."""
    other, both = replace(OWN, max_num_seqs=64), Setting(64, 512)
    assert choose({OWN: trial(1.0, target=1.2), other: trial(3.0, target=0.8)}) is other
    assert choose({OWN: trial(1.0, target=0.85), other: trial(0.5, target=0.5)}) is OWN
    assert choose({OWN: trial(1.0, target=3.0), other: trial(1.0, target=2.0), both: trial(1.0, target=1.99)}) is other


def test_caps_and_budgets_that_cannot_carry_the_load_are_not_tried() -> None:
    """Every cap lies above the mean batch, and the one that never preempts is among them: floor(C / (l + R - 1))."""
    read = parse(NUMBERS.encode(), "mix.toml")
    equilibrium = solve(read.workload, replace(read.replica, max_num_seqs=None))
    own = Setting.of(read)
    found = caps(equilibrium, own)
    assert min(found) > (equilibrium.sequences or 0)
    assert 20_000 // 611 in found
    assert min(budgets_of(equilibrium, own)) > (equilibrium.tokens or 0)
    assert own == OWN


def test_settings_have_the_cache_that_the_catalogue_leaves_them() -> None:
    """Fewer sequences to sample for, or a smaller share of the memory, change C by what the placement says."""
    read = parse(NAMED.encode(), "mix.toml")
    own = Setting.of(read)
    assert read.placement is not None
    fewer = replace(own, max_num_seqs=64)
    expected = replace(read.placement, max_num_seqs=64, max_num_batched_tokens=own.max_num_batched_tokens).kv_capacity
    assert fewer.replica(read).kv_capacity == expected > read.replica.kv_capacity
    less = replace(own, memory_fraction=0.8)
    assert less.replica(read).kv_capacity < own.replica(read).kv_capacity
    given = parse(NAMED.replace("[[work", "kv_capacity = 5000\n[[work").encode(), "mix.toml")
    assert replace(Setting.of(given), max_num_seqs=64).replica(given).kv_capacity == 5000
    assert Setting.of(given).memory_fraction is None


@pytest.mark.parametrize(("setting", "vllm", "sglang"), [
    (Setting(64, 2048, 0.02, 0.9),
     "vllm serve MODEL --max-num-seqs 64 --max-num-batched-tokens 2048 --gpu-memory-utilization 0.9 --watermark 0.02",
     "python -m sglang.launch_server --model-path MODEL --max-running-requests 64 --chunked-prefill-size 2048 "
     "--max-total-tokens 7"),
    (Setting(None, 512), "vllm serve MODEL --max-num-batched-tokens 512",
     "python -m sglang.launch_server --model-path MODEL --chunked-prefill-size 512 --max-total-tokens 7"),
])
def test_the_lines_to_paste(setting: Setting, vllm: str, sglang: str) -> None:
    assert setting.vllm() == vllm
    assert setting.sglang(7) == sglang
    assert setting.vllm(4) == f"{vllm} --tensor-parallel-size 4"


def test_every_setting_sees_the_same_arrivals_and_the_best_is_verified_on_others() -> None:
    """The cap of floor(C/P) never preempts, as it must; near the edge the engine as it comes does."""
    text = NUMBERS.replace("rate = 10.0", "rate = 17.5").replace("output_tokens = 100", "output_tokens = 50")
    read = replace(parse(text.encode(), "mix.toml"), targets=Targets((Bound("tpot_p99", 0.05),)))
    found = knobs(read, Plan(100.0, 2, 5))
    safe = next(each for each in found.tried if each.max_num_seqs == 20_000 // 561)
    assert found.tried[safe].evictions_per_hour.mean == 0
    assert found.best in found.tried
    assert found.verified.seed == 6
    assert found.verified.targets
    assert found.edge(safe) <= found.edge(found.own)


def test_the_command_prints_lines_to_paste(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, NUMBERS)
    short = ("--horizon", "300", "--replications", "2")
    short = (*short, "--ttft-p99", "5", "--tpot-mean", "0.1")
    code, found = answer(capsys, "knobs", file, *short)
    assert code == 0
    assert found["changes"] == {}
    assert {each["answer"] for each in found["verified"]["targets"]} <= {"met", "undecided"}
    assert status(["knobs", str(file), *short]) == 0
    assert found["vllm"] in capsys.readouterr().out


def test_a_cap_of_the_file_that_is_too_small_is_lifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """10 requests/s of more than 100 x 10.6 ms each are more than 10 at a time: 4 are overloaded, larger caps are not.
    """
    file = written(tmp_path, NUMBERS.replace("max_num_seqs = 256", "max_num_seqs = 4"))
    code, found = answer(capsys, "knobs", file, "--horizon", "100", "--replications", "2")
    assert (code, list(found["changes"])) == (0, ["--max-num-seqs"])
    assert found["changes"]["--max-num-seqs"] > 10
    assert found["edge_as_it_comes"] < 10 < found["edge"]


def test_an_overload_is_answered_with_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No flags help a replica that cannot carry the load: status 1, and the reason."""
    file = written(tmp_path, NUMBERS.replace("rate = 10.0", "rate = 1000.0"))
    code, found = answer(capsys, "knobs", file)
    assert (code, found["answer"]) == (1, False)
    assert found["reason"].startswith("no flags help: overloaded")


def test_one_replication_decides_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, status 2."""
    assert status(["knobs", str(written(tmp_path, NUMBERS)), "--replications", "1", "--ttft", "1"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert "--replications must be" in shown.err
