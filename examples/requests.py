"""Makes the trace examples/requests.csv: Poisson arrivals and lognormal lengths, from a seed, measured nowhere."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

REQUESTS, RATE = 2000, 6.0  # requests/s
MOST = 2048  # tokens


def rows(seed: int = 0) -> list[tuple[str, int, int]]:
    """Seconds since the start, prompt tokens, output tokens, by request."""
    generator = np.random.default_rng(seed)
    moments = np.cumsum(generator.exponential(1 / RATE, REQUESTS))
    prompts, outputs = (np.clip(generator.lognormal(np.log(median), 0.8, REQUESTS), 1, MOST).astype(int)
                        for median in (300, 200))
    return [(f"{moment:.3f}", int(prompt), int(output))
            for moment, prompt, output in zip(moments, prompts, outputs, strict=True)]


if __name__ == "__main__":
    with (Path(__file__).parent / "requests.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("arrived_at", "num_prefill_tokens", "num_decode_tokens"),
                                                         *rows()])
