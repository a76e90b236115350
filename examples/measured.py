"""Makes examples/measured.csv: requests with their first token and end, as of a server that falls behind.

No server was measured: it is a simulation of vLLM V1 on the replica of examples/trace.toml, the lengths of
examples/requests.csv arriving at 1.3 of what it can carry, until all are answered.
"""

from __future__ import annotations

import csv
from pathlib import Path

import fluidwait
from fluid import solve
from verification import simulate
from verification.rules.vllm_v1 import as_it_comes
from verification.traffic.processes import POISSON

HERE = Path(__file__).parent
SHARE, SECONDS = 1.3, 180.0


def rows(seed: int = 0) -> list[tuple[str | int, ...]]:
    """Moments in seconds, and tokens: arrival, prompt, output, first token, end."""
    read = fluidwait.load(HERE / "trace.toml")
    read = read.at(SHARE * solve(read.workload, read.replica).max_rate_scale * read.rate)
    arrivals = POISSON.draw(read.workload, SECONDS, seed, 0)
    run = simulate(as_it_comes(read.replica), read.workload, read.replica, arrivals=arrivals)
    types = arrivals.types
    lengths = zip(run.profile.prompt[types].tolist(), run.output_tokens.tolist(), strict=True)
    moments = zip(*(each.tolist() for each in (arrivals.times, run.first_token, run.finished)), strict=True)
    return [(f"{start:.3f}", prompt, output, f"{first:.3f}", f"{end:.3f}")
            for (prompt, output), (start, first, end) in zip(lengths, moments, strict=True)]


if __name__ == "__main__":
    with (HERE / "measured.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("start", "prompt", "output", "first", "end"), *rows()])
