"""Nested designs on the lengths of long traces: `python benchmarks/nested_lengths.py [--requests 29000]`.

Lognormal prompts and outputs, nearly every pair of them another, on replicas large enough for whole thresholds. What is
printed is the processor time of the design, and of how far it can grow, over that of a design for 500 output lengths in
the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from fluid import IterationTime, Replica, Workload
from thresholds import NestedDesign, nested

T = TypeVar("T")
CASES = (("fluid thresholds of a few prompts", 50.0, 10**8, 1e-9, 4000),
         ("thresholds of dozens", 5000.0, 10**9, 1e-11, 8000),
         ("none that drift", 50.0, 10**7, 1e-8, 4000))


def lengths(requests: int, rate: float, longest: int) -> Workload:
    """The mix of so many requests."""
    rng = np.random.default_rng(1)
    prompts = rng.lognormal(6.5, 1.2, requests).astype(np.int64).clip(1, 16_000)
    outputs = rng.lognormal(5.0, 1.2, requests).astype(np.int64).clip(1, longest)
    pairs, counts = np.unique(np.stack([prompts, outputs], axis=1), axis=0, return_counts=True)
    return Workload.from_arrays(pairs[:, 0], pairs[:, 1], counts * (rate / requests))


def chat() -> NestedDesign:
    """The yardstick: geometric outputs of mean 147 up to 500, at 600 requests/s."""
    outputs = np.arange(1, 501)
    weights = (1 - 1 / 147) ** outputs
    mix = Workload.from_arrays(np.full(500, 58), outputs, 600.0 * weights / weights.sum())
    return nested(mix, Replica(1_370_000, IterationTime(0.0106, 4.013e-8)))


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Processor seconds, and what the work gives."""
    begun = time.process_time()
    found = work()
    return time.process_time() - begun, found


def main() -> None:
    """Design each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=29_000)
    requests = parser.parse_args().requests
    chat()
    unit = timed(chat)[0]
    print(f"a design for 500 output lengths: 1 ({unit:.1f} s of processor time here)")
    for name, rate, capacity, per_token, longest in CASES:
        mix, replica = lengths(requests, rate, longest), Replica(capacity, IterationTime(0.0106, per_token))
        seconds, design = timed(lambda mix=mix, replica=replica: nested(mix, replica))
        growing, scale = timed(lambda design=design: design.max_rate_scale)
        print(f"{name}: {len(mix):,} pairs, {len(design.thresholds)} segments, design {seconds / unit:.1f} "
              f"({seconds:.1f} s), up to {scale:.3g} of these rates {growing / unit:.1f} ({growing:.1f} s)")


if __name__ == "__main__":
    main()
