"""How long an iteration takes on this GPU: a decoder of a model's shape, random weights, batches of every kind.

    pip install 'fluidwait[measure]'
    python benchmarks/measure_iteration_time.py --model llama-2-7b --out batches.csv
    fluidwait calibrate batches.csv

Measured are decodes (every --batches with every --contexts), prefills (1, 2 and 4 prompts of every --prefills, which
are tokens each; `prefill_tokens` counts all) and both in one iteration (every second batch and context, every third
prompt), as far as they fit in the memory and in the window of the model. The time of a batch is the median of the
repeats between two CUDA events, after a warm-up, each a replay of a CUDA graph where the iteration can be captured
(column `graph`); `spread` is the distance of the quartiles over the median.

It is not the engine: no scheduler, no sampling beyond the largest logit, one GPU, contexts of a batch all equal, norms
and rotations kernel by kernel (--compile fuses them, as engines do). Without CUDA it runs on the processor, to try it
out, and the figures mean nothing. Rows are appended as they are measured: run again with the same file, it measures
what is missing. `torch_decoder.py` beside this file is what runs.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median, quantiles
from typing import NoReturn

from fluid.errors import InputError
from fluid.hardware.catalogue import find_model
from fluid.hardware.huggingface import model_from_config
from fluid.hardware.model import Model

try:
    import torch
    from torch_decoder import Batch, Decoder
except ImportError as error:
    print(f"measure_iteration_time: PyTorch is missing: pip install 'fluidwait[measure]' ({error})", file=sys.stderr)
    sys.exit(2)

MEASURED = ("num_decode", "kv_tokens_decode", "num_prefill", "prefill_tokens")
ORIGIN = ("model", "layers", "dtype", "gpu", "torch")
COLUMNS = (*MEASURED, "batch_time_s", "repeats", "spread", "graph", *ORIGIN)
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
WARMUP = 3


def cells(batches: Sequence[int], contexts: Sequence[int], prefills: Sequence[int]) -> Iterator[Batch]:
    """The batches to measure: decodes of every size and context, prompts of every length, some of both."""
    yield from (Batch(decodes, context) for decodes, context in product(batches, contexts))
    yield from (Batch(prompts=prompts, length=length) for prompts in (1, 2, 4) for length in prefills)
    for decodes, context, length in product(batches[1::2], contexts[1::2], prefills[1::3]):
        yield Batch(decodes, context, 1, length)


def timed(decoder: Decoder, batch: Batch, repeats: int) -> tuple[list[float], bool]:
    """Seconds of each of `repeats` iterations, and whether they were replays of a CUDA graph."""
    inputs = decoder.inputs(batch)

    def step() -> None:
        decoder.iteration(batch, *inputs).argmax(dim=-1)

    for _ in range(WARMUP):
        step()
    if decoder.device != "cuda":
        return [_clock(step) for _ in range(repeats)], False
    run, graphed = _captured(step)
    run()
    seconds = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return seconds, graphed


def _clock(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _captured(step: Callable[[], None]) -> tuple[Callable[[], None], bool]:
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError:  # an operation that cannot be captured: launch by launch then
        torch.cuda.synchronize()
        return step, False
    return graph.replay, True


def resume(path: Path, origin: Sequence[str]) -> set[tuple[int, ...]]:
    """The batches a file holds already; writes the header of a new one and cuts a row left half written."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    rows = list(csv.DictReader(whole))
    same = all(tuple(row[column] for column in ORIGIN) == tuple(origin) for row in rows if set(row) == set(COLUMNS))
    if lines and (not whole or whole[0].strip() != ",".join(COLUMNS) or not same):
        raise InputError("out", "a new file, or one measured with this " + ", ".join(ORIGIN), str(path))
    if whole != lines or not lines:
        path.write_text("".join(whole) or ",".join(COLUMNS) + "\n", encoding="utf-8")
    return {tuple(int(row[column]) for column in MEASURED) for row in rows}


