"""The driver of an installed vLLM: slow, and only where FLUIDWAIT_VLLM_PYTHON names an interpreter that has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fluidwait.__main__ import status

DRIVER = Path(__file__).resolve().parents[2] / "benchmarks" / "vllm_scheduler.py"
VLLM = os.environ.get("FLUIDWAIT_VLLM_PYTHON", "")
with_vllm = pytest.mark.skipif(not VLLM, reason="FLUIDWAIT_VLLM_PYTHON names no interpreter with vLLM")
LONG = """[replica]
kv_capacity = 137000
block = 16
first_token = "prefill"
max_num_seqs = 256
max_num_batched_tokens = 8192
[replica.iteration_time]
overhead = 0.0106
per_kv_token = 4.013e-7
[[workload.type]]
prompt_tokens = 512
output_tokens = 1000
rate = 2.0
"""


def driven(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The driver with an interpreter that has vLLM, or with this one."""
    command = [sys.executable, str(DRIVER), "--python", VLLM or sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@with_vllm
@pytest.mark.parametrize("mode", [[], ["--asynchronous"]])
def test_our_rule_equals_vllms_scheduler(mode: list[str]) -> None:
    """Request by request, on every built-in workload, in step and asynchronous."""
    found = driven("--requests", "300", *mode)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
@with_vllm
@pytest.mark.parametrize("mode", [["PacedScheduler"], ["AsyncPacedScheduler", "--asynchronous"]])
def test_the_scheduler_class_that_is_written_lets_nothing_be_preempted(mode: list[str], tmp_path: Path) -> None:
    """Windows at 98% of the edge, where vLLM as it comes preempts."""
    (tmp_path / "long.toml").write_text(LONG)
    assert status(["thresholds", str(tmp_path / "long.toml"), "--install", "vllm", "--out", str(tmp_path)]) == 0
    name, *rest = mode
    asked = ["--prompt", "512", "--output", "1000", "--requests", "3000", *rest]
    plain, windows = driven(*asked), driven(*asked, "--scheduler", f"{tmp_path / 'paced_scheduler.py'}:{name}")
    preemptions = [int(run.stdout.splitlines()[-1].split()[3].replace(",", "")) for run in (plain, windows)]
    assert preemptions[0] > 0
    assert preemptions[1] == 0


def test_without_vllm_it_says_so_in_one_line() -> None:
    """This interpreter has none."""
    found = subprocess.run([sys.executable, str(DRIVER), "--only", "budget 64", "--requests", "10"],
                           capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stdout == ""
    assert "cannot import vLLM" in found.stderr.splitlines()[-1]
