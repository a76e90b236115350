"""Kernel tables beside the law, the roofline of before and the package's own step, on the same measured runs.

    python benchmarks/kernel_times.py [--rows 133]       needs pip install '.[kernels]'

Every so-manieth of the rows of `benchmarks/iteration_law.py` whose GPU, engine and types the tables have. "Kernels" is
our line (or two) fitted to the tables over the batches the machine can hold, "package" its own estimate of the mean
batch (`mixed_step_latency`), without a line between.
"""

from __future__ import annotations

import argparse
import logging
from functools import cache

import numpy as np
from iteration_law import Design, Row, by_sheet, measured, predicted, score

from fluid import Batches
from fluid.calibration.fit import lines_through
from fluid.errors import InputError
from fluid.hardware.kernel_tables import SYSTEMS, Reach, engine_of, kernel_batches, tables_version
from fluid.hardware.placement import Placement
from fluid.replica import IterationTime

DTYPES = {16: "float16", 8: "fp8", 4: "nvfp4"}


def placed(row: Row) -> Placement:
    return Placement(row.model, row.gpu, row.gpus, engine=row.engine, weight_dtype=DTYPES[row.bits],
                     kv_dtype="fp8" if row.kv_bytes * row.model.kv_heads < 2 * row.model.kv_elements else "float16")


@cache
def by_kernels(row: Row) -> IterationTime:
    """The times of the machine of a row, for prompts of its length."""
    reach = Reach(int(row.most * (row.prompt + row.output / 2)), 512, 8192, round(row.prompt),
                  round(row.prompt + row.output / 2))
    decode, kv, prefills, tokens, seconds = kernel_batches(placed(row), reach).T
    batches = Batches.from_arrays(decode, kv, seconds, prefill_sequences=prefills, prefill_tokens=tokens)
    return lines_through(batches)[0]


def kernels(row: Row) -> float:
    """TPOT by the lines fitted to the tables."""
    time = by_kernels(row)
    tpot = row.tpot
    for _ in range(60):
        _, kv, prefill, size = row.batch(tpot)
        tpot = 0.5 * (tpot + time(kv, prefill, size))
    return tpot


def package(row: Row) -> float:
    """TPOT by the package's own estimate of the mean batch that follows from it."""
    engine, tpot = engine_of(placed(row)), row.tpot
    for _ in range(12):
        _, _, prefill, size = row.batch(tpot)
        step = engine.mixed_step_latency(max(1, round(prefill)), round(size), round(row.prompt), round(row.output))
        tpot = 0.5 * (tpot + step / 1000)
    return tpot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=133)
    most = parser.parse_args().rows
    logging.disable(logging.WARNING)
    rows = measured()
    values = Design.of(rows).fit(np.ones(len(rows), dtype=bool))
    logs: dict[str, list[float]] = {"roofline of before": [], "law": [], "kernels": [], "package": []}
    for row in rows[:: max(1, len(rows) // most)]:
        if row.gpu.name not in SYSTEMS:
            continue
        try:
            answers = (by_sheet(row), predicted(row, values), kernels(row), package(row))
        except InputError:
            continue  # no table for the types of this row
        for name, tpot in zip(logs, answers, strict=True):
            logs[name].append(float(np.log(tpot / row.tpot)))
    print(f"{len(logs['law'])} rows, {tables_version()}\n{'':20}   mean  median   bias")
    for name, errors in logs.items():
        print(f"{name:20} {score(np.array(errors))}")


if __name__ == "__main__":
    main()
