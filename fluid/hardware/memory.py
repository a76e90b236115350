"""What an engine keeps of a GPU's memory for itself, beside the weights and the KV cache, and its default limits.

When vLLM starts it runs one iteration of q tokens and samples for B sequences, notes the peak, and gives the KV cache
the rest of its share. Per GPU, with hidden size h, intermediate size m, V tokens in the vocabulary and t GPUs,

    A = max(39 bytes B V,  2 bytes q (2 h + 3 m / t))  +  0.13 GiB  (+ 0.42 GiB where t > 1)

The sampler sorts the logits of B sequences: 39 bytes for each, in every start-up record that prints its peak (vLLM
0.10 to 0.11 on an H100: 4.76 GiB for Llama-3.1-8B at B = 1,024, 7.38 for gpt-oss-120b), the layers of an iteration
need less. What libraries and links hold is 0.13 GiB on one GPU and 0.55 on each of two. CUDA graphs are taken from
outside the share (before vLLM 0.21; then an estimate is subtracted, and 0.92 is the default share). Held against
public records of what engines found in `benchmarks/kv_capacity.py`. See mathematics, section 14.2.
"""

from __future__ import annotations

from typing import NamedTuple

from fluid.hardware.catalogue import GIB, Gpu
from fluid.hardware.model import Model

SAMPLER_BYTES = 39  # per sequence and token of the vocabulary
ELEMENT_BYTES = 2
LIBRARIES, LINKS = 0.13 * GIB, 0.42 * GIB
LARGE, LARGEST = 70 * GIB, 160 * GIB


class EngineLimits(NamedTuple):
    """The most sequences in a batch and the most tokens an iteration computes, where nobody sets them."""

    max_num_seqs: int
    max_num_batched_tokens: int


def default_limits(gpu: Gpu) -> EngineLimits:
    """The defaults of `vllm serve` on a GPU (`engine/arg_utils.py`, 0.11 to 0.33).

    >>> from fluid.hardware.catalogue import find_gpu
    >>> default_limits(find_gpu("a100-80gb")), default_limits(find_gpu("h100-80gb")).max_num_seqs
    (EngineLimits(max_num_seqs=256, max_num_batched_tokens=2048), 1024)
    """
    if gpu.memory_bytes < LARGE or gpu.name.startswith("a100"):
        return EngineLimits(256, 2048)
    return EngineLimits(1024, 16384 if gpu.memory_bytes >= LARGEST else 8192)


def reserved_bytes(model: Model, gpus: int, limits: EngineLimits) -> float:
    """A, bytes on each GPU."""
    sequences = min(limits)  # no more of them than tokens in an iteration
    sampler = SAMPLER_BYTES * sequences * model.vocab_size
    widest = 2 * model.hidden_size + 3 * model.intermediate_size / gpus
    layers = ELEMENT_BYTES * limits.max_num_batched_tokens * widest
    return max(sampler, layers) + LIBRARIES + (LINKS if gpus > 1 else 0.0)
