"""What the machine gives this process: processor cores, and memory for the requests and iterations of runs.

Memory is the least of what is free, of what the limits of the process leave (RLIMIT_AS, RLIMIT_DATA) and of what the
cgroup leaves that it is in, a container's, say, or any around it. It is asked for once: what fits must not depend on
what a run before has left behind. How many runs fit decides which are refused and how many run at a time, never a
number that comes out: how far the horizon of a verdict may grow is the same on every machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fluid.errors import InputError, whole

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

BYTES = 175  # at the peak, for a request or an iteration of a run: from 13 to 174 were measured, the most in `verify`
SPARE = 3e8  # bytes for the compiler, the stacks of threads and the figures, where there are so many
GB = 1e9
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


class Room(NamedTuple):
    """How many requests and iterations can be kept, and why no more, in words."""

    items: float
    limit: str


@cache
def room(most: float) -> Room:
    """The room that there was when it was first asked for; `most` requests and iterations where there is more."""
    found = [Room(max(free - SPARE, free / 2, 0.0) / BYTES, f"{free / GB:.3g} GB are left by {who}")
             for free, who in _free()]
    return min([Room(most, f"{most * BYTES / GB:.3g} GB are the most"), *found])


def threads(workers: int) -> int:
    """How many threads `workers` are: itself, or for -1 one per core, for -2 one less, and so on."""
    if workers == 0:
        raise InputError("workers", "a number of threads, or -1 for one per core", workers)
    return whole("workers", workers, unit="threads") if workers > 0 else max(1, cores() + 1 + int(workers))


def cores() -> int:
    """The cores that this process may run on, as its affinity and the quota of its cgroup say."""
    of_affinity = getattr(os, "sched_getaffinity", None)
    found = len(of_affinity(0)) if of_affinity else os.cpu_count() or 1
    return max(1, min([found, *_quotas()]))


def _quotas() -> Iterator[int]:
    for folder in _cgroups("cpu"):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            yield -(-int(quota) // int(period))
        with suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                yield -(-int(quota) // int(period))


def _free() -> Iterator[tuple[float, str]]:
    """Bytes that can still be had, each with who says so."""
    yield from _free_in_the_machine()
    yield from _free_in_the_limits()
    for folder in _cgroups("memory"):
        for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with suppress(OSError, ValueError):
                free = int((folder / limit).read_text()) - int((folder / usage).read_text())
                yield free + _reclaimable(folder), "its cgroup"


def _free_in_the_machine() -> Iterator[tuple[float, str]]:
    try:
        yield _numbers(PROC / "meminfo")["MemAvailable"] * 1024.0, "the machine"
    except (OSError, KeyError, ValueError):  # not Linux: what is there at all
        with suppress(AttributeError, OSError, ValueError):
            yield float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")), "the machine"


def _free_in_the_limits() -> Iterator[tuple[float, str]]:
    if resource is None:
        return
    for name, place in (("RLIMIT_AS", 0), ("RLIMIT_DATA", 5)):
        limit = resource.getrlimit(getattr(resource, name))[0]
        if limit != resource.RLIM_INFINITY:
            with suppress(OSError, ValueError, IndexError):
                pages = int((PROC / "self/statm").read_text().split()[place])
                yield float(limit - pages * resource.getpagesize()), name


def _reclaimable(folder: Path) -> float:
    """Bytes of the cgroup that hold files, and are given up where memory is asked for."""
    held = _numbers(folder / "memory.stat")
    return float(held.get("total_inactive_file", held.get("inactive_file", 0)))


def _numbers(path: Path) -> dict[str, int]:
    """The first number of each line of a file, by the word before it."""
    return {name: int(digits) for name, digits in re.findall(r"^(\w+):?\s+(\d+)", path.read_text(), re.MULTILINE)}


def _cgroups(controller: str) -> Iterator[Path]:
    """The folders of the cgroup of this process and of those around it, in both versions of the kernel's tree."""
    try:
        lines = (PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers == "" or controller in controllers.split(","):
            root = CGROUPS / controller if controllers else CGROUPS
            inside = Path(path.lstrip("/"))
            yield from (root / each for each in (inside, *inside.parents))
