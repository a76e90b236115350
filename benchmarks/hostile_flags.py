"""What becomes of hostile values for every flag of every command.

    python benchmarks/hostile_flags.py [--number 1500] [--seed 1]

So many lists of arguments (`tests/support/hostile_flags.py`), each given to the command in a process of its own, in a
folder of its own, with at most 3 GB and 60 s of processor time: how many ended with which status, the slowest, and
every one that broke the promise: status 0, 1 or 2, and where it is 2 one line on standard error, nothing on standard
output. Ends with status 1 where one did.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from hostile_files import Case, ended_with, tally

DEPLOYMENT = """[replica]
kv_capacity = 20000
max_num_seqs = 64
[replica.iteration_time]
overhead = 0.0106
per_kv_token = 4.013e-7
[[workload.type]]
prompt_tokens = 64
output_tokens = 20
rate = 2.0
[[workload.type]]
prompt_tokens = 16
output_tokens = 40
rate = 1.0
[target]
horizon = 20.0
"""
BATCHES = "num_decode,kv_tokens_decode,batch_time_s\n" + "".join(
    f"{n},{100 * n + k},{0.01 + 1e-6 * k + 1e-5 * n}\n" for n in (1, 2, 4, 8, 16) for k in (0, 1000, 5000, 20000))
TRACE = "arrived_at,num_prefill_tokens,num_decode_tokens\n" + "".join(
    f"{0.7 * i},{10 + 7 * i % 50},{5 + 11 * i % 30}\n" for i in range(100))


def arguments(folder: Path, seed: int, number: int) -> Iterator[list[str]]:
    """The lists of arguments, and the good files that they name."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    from hostile_flags import hostile_flags

    for name, text in (("good.toml", DEPLOYMENT), ("batches.csv", BATCHES), ("trace.csv", TRACE)):
        (folder / name).write_text(text)
    yield from hostile_flags(seed, number, *(str(folder / name) for name in ("good.toml", "batches.csv", "trace.csv")))


def cases(folder: Path, seed: int, number: int) -> Iterator[Case]:
    """Each list of arguments, given to the command in a folder of its own."""
    for i, given in enumerate(arguments(folder, seed, number)):
        place = folder / f"run-{i}"
        place.mkdir()
        shown = shlex.join(each if len(each) < 60 else f"{each[:60]}..." for each in given)
        yield given[0], shown, partial(inside, place, given)


def inside(place: Path, given: list[str]) -> str:
    """How a command ended that was given in a folder of its own, so that nothing is written elsewhere."""
    os.chdir(place)
    return ended_with(given)


def main() -> None:
    parser = argparse.ArgumentParser(description="Hostile values for every flag.")
    parser.add_argument("--number", type=int, default=1500, help="so many lists of arguments")
    parser.add_argument("--seed", type=int, default=1, help="of the random values")
    options = parser.parse_args()
    warnings.simplefilter("error")
    with TemporaryDirectory() as folder:
        sys.exit(tally(cases(Path(folder), options.seed, options.number), options.number) > 0)


if __name__ == "__main__":
    main()
