"""A prompt that is prefilled alone: its time by the law, beside kernel tables and measured times to first token.

    python benchmarks/first_token.py        needs pip install '.[kernels]'

Tables: an iteration of one prompt of 512 to 8,192 tokens of Llama-3.1-8B and 70B (4 GPUs), 16 bits, on every GPU they
have (a sum of kernels). Measured: the runs of `benchmarks/iteration_law.py` at four requests at a time under vLLM, the
fewest there are. Predicted is half an iteration, then the prompt's own beside three decodes (0.9 of the requests), or
the start, where four prompts come together (0.1). The measured time has the way of a request through the server as
well, some 50 to 100 ms, which an iteration has not: long prompts on a Hopper hide it, the others do not.
"""

from __future__ import annotations

import logging
from collections import defaultdict

import numpy as np
from iteration_law import GPUS, Row, measured, score, solved

from fluid.errors import InputError
from fluid.hardware.catalogue import find_gpu, find_model
from fluid.hardware.iteration_law import coefficients
from fluid.hardware.kernel_tables import SYSTEMS, engine_of
from fluid.hardware.placement import Placement

BUDGET = 8192  # tokens of an iteration in those runs
LENGTHS = (512, 1024, 2048, 4096, 8192)


def beside_tables() -> dict[str, list[float]]:
    """ln(law / tables) of a lone prompt, by GPU."""
    logs = defaultdict(list)
    for gpu in SYSTEMS:
        for model, gpus in (("llama-3.1-8b", 1), ("llama-3.1-70b", 4)):
            placement = Placement(find_model(model), find_gpu(gpu), gpus)
            try:
                engine = engine_of(placement)
                for tokens in LENGTHS:
                    time = placement.time_by_law(tokens).iteration_time(kv=tokens, prefill=tokens, size=1)
                    logs[gpu].append(float(np.log(time / (engine.predict_prefill_latency(1, tokens) / 1000))))
            except (InputError, ValueError) as error:
                print(f"{gpu}, {model}: {str(error)[:90]}")
    return logs


def first_token(row: Row) -> float:
    """The mean time to the first token of a run at four requests at a time."""
    line = row.costs() @ coefficients(row.engine)
    kv = 3 * (row.prompt + row.output / 2)

    def until(tokens: float) -> float:
        whole = int(tokens // BUDGET)
        parts = [BUDGET] * whole + [tokens - whole * BUDGET] * int(tokens > whole * BUDGET)
        return sum(float(line @ np.array([1, kv + part, part, 4])) for part in parts)

    together = [until(min(4 * row.prompt, BUDGET * np.ceil(k * row.prompt / BUDGET))) for k in range(1, 5)]
    return 0.9 * (solved(row, line) / 2 + until(row.prompt)) + 0.1 * float(np.mean(together))


def main() -> None:
    logging.disable(logging.WARNING)
    print(f"{'beside kernel tables':34}   mean  median   bias")
    tables = beside_tables()
    for gpu, errors in tables.items():
        print(f"{gpu:34} {score(np.array(errors))}")
    print(f"{'all':34} {score(np.concatenate(list(tables.values())))}\n{'beside measured first tokens'}")
    runs = defaultdict(list)
    for row in measured():
        if row.engine == "vllm" and row.concurrency <= 4:
            runs[GPUS[row.system].name, round(row.prompt)].append(float(np.log(first_token(row) / row.ttft)))
    for (gpu, tokens), errors in sorted(runs.items()):
        print(f"{gpu + f', {tokens:,} tokens':34} {score(np.array(errors))}")


if __name__ == "__main__":
    main()
