"""What is compiled is compiled once in a test run: a worker that needs what another is compiling waits for it.

From a clean clone two workers would otherwise spend minutes compiling the same kernels side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from fcntl import LOCK_EX, flock
from threading import RLock
from typing import Any

import pytest
from numba.core.dispatcher import Dispatcher

from fluid.compiled import cache_folder


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """A lock for each function, beside its code; one thread of a process at a time, as numba has it anyway."""
    compiling, turn, mine = Dispatcher.compile, RLock(), set[str]()

    def compiled(dispatcher: Any, signature: Any) -> Any:
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

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "compile", compiled)
        yield
