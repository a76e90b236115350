"""Compiled code on disk: whatever became of the files, the functions run, and somebody is told once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fluid import compiled

HOUSE = Path(compiled.__file__).parents[1]
TRIAL = """
import resource, sys
from pathlib import Path
from fluid.compiled import cache_folder, jit
from random import Random

def plus(x):
    return x + 1

def from_disk(x):
    "Whether the code was there, once the function has answered."
    fresh = jit(plus)
    assert fresh(x) == x + 1
    return sum(fresh.stats.cache_hits.values())
"""
DAMAGE = TRIAL + """
assert [from_disk(1), from_disk(2)] == [0, 1]
files = sorted(cache_folder().rglob("plus-*.nb?")) + sorted(cache_folder().rglob("*.plus-*.nb?"))
assert {file.suffix for file in files} == {".nbi", ".nbc"}
random = Random(0)
for trial in range(int(sys.argv[1])):
    file = random.choice(files)
    data = bytearray(file.read_bytes())
    if trial % 3:
        data[random.randrange(len(data))] ^= random.randrange(1, 256)
    else:
        del data[random.randrange(len(data)):]
    file.write_bytes(data)
    assert from_disk(trial) == 0, (trial, file)
    assert from_disk(trial) == 1, (trial, file)
print("ran")
"""
FULL = TRIAL + """
sys.dont_write_bytecode = True  # it would be cut off
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
print(from_disk(1), from_disk(2))
"""


def tried(code: str, folder: Path, number: int, place: Path | None = None) -> tuple[str, list[str]]:
    """What a script prints, and the lines that it says on standard error, with its compiled code below a place."""
    script = folder / "trial.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(HOUSE), "NUMBA_CACHE_DIR": str(place or folder / "code")}
    run = subprocess.run([sys.executable, str(script), str(number)], capture_output=True, text=True, check=False,
                         env=environment)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip(), run.stderr.splitlines()


@pytest.mark.parametrize("trials", [25, pytest.param(600, marks=pytest.mark.slow)])
def test_no_damaged_file_is_run(trials: int, tmp_path: Path) -> None:
    """Bytes flipped and ends cut off: compiled anew, put back, and said once, with the folder."""
    printed, said = tried(DAMAGE, tmp_path, trials)
    assert printed == "ran"
    assert len(said) == 1
    assert str(tmp_path / "code") in said[0]
    assert said[0].endswith("cannot be used (it does not match its digest): compiling it again")


@pytest.mark.parametrize("size", [100, 1000])
def test_on_a_full_disk_every_process_compiles_for_itself(size: int, tmp_path: Path) -> None:
    """No file can be longer than so many bytes: the answers come, the folder is named once, nothing is left half."""
    printed, said = tried(FULL, tmp_path, size)
    assert printed == "0 0"
    assert len(said) == 1
    assert str(tmp_path / "code") in said[0]
    assert said[0].endswith("(File too large): every command compiles for itself")
    assert not list((tmp_path / "code").rglob("*.tmp.*"))


def test_without_a_place_the_places_are_named(tmp_path: Path) -> None:
    """No folder can be made below a file."""
    (tmp_path / "nowhere").touch()
    place = tmp_path / "nowhere" / "code"
    printed, said = tried(FULL, tmp_path, 2**30, place)
    assert printed == "0 0"
    assert said == [f"fluidwait: compiled code cannot be kept in {place} (nothing can be written there): every command "
                    "compiles for itself"]


MIX = """
[replica]
kv_capacity = 137000
[replica.iteration_time]
overhead = 0.0106
per_kv_token = 4.013e-7
[[workload.type]]
prompt_tokens = 512
output_tokens = 20
rate = 100.0
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
def test_a_command_answers_the_same_whatever_became_of_its_code(ending: str, tmp_path: Path) -> None:
    """Every file of one kind cut or flipped: the same report, one line about it."""
    (tmp_path / "mix.toml").write_text(MIX)
    first = answered(tmp_path)
    draw = random.Random(0)
    for number, file in enumerate(sorted((tmp_path / "code").rglob(f"*{ending}"))):
        data = bytearray(file.read_bytes())
        data[draw.randrange(len(data))] ^= 0x10
        file.write_bytes(data if number % 2 else data[:len(data) // 2])
    second = answered(tmp_path)
    assert second.stdout == first.stdout
    assert sum("cannot be used" in line for line in second.stderr.splitlines()) == 1
    assert answered(tmp_path).stderr == ""


def answered(folder: Path) -> subprocess.CompletedProcess[Any]:
    command = [sys.executable, "-m", "fluidwait", "verify", "mix.toml", "--policy", "greedy", "--horizon", "20",
               "--replications", "1", "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env={
        **os.environ, "PYTHONPATH": str(HOUSE), "NUMBA_CACHE_DIR": str(folder / "code")})
