"""Makes examples/batches.csv: batches whose time is known, with noise of 3% and one in twenty 2 to 4 times too slow."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

COLUMNS = ("num_decode", "kv_tokens_decode", "num_prefill", "prefill_tokens", "batch_time_s")
OVERHEAD, PER_KV_TOKEN, PER_PREFILL_TOKEN, PER_SEQUENCE = 0.0098, 2.6e-7, 5.5e-5, 8.0e-5  # seconds
BATCHES = 240


def rows(seed: int = 0) -> list[tuple[int, int, int, int, str]]:
    """Decodes, their KV tokens, prefills, their tokens, seconds, by batch."""
    generator = np.random.default_rng(seed)
    decodes = generator.integers(1, 129, BATCHES)
    context = decodes * generator.integers(50, 900, BATCHES)
    prefills = generator.integers(0, 3, BATCHES)
    tokens = prefills * generator.integers(20, 900, BATCHES)
    seconds = (OVERHEAD + PER_KV_TOKEN * (context + tokens) + PER_PREFILL_TOKEN * tokens
               + PER_SEQUENCE * (decodes + prefills)) * np.exp(0.03 * generator.standard_normal(BATCHES))
    seconds *= np.where(generator.random(BATCHES) < 0.05, generator.uniform(2, 4, BATCHES), 1.0)
    return [(*(int(each) for each in row), f"{second:.6f}")
            for *row, second in zip(decodes, context, prefills, tokens, seconds, strict=True)]


if __name__ == "__main__":
    with (Path(__file__).parent / "batches.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows()])
