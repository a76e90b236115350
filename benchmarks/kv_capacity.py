"""KV tokens that engines reported when they started, beside what `Placement` predicts for them, now and before.

    python benchmarks/kv_capacity.py

Every record is public: the model, GPUs, share and limits that its source names (defaults where it names none). Where a
source prints the memory of the cache and not its tokens, tokens follow from the bytes of one. Left out: models with
state or mixed windows, whose printed tokens mean different things in different versions, runs with images, and records
that leave model, GPU or share open. "Before" is 0.99 of the memory in the GPU's name less the weights, as this package
had it, at the record's own share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.hardware.catalogue import GIB, find_gpu, find_model
from fluid.hardware.model import Model
from fluid.hardware.placement import Placement

NAMED = {"a100-40gb": 40, "a100-80gb": 80, "h100-80gb": 80, "rtx-4090": 24, "rtx-3090": 24, "rtx-5090": 32,
         "rtx-pro-6000": 96, "l40s": 48}
MODELS = {
    "qwen3-32b": Model("qwen3-32b", 64, 5120, 64, 8, 128, 25600, 151936, qk_norm=True),
    "qwen3-0.6b": Model("qwen3-0.6b", 28, 1024, 16, 8, 128, 3072, 151936, tied_embeddings=True, qk_norm=True),
    "mistral-small-24b": Model("mistral-small-24b", 40, 5120, 32, 8, 128, 32768, 131072),
}


class Record(NamedTuple):
    """One start: `tokens` of KV cache, or the `gib` on each GPU that its log gives the cache."""

    model: str
    gpu: str
    gpus: int
    share: float
    sequences: int
    batched: int
    tokens: int | None
    gib: float | None
    version: str
    source: str
    weights: str | None = None


PLANNER = "llm-d planner, vLLM Empirical Memory Profiling Results"
RECORDS = (
    Record("llama-3.1-8b", "rtx-4090", 1, 0.90, 256, 2048, 41_408, None, "0.19.0",
           "casys-kaist/LLMServingSim bench/results/llama-3.1-8b-rtx4090/meta.json"),
    Record("llama-3.1-8b", "rtx-pro-6000", 1, 0.92, 128, 2048, 574_608, None, "0.28.0",
           "casys-kaist/LLMServingSim bench/examples/RTXPRO6000/Llama-3.1-8B/vllm/meta.json"),
    Record("qwen3-32b", "rtx-pro-6000", 2, 0.92, 128, 2048, 462_144, None, "0.28.0",
           "casys-kaist/LLMServingSim bench/examples/RTXPRO6000/Qwen3-32B/vllm/meta.json"),
    Record("qwen3-8b", "a100-40gb", 1, 0.90, 256, 2048, 136_080, None, "0.9.2", "tokenkaki notes"),
    Record("qwen3-8b", "a100-40gb", 1, 0.90, 256, 2048, 140_960, None, "0.19.0", "tokenkaki notes, later run"),
    Record("llama-3.1-8b", "a100-40gb", 1, 0.90, 256, 8192, 157_936, None, "0.15.1", "ilseokoh/vllm-gce"),
    Record("llama-3.1-8b", "h100-80gb", 1, 0.90, 1024, 8192, None, 51.38, "0.11.0", PLANNER),
    Record("qwen3-0.6b", "h100-80gb", 1, 0.90, 1024, 8192, None, 64.45, "0.11.0", PLANNER),
    Record("qwen3-32b", "h100-80gb", 1, 0.90, 1024, 8192, None, 4.45, "0.11.0", PLANNER),
    Record("qwen3-32b", "h100-80gb", 2, 0.90, 1024, 8192, None, 34.49, "0.11.0", PLANNER),
    Record("llama-3.1-70b", "h100-80gb", 2, 0.90, 1024, 8192, None, 32.00, "0.11.0", PLANNER, "fp8"),
    Record("mistral-small-24b", "h100-80gb", 1, 0.95, 1024, 8192, 184_832, None, "0.11.0", PLANNER),
    Record("qwen3-8b", "rtx-5090", 1, 0.92, 256, 2048, 89_040, None, "0.24.0", "file 67163912157"),
    Record("llama-3.1-8b", "rtx-3090", 1, 0.90, 256, 20_000, 31_232, None, "0.6.4", "vllm-project/vllm issue 10517"),
    Record("llama-3.1-8b", "rtx-3090", 1, 0.90, 256, 29_000, 23_648, None, "0.6.4", "vllm-project/vllm issue 10517"),
)


def placed(record: Record) -> Placement:
    """The record's placement."""
    model = MODELS.get(record.model) or find_model(record.model)
    return Placement(model, find_gpu(record.gpu), record.gpus, memory_fraction=record.share, block=16,
                     weight_dtype=record.weights, max_num_seqs=record.sequences, max_num_batched_tokens=record.batched)


def reported(record: Record, placement: Placement) -> float:
    """KV tokens of the whole group that the engine found."""
    if record.tokens is not None:
        return float(record.tokens)
    assert record.gib is not None
    return record.gib * GIB * record.gpus / placement.kv_bytes_per_token


def before(record: Record, placement: Placement) -> float:
    """The prediction of before, at the record's share."""
    memory = record.share * record.gpus * NAMED[record.gpu] * GIB
    return (memory - placement.weight_bytes) / placement.kv_bytes_per_token


def main() -> None:
    print(f"{'model':18} {'GPUs':18} {'share':>5} {'B':>5} {'q':>6} {'vLLM':>7} {'reported':>10} {'predicted':>10} "
          f"{'':>6} {'before':>7}  source")
    now, old = [], []
    for record in RECORDS:
        placement = placed(record)
        truth = reported(record, placement)
        now.append(placement.kv_capacity / truth - 1)
        old.append(before(record, placement) / truth - 1)
        print(f"{record.model:18} {record.gpus} x {record.gpu:14} {record.share:5.2f} {record.sequences:5} "
              f"{record.batched:6} {record.version:>7} {truth:10,.0f} {placement.kv_capacity:10,} {now[-1]:+6.1%} "
              f"{old[-1]:+7.1%}  {record.source}")
    for name, errors in (("predicted", now), ("before", old)):
        sizes = np.abs(errors)
        print(f"{name:10} mean {sizes.mean():.1%}, median {np.median(sizes):.1%}, within 5%: "
              f"{int((sizes <= 0.05).sum())} of {len(sizes)}")


if __name__ == "__main__":
    main()
