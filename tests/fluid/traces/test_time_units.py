"""The unit of arrival times: stated, read off the name, or asked for; a guess that cannot be believed is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tool_files import lines, written

from fluid import Columns, FileError, read_trace

NAMES = Columns("p", "o", "t")
UNITS = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}


def table(times: Any, name: str = "t") -> str:
    """A CSV with these arrival times."""
    return f"p,o,{name}\n" + "".join(f"5,2,{time}\n" for time in times)


def question(path: Path, **options: Any) -> str:
    """What is asked of a file whose unit is not known; one line that names the flag."""
    with pytest.raises(FileError) as caught:
        read_trace(path, **options)
    line = str(caught.value).removeprefix(f"{path}: ")
    assert line.endswith("say --time-unit s, ms, us or ns")
    assert "\n" not in line
    return line


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("since", [0, 1_759_813_207])
def test_times_in_a_unit_that_is_said_are_the_same_seconds(tmp_path: Path, unit: str, since: int) -> None:
    """Twelve requests a quarter of a second apart, from 0 or since 1970, exact in nanoseconds too."""
    times = [(4 * since + i) * UNITS[unit] // 4 if unit != "s" else since + i / 4 for i in range(12)]
    for path in (written(tmp_path, table(times)), written(tmp_path, lines([{"p": 5, "o": 2, "t": t} for t in times]))):
        trace = read_trace(path, columns=NAMES, time_unit=unit)
        assert trace.times is not None
        np.testing.assert_array_equal(trace.times, np.arange(12) / 4)
        assert trace.read_as is not None
        assert (trace.read_as.unit, trace.read_as.why) == (unit, "as asked")


@pytest.mark.parametrize(("name", "unit"), [
    ("arrival_time_ns", "ns"), ("Timestamp (ms)", "ms"), ("arrivalUs", "us"), ("t_seconds", "s"),
    ("start_time_nanoseconds", "ns"), ("elapsed.millis", "ms"), ("offset[s]", "s")])
def test_the_name_of_a_column_says_its_unit(tmp_path: Path, name: str, unit: str) -> None:
    path = written(tmp_path, table([i * UNITS[unit] for i in range(9)], name))
    trace = read_trace(path, columns=Columns("p", "o", name))
    assert trace.duration == 8.0
    assert trace.read_as is not None
    assert (trace.read_as.unit, trace.read_as.why) == (unit, "as its name says")
    assert read_trace(path, columns=Columns("p", "o", name), time_unit="ms").duration == pytest.approx(
        8 * UNITS[unit] / 1000)


@pytest.mark.parametrize("name", ["arrivals", "times", "status", "items", "t"])
def test_a_name_without_a_unit_is_assumed_to_be_seconds_and_that_is_said(tmp_path: Path, name: str) -> None:
    trace = read_trace(written(tmp_path, table(range(9), name)), columns=Columns("p", "o", name))
    assert trace.duration == 8.0
    assert str(trace.read_as) == (f"prompt tokens p, output tokens o, times {name} in s, which is assumed: --time-unit "
                                  "s, ms, us or ns says so")


@pytest.mark.parametrize(("times", "why"), [
    ([i * 1e-4 for i in range(12)], "1.091e+04 requests/s are not to be believed in s"),
    ([i * 250_000_000 for i in range(12)], "4.36e-09 requests/s over 3.183e+04 days are not to be believed in s"),
    ([i * 250_000 for i in range(12)], "4.36e-06 requests/s over 31.83 days are not to be believed in s"),
    ([1_759_813_207_532_900_363 + i for i in range(3)], "'1759813207532900363' is too large for s"),
    ([1_759_813_207_532 + 400 * i for i in range(3)], "'1759813207532' is too large for s"),
])
def test_seconds_that_cannot_be_believed_are_asked_back(tmp_path: Path, times: Any, why: str) -> None:
    path = written(tmp_path, table(times))
    assert why in question(path, columns=NAMES)
    assert len(read_trace(path, columns=NAMES, time_unit="ns")) == len(times)


def mooncake(times: Any, **others: Any) -> str:
    return lines([{"timestamp": time, "input_length": 9, "output_length": 5, "hash_ids": [1], **others}
                  for time in times])


@pytest.mark.parametrize(("times", "why"), [
    ([0.114, 1.214, 61.114, 100.0], "does not say in which unit timestamp is (0.114 is a fraction in ms; requests/s "
                                    "would be 0.04 in s, 40 in ms, 4e+04 in us): say --time-unit"),
    (range(0, 12, 2), "does not say in which unit timestamp is (600 requests/s"),
    ([i // 3 for i in range(12)], "4,000 requests/s are not to be believed in ms"),
])
def test_keys_of_mooncake_with_other_times_than_milliseconds_are_asked_back(tmp_path: Path, times: Any,
                                                                             why: str) -> None:
    path = written(tmp_path, mooncake(times))
    if "600" in why:  # a rate that a large service has
        assert read_trace(path).rate == pytest.approx(600)
        return
    for options in ({}, {"format": "mooncake"}):
        assert why in question(path, **options)
    assert read_trace(path, time_unit="s").duration == max(times) - min(times)
    assert read_trace(path, time_unit="ms").duration == pytest.approx((max(times) - min(times)) / 1000)


def test_dates_have_no_unit_even_where_one_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, table(["2024-05-10T02:00:00+02:00", "2024-05-10T00:00:01.5Z"]))
    for unit in (None, "ns"):
        trace = read_trace(path, columns=NAMES, time_unit=unit)
        assert trace.duration == 1.5
        assert trace.read_as is not None
        assert trace.read_as.unit == "date"
