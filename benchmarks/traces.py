"""How fast a request trace is read, against pandas, and how much memory a long one takes.

    python benchmarks/traces.py [--repeats 9] [--long]

A million requests in the Azure format (dates with seven digits, Poisson arrivals at 5/s, prompts of 1 to 4,000 and
outputs of 1 to 1,000 tokens, seeded) are written to a temporary folder and read in turn by

    read_trace    `fluid.read_trace`: every field checked, dates to seconds, SHA-256 of the file
    pandas        `pandas.read_csv`: no check, dates left as text
    dates         `pandas.read_csv` with the dates parsed
    summarise     `fluid.traces.summary.summarise` of the trace read, its length pairs found anew

With --long also ten million requests, read once in a process of its own: the most memory it held, less what it held
before, in bytes a row, beside the 24 of the trace itself. Seconds are processor time of one thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from fluid import read_trace
from fluid.traces.summary import summarise

ROWS, LONG, STEP = 1_000_000, 10_000_000, 100_000


def write(path: Path, rows: int) -> None:
    """A trace of so many requests."""
    random, second = np.random.default_rng(0), 0.0
    with path.open("w") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for _ in range(rows // STEP):
            times = second + np.cumsum(random.exponential(1 / 5, STEP))
            second = times[-1]
            moments = np.datetime_as_string(np.datetime64("2023-11-16T18:00:00", "ns") + (1e9 * times).astype("m8[ns]"))
            prompt, output = random.integers(1, 4001, STEP), random.integers(1, 1001, STEP)
            file.writelines(f"{moment[:10]} {moment[11:27]},{sent},{made}\n" for moment, sent, made in
                            zip(moments.tolist(), prompt.tolist(), output.tolist(), strict=True))


def seconds(call: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(path: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of each round, by what is timed."""
    calls: dict[str, Callable[[], object]] = {
        "pandas": lambda: pd.read_csv(path),
        "dates": lambda: pd.read_csv(path, parse_dates=["TIMESTAMP"]),
        "read_trace": lambda: read_trace(path),
    }
    found: dict[str, list[float]] = {name: [] for name in (*calls, "summarise")}
    for turn in range(repeats + 1):  # the first warms up
        spent = {name: seconds(call) for name, call in calls.items()}
        trace = read_trace(path)
        spent["summarise"] = seconds(lambda trace=trace: summarise(trace))
        if turn:
            for name, each in spent.items():
                found[name].append(each)
    return found


def memory(path: Path) -> tuple[float, float]:
    """Bytes a row that reading took at most, in this process, and processor time."""
    before = most_held()
    spent = seconds(lambda: read_trace(path))
    return (most_held() - before) / LONG, spent


def most_held() -> int:
    """The most memory this process has held, in bytes, as Linux tells it; getrusage would begin at its parent's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the reading of request traces against pandas.")
    parser.add_argument("--repeats", type=int, default=9, help="rounds after the warm-up, of which the median counts")
    parser.add_argument("--long", action="store_true", help="also ten million requests, for their memory")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "requests.csv"
        print(f"writing {ROWS:,} requests ...", file=sys.stderr, flush=True)
        write(path, ROWS)
        found = measure(path, options.repeats)
        print(f"{ROWS:,} requests: seconds, and times pandas.read_csv (medians over {options.repeats} rounds)\n")
        for name, spent in found.items():
            ratio = median(a / b for a, b in zip(spent, found["pandas"], strict=True))
            print(f"{name:>12}{median(spent):>8.2f}{ratio:>8.2f}")
        if options.long:
            print(f"writing {LONG:,} requests ...", file=sys.stderr, flush=True)
            write(path, LONG)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
                held, spent_long = child.submit(memory, path).result()
            print(f"\n{LONG:,} requests: {spent_long:.1f} s, at most {held:.0f} bytes a row beyond the process itself "
                  "(the trace is 24)")


if __name__ == "__main__":
    main()
