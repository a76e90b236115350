"""Whatever a flag is given, the command answers or refuses in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "hostile_flags.py"


@pytest.mark.parametrize(("seed", "number"), [(2, 20), pytest.param(3, 500, marks=pytest.mark.slow)])
def test_hostile_flags_are_answered_or_refused_in_one_line(seed: int, number: int) -> None:
    """In processes with limits of memory and time: status 0, 1 or 2, and of 2 one line and nothing else."""
    run = subprocess.run([sys.executable, PROGRAM, "--number", str(number), "--seed", str(seed)], capture_output=True,
                         text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"promises broken: 0 of {number}" in run.stdout
    assert "status 2" in run.stdout
