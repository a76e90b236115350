"""Whatever a file holds, reading it gives a value or one line: mutations of good files of every kind, from a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_files import GOOD, TRACES, HostileFile, hostile_files

from fluid import FluidwaitError, calibrate, read_batches, read_trace, solve
from fluid.hardware.catalogue import find_gpu
from fluid.hardware.huggingface import model_from_config
from fluid.hardware.placement import Placement
from fluidwait.deployment.deployment import load
from thresholds import read_policy

BATCHES = ("batches", "sglang", "iterations", "statistics")


def equilibrium(path: Path) -> Any:
    """What the command `solve` computes."""
    deployment = load(path)
    return solve(deployment.workload, deployment.replica)


def capacity(path: Path) -> int:
    """The KV tokens beside a model on eight large GPUs."""
    return Placement(model_from_config(path), find_gpu("h200"), tensor_parallel=8).kv_capacity


READERS: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys(TRACES, read_trace), **dict.fromkeys(BATCHES, read_batches),
    "config": capacity, "policy": read_policy, "toml": equilibrium}
SKIPPING: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys(TRACES, lambda path: read_trace(path, skip_bad_rows=True)),
    **dict.fromkeys(BATCHES, lambda path: calibrate(read_batches(path, skip_bad_rows=True)))}


def refusal(read: Callable[[Path], Any], path: Path) -> str | None:
    """The one line with which a file is refused; None where it is read."""
    try:
        read(path)
    except FluidwaitError as error:
        line = str(error)
        assert line.isprintable()
        assert len(line) < 2000
        return line
    return None


def written(folder: Path, file: HostileFile) -> Path:
    path = folder / f"{file.kind}{file.suffix}"
    path.write_bytes(file.content)
    return path


@pytest.mark.parametrize("kind", list(GOOD))
def test_a_good_file_is_read(tmp_path: Path, kind: str) -> None:
    """The generator's premise: what it damages is in order."""
    path = written(tmp_path, HostileFile(kind, GOOD[kind][0], GOOD[kind][1].encode()))
    assert refusal(READERS[kind], path) is None
    assert kind not in SKIPPING or refusal(SKIPPING[kind], path) is None


@pytest.mark.parametrize("seed", range(6))
def test_a_hostile_file_is_read_or_refused_in_one_line(tmp_path: Path, seed: int) -> None:
    """100 files of each seed; of every kind some are refused, and the damage is slight enough for some to be read."""
    outcomes = Counter[tuple[str, bool]]()
    for file in hostile_files(seed, 100):
        path = written(tmp_path, file)
        outcomes[file.kind, refusal(READERS[file.kind], path) is None] += 1
        if file.kind in SKIPPING:
            refusal(SKIPPING[file.kind], path)
    assert {kind for kind, _ in outcomes} == set(GOOD)
    assert {read for _, read in outcomes} == {False, True}
