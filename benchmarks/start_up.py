"""How long a command takes before it does anything: `python benchmarks/start_up.py [--rounds 20]`.

Each is started anew in every round, one after the other, so that whatever else the machine does falls on all alike.
What is printed is the median of its wall-clock time over that of `python -c "import numpy"` in the same run, and the
quartiles of the ratio round by round.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

YARDSTICK = ("-c", "import numpy")
STARTED: dict[str, Sequence[str]] = {
    "python, nothing": ("-c", "pass"),
    "fluidwait --version": ("-m", "fluidwait", "--version"),
    "fluidwait --help": ("-m", "fluidwait", "--help"),
    "fluidwait verify --help": ("-m", "fluidwait", "verify", "--help"),
    "fluidwait solve": ("-m", "fluidwait", "solve"),
    "import fluid, thresholds, verification": ("-c", "import fluid, thresholds, verification"),
    "from verification import simulate": ("-c", "from verification import simulate"),
    "import scipy.stats": ("-c", "import scipy.stats"),
}


def seconds(arguments: Sequence[str]) -> float:
    """Wall-clock time of a Python process, from its start to its end."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    """Measure all in turn, round by round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    every = {"import numpy": YARDSTICK, **STARTED}
    for arguments in every.values():
        seconds(arguments)  # into the cache of the disk
    found = np.array([[seconds(arguments) for arguments in every.values()] for _ in range(rounds)])
    medians, ratios = np.median(found, axis=0), found / found[:, :1]
    print(f"median of {rounds} rounds over that of `import numpy`, {medians[0]:.3f} s here")
    for name, median, ratio in zip(every, medians, ratios.T, strict=True):
        low, high = np.quantile(ratio, (0.25, 0.75))
        print(f"{name:40}{median / medians[0]:8.2f}   quartiles {low:.2f} to {high:.2f}   {median:.3f} s")


if __name__ == "__main__":
    main()