def measure(decoder: Decoder, todo: Sequence[Batch], path: Path, origin: Sequence[str], repeats: int) -> None:
    """Append one row per batch to the file; a batch that does not fit is left out with a note."""
    with path.open("a", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        for number, batch in enumerate(todo, 1):
            label = (f"[{number}/{len(todo)}] {batch.decodes} decodes of {batch.context} tokens, "
                     f"{batch.prompts} prompts of {batch.length}")
            if batch.cached > decoder.pool:
                note(f"{label}: left out, {batch.cached} tokens of KV cache, there is room for {decoder.pool}")
                continue
            try:
                seconds, graphed = timed(decoder, batch, repeats)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                note(f"{label}: left out, the GPU ran out of memory")
                continue
            middle, (low, _, high) = median(seconds), quantiles(seconds, n=4)
            rows.writerow((*batch.key, f"{middle:.9g}", repeats, f"{(high - low) / middle:.4f}", int(graphed), *origin))
            file.flush()
            note(f"{label}: {middle * 1e3:.3f} ms")


def note(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"measure_iteration_time: {message}\n")


def numbers(text: str) -> list[int]:
    """Whole numbers of at least 1, separated by commas."""
    values = [int(part) for part in text.split(",")]
    if min(values) < 1:
        raise ValueError
    return values


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shape = parser.add_mutually_exclusive_group(required=True)
    shape.add_argument("--model", help="a name of the catalogue, such as llama-2-7b")
    shape.add_argument("--config", help="path of a Hugging Face config.json")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write or go on with")
    parser.add_argument("--layers", type=int, help="measure with so many layers only")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--batches", type=numbers, default=[2**i for i in range(9)], help="decodes: 1,2,4,...")
    parser.add_argument("--contexts", type=numbers, default=[2**i for i in range(6, 14)], help="tokens per decode")
    parser.add_argument("--prefills", type=numbers, default=[2**i for i in range(6, 14)], help="tokens per prompt")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="fuse norms, rotations and SwiGLU with torch.compile")
    return parser.parse_args(argv)


def shape(options: argparse.Namespace) -> Model:
    """The model to build: dense, its own keys and values in every layer."""
    model = find_model(options.model) if options.model else model_from_config(options.config)
    if model.latent is not None or model.experts is not None or model.tensors:
        raise InputError("model", "dense, of Llama's layers and without latent attention to be measured here",
                         model.name)
    return model if options.layers is None else replace(model, layers=options.layers)


def run(options: argparse.Namespace) -> None:
    if options.repeats < 2:
        raise InputError("repeats", "at least 2", options.repeats)
    model, device = shape(options), "cuda" if torch.cuda.is_available() else "cpu"
    longest = model.attention_window or max(options.contexts + options.prefills)
    grid = [batch for batch in cells(options.batches, options.contexts, options.prefills)
            if max(batch.context, batch.length) <= longest]
    gpu = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    origin = [text.replace(",", " ") for text in (model.name, str(model.layers), options.dtype, gpu, torch.__version__)]
    done = resume(options.out, origin)
    todo = [batch for batch in grid if batch.key not in done]
    note(f"{', '.join(origin)}: {len(grid)} batches, {len(grid) - len(todo)} done")
    if device == "cpu":
        note("no CUDA device: this runs on the processor, and the figures mean nothing")
    with torch.inference_mode():
        decoder = Decoder(model, device, DTYPES[options.dtype], longest, options.compile)
        bytes_per_token = model.kv_elements * DTYPES[options.dtype].itemsize
        free = 0.85 * torch.cuda.mem_get_info()[0] if device == "cuda" else 2.0**30  # the rest is for activations
        decoder.allocate(min(int(free // bytes_per_token), max((batch.cached for batch in todo), default=0)))
        measure(decoder, todo, options.out, origin, options.repeats)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0 when done, 2 for bad input, 130 when interrupted (run again to go on)."""
    options = parse(argv)
    try:
        run(options)
    except (InputError, OSError) as error:
        note(f"measure_iteration_time: {' '.join(str(error).split())}")
        return 2
    except torch.cuda.OutOfMemoryError:
        note("measure_iteration_time: the weights do not fit in the memory of the GPU: try --layers")
        return 2
    except KeyboardInterrupt:
        note("interrupted: run again with the same file to go on")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
