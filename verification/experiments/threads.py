"""Work in threads: compiled code releases the interpreter, so nothing is copied and no process is started.

The threads are daemons: Ctrl-C ends the command at once, and what they were at is lost. Where the one who asks stops
asking, work that was not begun is dropped without a word. They need no semaphore of the operating system, so that a
full /dev/shm is no hindrance.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")


def as_finished(work: Callable[[Item], Found], items: Sequence[Item],
                threads: int) -> Generator[tuple[int, Found], None, None]:
    """Yield (place, work(item)) of each item as soon as it is finished; what `work` raises is raised here.

    >>> sorted(as_finished(abs, [-3, 2], threads=2))
    [(0, 3), (1, 2)]
    """
    waiting = deque(enumerate(items))
    results: SimpleQueue[tuple[int, Found | None, BaseException | None]] = SimpleQueue()

    def serve() -> None:
        while waiting:
            try:
                place, item = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                results.put((place, work(item), None))
            except BaseException as error:
                results.put((place, None, error))

    try:
        if threads <= 1 or not _started(serve, min(threads, len(items))):
            yield from ((place, work(item)) for place, item in enumerate(items))
            return
        for _ in items:
            place, found, error = results.get()
            if error is not None:
                raise error
            yield place, found  # type: ignore[misc]
    finally:
        waiting.clear()


def in_order(work: Callable[[Item], Found], items: Sequence[Item], threads: int) -> Generator[Found, None, None]:
    """Yield work(item) in the order of the items.

    >>> list(in_order(abs, [-3, 2], threads=2))
    [3, 2]
    """
    early: dict[int, Found] = {}
    turn = 0
    with closing(as_finished(work, items, threads)) as stream:
        for place, found in stream:
            early[place] = found
            while turn in early:
                yield early.pop(turn)
                turn += 1


def _started(serve: Callable[[], None], threads: int) -> int:
    """Start so many threads, or as many as the machine lets us."""
    for begun in range(threads):
        try:
            Thread(target=serve, daemon=True).start()
        except RuntimeError:
            return begun
    return threads
