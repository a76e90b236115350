"""What the machine gives: the least of what is free and of every limit, in sentences; never a number that comes out."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluid import IterationTime, PromptType, Replica, Workload
from fluid.errors import InputError
from verification import Greedy, simulate
from verification.experiments import machine
from verification.experiments.machine import BYTES, SPARE, cores, room, threads
from verification.experiments.replications import replicate, within_memory

MOST = 2.5e8
REPLICA = Replica(137_000, IterationTime(0.0106, 4.013e-7))
GIGABYTE = 1_000_000_000


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    room.cache_clear()
    yield
    room.cache_clear()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of the kernel's files that says nothing yet."""
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


def says(root: Path, **files: object) -> None:
    """Write files; two underlines are a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def memory_of(kernel: Path, free: int) -> None:
    says(kernel, proc__meminfo=f"MemTotal: 99999999999 kB\nMemAvailable: {free // 1024} kB")


def test_a_large_machine_holds_the_largest_runs_and_no_more(kernel: Path) -> None:
    memory_of(kernel, 4096 * GIGABYTE)
    assert room(MOST).items == MOST


@pytest.mark.parametrize(("free", "usable"), [(5 * GIGABYTE, 4.7 * GIGABYTE), (400_000_000, 200_000_000)])
def test_what_is_free_counts_less_what_the_program_needs(free: int, usable: float, kernel: Path) -> None:
    """0.3 GB are left for the compiler and the figures, or half of what is free where that is little."""
    memory_of(kernel, free)
    assert room(MOST).items * BYTES == pytest.approx(usable, rel=1e-4)
    assert f"{free / 1e9:.3g} GB are left by the machine" in room(MOST).limit


def test_a_container_of_the_second_version_and_those_around_it(kernel: Path) -> None:
    """Three cgroups, one in the other, the middle one the tightest; what holds files can be had."""
    memory_of(kernel, 64 * GIGABYTE)
    says(kernel, proc__self__cgroup="0::/outer/inner")
    for folder, limit in (("cgroup/outer/inner", "max"), ("cgroup/outer", 3 * GIGABYTE), ("cgroup", 50 * GIGABYTE)):
        (kernel / folder).mkdir(parents=True, exist_ok=True)
        (kernel / folder / "memory.max").write_text(f"{limit}\n")
        (kernel / folder / "memory.current").write_text(f"{2 * GIGABYTE}\n")
        (kernel / folder / "memory.stat").write_text(f"anon 5\ninactive_file {GIGABYTE}\n")
        (kernel / folder / "cpu.max").write_text("150000 100000\n")
    assert room(MOST).items * BYTES == pytest.approx(2 * GIGABYTE - SPARE)
    assert "2 GB are left by its cgroup" in room(MOST).limit
    assert cores() == 2


def test_a_container_of_the_first_version(kernel: Path) -> None:
    """The folder of the cgroup is not there inside a container: the one that is says what holds."""
    memory_of(kernel, 64 * GIGABYTE)
    says(kernel, proc__self__cgroup="4:memory:/docker/1\n2:cpu,cpuacct:/docker/1\n0::/")
    (kernel / "cgroup/memory").mkdir(parents=True)
    (kernel / "cgroup/memory/memory.limit_in_bytes").write_text(f"{2 * GIGABYTE}\n")
    (kernel / "cgroup/memory/memory.usage_in_bytes").write_text(f"{GIGABYTE}\n")
    (kernel / "cgroup/memory/memory.stat").write_text("total_inactive_file 0\n")
    assert room(MOST).items * BYTES == pytest.approx(GIGABYTE - SPARE)


@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_limit_of_the_process_counts_less_what_it_has(name: str, kernel: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    memory_of(kernel, 64 * GIGABYTE)
    pages = GIGABYTE // resource.getpagesize()
    says(kernel, proc__self__statm=f"{pages} 1 1 1 0 {pages} 0")
    limits = {getattr(resource, name): 3 * GIGABYTE}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits.get(which, resource.RLIM_INFINITY),) * 2)
    assert room(MOST).items * BYTES == pytest.approx(2 * GIGABYTE - SPARE, rel=1e-5)
    assert f"2 GB are left by {name}" in room(MOST).limit


@pytest.mark.parametrize("nonsense", ["", "MemAvailable:", "MemAvailable: much kB", "\0"])
def test_files_of_the_kernel_that_say_nothing_stop_nothing(nonsense: str, kernel: Path) -> None:
    """Then what the machine has counts."""
    says(kernel, proc__meminfo=nonsense, proc__self__cgroup="0::/", cgroup__memory="x")
    assert 0 < room(MOST).items <= MOST


def test_a_run_that_does_not_fit_is_refused_with_the_limit(kernel: Path) -> None:
    """2.05 GB hold 1e7 requests and iterations of 175 bytes beside the program: 2 x 30,000 s x 194.3 are more."""
    memory_of(kernel, 2_050_000_000)
    assert within_memory(100.0, REPLICA, 20_000.0, 2) < 1e7
    with pytest.raises(InputError, match=r"^horizon must be short enough for 1e\+07 requests and iterations in all "
                                         r"replications \(2\.05 GB are left by the machine\) \(got 30000\.0\)"):
        within_memory(100.0, REPLICA, 30_000.0, 2)


def test_how_many_runs_fit_changes_no_number(kernel: Path) -> None:
    """On a machine that holds one run at a time the runs are the same."""
    mix = Workload([PromptType(512, 20, 50.0)])
    memory_of(kernel, 2 * int(BYTES * 100.0 * 3 * (50.0 + 1 / 0.0106) * 1.01))
    runs = replicate(Greedy(), mix, REPLICA, horizon=100.0, replications=3, workers=2)
    for number, run in enumerate(runs):
        alone = simulate(Greedy(), mix, REPLICA, horizon=100.0, replication=number)
        assert run.finished.tobytes() == alone.finished.tobytes()


@pytest.mark.parametrize(("workers", "number"), [(1, 1), (3, 3), (-1, 8), (-2, 7), (-8, 1), (-100, 1)])
def test_workers_are_threads_or_count_from_the_cores(workers: int, number: int, kernel: Path) -> None:
    assert threads(workers) == number


def test_no_workers_are_refused() -> None:
    with pytest.raises(InputError, match="workers must be a number of threads"):
        threads(0)


LIMITED = """
import resource, sys
from fluidwait.__main__ import main
resource.setrlimit(resource.RLIMIT_AS, (4_000_000_000, resource.RLIM_INFINITY))
main(["verify", "--policy", "greedy", "--horizon", sys.argv[1], "--replications", "5"])
"""


def test_the_command_names_the_limit_of_the_process() -> None:
    """ulimit -v: one line, status 2."""
    run = subprocess.run([sys.executable, "-c", LIMITED, "3000000"], capture_output=True, text=True, check=False,
                         env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.count("\n") == 1
    assert "GB are left by RLIMIT_AS" in run.stderr
