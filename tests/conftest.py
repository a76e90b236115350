"""What is compiled is compiled once in a test run: a worker that needs what another is compiling waits for it.

From a clean clone two workers would otherwise spend minutes compiling the same kernels side by side. There is a lock
for each function, beside its code, and one thread of a process compiles at a time, as numba has it anyway.
"""

from __future__ import annotations

from fcntl import LOCK_EX, flock
from threading import RLock
from typing import Any

from numba.core.dispatcher import Dispatcher

from fluid.compiled import cache_folder

compiling, turn, mine = Dispatcher.compile, RLock(), set[str]()


def compiled(dispatcher: Any, signature: Any) -> Any:
    """Compile, or read what was compiled while we waited."""
    name = f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__qualname__}.lock"
    with turn:
        if name.startswith("numba.") or (folder := cache_folder()) is None or name in mine:
            return compiling(dispatcher, signature)
        with open(folder / name, "a") as lock:
            flock(lock, LOCK_EX)
            mine.add(name)
            try:
                return compiling(dispatcher, signature)
            finally:
                mine.discard(name)


def pytest_configure() -> None:
    """From here on, for tests may simulate while they are collected."""
    Dispatcher.compile = compiled
