"""Work in threads: in order or as it is finished, every error handed over, nothing said when nobody waits any more."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from contextlib import closing

import pytest

from verification.experiments import threads
from verification.experiments.threads import as_finished, in_order


def slow_first(number: int) -> int:
    """Twice the number; small numbers take longer."""
    time.sleep(0.002 * (20 - number))
    return 2 * number


@pytest.mark.parametrize("at_once", [1, 2, 50])
def test_results_come_in_order_or_each_once(at_once: int) -> None:
    """However many threads there are, and where there is nothing to do."""
    assert list(in_order(slow_first, range(20), at_once)) == list(range(0, 40, 2))
    assert sorted(as_finished(slow_first, range(20), at_once)) == [(n, 2 * n) for n in range(20)]
    assert list(in_order(slow_first, [], at_once)) == []


@pytest.mark.parametrize("error", [ValueError("seven"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("at_once", [1, 3])
def test_what_work_raises_is_raised_where_it_is_waited_for(error: BaseException, at_once: int) -> None:
    """The very error, and what is not yet begun is dropped."""
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 7:
            raise error
        time.sleep(0.001)
        return number

    with pytest.raises(type(error)) as caught:
        list(as_finished(work, range(1000), at_once))
    assert caught.value is error
    assert len(begun) < 1000


def test_who_stops_waiting_hears_nothing_more() -> None:
    """No warning of the work that is dropped, then or when everything is thrown away; threads end by themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = threading.active_count()
        with closing(in_order(slow_first, range(1000), 2)) as stream:
            assert next(stream) == 0
        del stream
        gc.collect()
        for _ in range(1000):
            if threading.active_count() <= before:
                break
            time.sleep(0.01)
        assert threading.active_count() <= before


def test_no_semaphore_of_the_operating_system_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine whose /dev/shm is full none can be made."""
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("_multiprocessing.SemLock", full)
    assert list(in_order(slow_first, range(5), 2)) == [0, 2, 4, 6, 8]


def test_a_machine_that_starts_no_thread_does_the_work_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on threads is no reason to fail."""
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads.Thread, "start", refused)
    assert list(in_order(slow_first, range(5), 2)) == [0, 2, 4, 6, 8]
