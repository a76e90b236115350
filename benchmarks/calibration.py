"""How often the intervals of a calibration hold the truth, how far off its coefficients are, and the fit of a file.

    python benchmarks/calibration.py [FILE] [--draws 200] [--pieces 2]

Without FILE: known coefficients on a grid of batches like a benchmark's (decodes of 1 to 256 sequences at contexts of
64 to 1,536 tokens, prompts of 64 to 2,048 tokens with and without decodes, every point twice: 320 rows), with 3% normal
noise and 5% of the rows 2 to 4 times slower. "In chunks": with prompts of 4, 8, 16 and 32 tokens too, without which
the lines of Vidur's batches cross, at 20.5 tokens, where no prompt is. A line of a table is a coefficient:

    told     the share of the draws that give it an interval
    held     the share of those whose 95% interval holds the truth (two standard errors: 3% at 200 draws)
    missed   the share of all draws that give it an interval without the truth
    bias     the mean of estimate / truth - 1
    error    the mean of |estimate / truth - 1|
    length   the mean half length of the interval / truth

(the last three in units of the coefficient where the truth is 0). An interval of a coefficient that is 0 is one-sided,
so it holds the truth in 97.5%, and those of the others gain from the sign where it binds. With FILE: its coefficients
with intervals, and how well 1 to --pieces lines fit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from fluid import Batches, Calibration, IterationTime, calibrate, read_batches

VIDUR = IterationTime.largest(IterationTime(0.0101, 2.55e-7), IterationTime(0.0089, 2.55e-7, 58.5e-6, 58.5e-6))
SCENARIOS = {
    "every coefficient": IterationTime(0.0106, 4.0e-7, 60e-6, 40e-6),
    "none per sequence": IterationTime(0.0106, 4.0e-7, 60e-6, 0.0),
    "none per prompt token": IterationTime(0.0106, 4.0e-7, 0.0, 40e-6),
    "memory alone": IterationTime(0.0106, 4.0e-7),
    "two lines": IterationTime.largest(IterationTime(0.012, 2.5e-7), IterationTime(0.008, 2.5e-7, 60e-6, 60e-6)),
    "Vidur's lines": VIDUR,
    "Vidur's lines, in chunks": VIDUR,
}
PROMPTS, CHUNKS = (64, 128, 256, 512, 1024, 2048), (4, 8, 16, 32)
NOISE, SLOW = 0.03, 0.05


def grid(prompts: tuple[int, ...] = PROMPTS) -> np.ndarray:
    """Rows (decodes, their KV tokens, prefills, prompt tokens)."""
    decodes = [(n, n * context, 0, 0) for n in (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256)
               for context in (64, 128, 256, 384, 512, 768, 1024, 1536)]
    prefills = [(n, n * context, 1, prompt) for n in (0, 1, 8, 32, 64, 128) for context in (256, 1024)
                for prompt in prompts]
    return np.array(2 * (decodes + prefills), dtype=float)


def draw(truth: IterationTime, seed: int, prompts: tuple[int, ...] = PROMPTS) -> Batches:
    """The grid measured with noise and slow iterations."""
    random, (decode, kv, prefill, tokens) = np.random.default_rng(seed), grid(prompts).T
    seconds = np.array([truth(*batch) for batch in zip(kv + tokens, tokens, decode + prefill, strict=True)])
    seconds *= 1 + NOISE * random.standard_normal(seconds.size)
    seconds *= np.where(random.random(seconds.size) < SLOW, random.uniform(2, 4, seconds.size), 1.0)
    return Batches.from_arrays(decode, kv, seconds, prefill_sequences=prefill, prefill_tokens=tokens)


def coverage(name: str, truth: IterationTime, draws: int) -> None:
    start = time.perf_counter()
    pieces, prompts = len(truth.pieces), PROMPTS + CHUNKS * ("chunks" in name)
    found = [each for each in (calibrate(draw(truth, seed, prompts), pieces) for seed in range(draws))
             if len(each.pieces) == pieces]
    took = (time.perf_counter() - start) / draws
    print(f"\n{name}: {len(found)} draws, {1e3 * took:.0f} ms each, mean error {mean_error(found):.3%}, "
          f"{np.mean([each.outliers for each in found]):.1f} of {found[0].rows} rows set aside")
    print(f"{'':>24}{'truth':>12}{'told':>9}{'held':>9}{'missed':>9}{'bias':>11}{'error':>11}{'length':>11}")
    for piece, line in enumerate(truth.pieces):
        for j, (field, value) in enumerate(line._asdict().items()):
            estimates = np.array([each.pieces[piece][j] for each in found])
            bounds = np.array([each.intervals[piece][j] or (np.nan, np.nan) for each in found])
            told = ~np.isnan(bounds[:, 0])
            missed = told & ~((bounds[:, 0] <= value) & (value <= bounds[:, 1]))
            held = 1 - missed.sum() / max(told.sum(), 1)
            off = (estimates - value) / (value or 1.0)
            length = (bounds[told, 1] - bounds[told, 0]).sum() / max(told.sum(), 1) / 2 / (value or 1.0)
            print(f"{field:>24}{value:>12.4g}{told.mean():>9.1%}{held:>9.1%}{missed.mean():>9.1%}{off.mean():>11.2g}"
                  f"{np.abs(off).mean():>11.2g}{length:>11.2g}")


def mean_error(found: list[Calibration]) -> float:
    return float(np.mean([each.mape for each in found]))


def fit_of(path: str, most: int) -> None:
    batches = read_batches(path, skip_bad_rows=True)
    for pieces in range(1, most + 1):
        start = time.perf_counter()
        found = calibrate(batches, pieces)
        print(f"\n{len(found.pieces)} lines, {1e3 * (time.perf_counter() - start):.0f} ms: {found.rows:,} rows, "
              f"{found.outliers} set aside, mape {found.mape:.3%}, r2 {found.r2:.4f}")
        print(*lines_of(found), *found.notes, "", found.to_toml(), sep="\n")


def lines_of(found: Calibration) -> Iterator[str]:
    for line, intervals in zip(found.pieces, found.intervals, strict=True):
        for field, value, interval in zip(line._fields, line, intervals, strict=True):
            low, high = interval or (np.nan, np.nan)
            yield f"{field:>24}{value:>14.6g}   [{low:.6g}, {high:.6g}]"


def main() -> None:
    parser = argparse.ArgumentParser(description="coverage and errors of a calibration, or the fit of a file")
    parser.add_argument("file", nargs="?")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--pieces", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.file:
        fit_of(arguments.file, arguments.pieces)
        return
    for name, truth in SCENARIOS.items():
        coverage(name, truth, arguments.draws)


if __name__ == "__main__":
    main()
