"""Progress on standard error: a bar for long work, and a note when the simulator is compiled for the first time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from numba.core import event
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fluid.errors import one_line

_QUIET: ContextVar[bool] = ContextVar("_QUIET", default=False)
BETWEEN_LINES = 10.0  # seconds
FIRST = "compiling what is simulated, once on this machine: up to half a minute for a policy ..."
NOTABLE = 1.0  # seconds


@contextmanager
def quiet() -> Iterator[None]:
    """Show no bars in this context: the work is part of something that shows a bar of its own."""
    before = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(before)


def note(sentence: str) -> None:
    """Print a remark on standard error, one line."""
    print(f"fluidwait: {one_line(sentence)}", file=sys.stderr, flush=True)


class _CompileNote(event.Listener):
    """Says that a rule is compiled and how long that took; the code is kept on disk, so later runs say nothing.

    The compiler works in one thread at a time; steps that a rule is made of are compiled within it.
    """

    lock, begun, said = threading.Lock(), list[float](), False

    def __init__(self, console: Console) -> None:
        self.console = console

    def on_start(self, event: Any) -> None:
        with self.lock:
            if not _CompileNote.said and not self.begun:
                _CompileNote.said = True
                self.console.print(FIRST)
            self.begun.append(time.monotonic())

    def on_end(self, event: Any) -> None:
        with self.lock:
            took = time.monotonic() - self.begun.pop()
            if not self.begun and took >= NOTABLE:
                self.console.print(f"compiled in {took:.0f} s, and kept for later")


@contextmanager
def reading(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show how much of a file has been read; call what is yielded with (bytes read, all)."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"reading {name}", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def working(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error while work goes on; call what is yielded with (done, all)."""
    if _QUIET.get():
        yield lambda done, total: None
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=None)
        with event.install_listener("numba:compile", _CompileNote(console)):
            yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def counting(description: str) -> Iterator[Callable[[int, int], None]]:
    """As `working`; where standard error is not a terminal, as in a batch job, a line every ten seconds, not a bar."""
    begun = said = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if done and now - said >= BETWEEN_LINES:
            said = now
            note(f"{description}: {done} of {total}, some {(now - begun) / done * (total - done):,.0f} s left")

    with working(description) as bar:
        yield bar if sys.stderr.isatty() else line
