"""A model on a group of GPUs: how much KV cache fits, and how long an iteration takes.

With P parameters stored, P_r of them read by an iteration, P_a multiplied by each token (`fluid.hardware.model`),
weights of b_w bytes, KV elements of b_k bytes, and t GPUs of M bytes, B bytes/s and F FLOP/s in tensor parallel,

    KV bytes per token   k = 2 L K d b_k                        (x t/K where t > K: every GPU keeps a whole head)
                         k = t L (c + r) b_k                    latent attention: every GPU keeps the whole vector
    KV capacity          C = floor((phi t M - t A - P b_w) / k) phi: share of the memory the engine may use
    iteration time       tau = d0 + d1 KV + d2 prefill,
                         d0 = P_r b_w / (t beta B)              every iteration reads the weights once
                         d1 = k / (t beta B)                    and the KV cache of its batch
                         d2 = 2 P_a / (t gamma F)               a multiply and an add per parameter and prompt token

A is the memory an engine reserves on each GPU, out of its share, for activations and CUDA graphs: 0 unless given. vLLM
prints it when it starts: some GiB where an iteration may prefill thousands of tokens.

Weights of fewer than 16 bits: the embedding and the output head stay in 16, as checkpoints and engines keep them, and
int4 means 4 + 20/128 bits, for every 128 weights share a scale of 16 bits and a zero of 4 (AWQ, GPTQ). Scales of 8-bit
weights are left out (at most 1 in 1,000), and so are those of a quantised KV cache: nothing with one scale per layer,
one number per vector of d elements where every token and head has its own.

beta and gamma, the shares of the data sheet an engine achieves, come from Llama-2-7B on an A100-80GB. The published
calibration (10.6 ms, 0.4013 us per KV token) means beta = 0.611 and 0.641; Vidur's fit, max(10.1 ms,
8.9 ms + 58.5 us T) for T tokens, means beta = 0.642 and gamma = 0.724. Hence beta = 0.64, gamma = 0.72: 10.13 ms,
0.4018 us, 58.8 us. Nothing is added for launching kernels: beta holds it already, and one GPU cannot tell them apart.

One line, not the larger of a memory-bound and a compute-bound one: Vidur's fit is itself a sum beyond 20 tokens
(8.9 ms + 58.5 us T, not 58.5 us T). Its own KV coefficient, 0.255 us, means beta = 1 and charges 58.5 us per sequence
besides; one affine d1 stands for both, so d3 = 0. For 200 to 1,000 tokens of context the two agree within 26%.

Left out: communication between the GPUs, attention's quadratic part of a prefill (and latent attention's arithmetic in
a decode), 8-bit tensor cores. A prefill also "reads" its own prompt (the convention of model.md), under 1% of d2.
Measured batches are better than any data sheet: see `benchmarks/measure_iteration_time.py` and `fluidwait calibrate`.
Sources: model.md sections 1 and 2; the shapes and data sheets of `fluid.hardware.model` and `fluid.hardware.catalogue`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fluid.errors import InputError, one_of, real, whole
from fluid.hardware.catalogue import GIB, Gpu, find_gpu, find_model
from fluid.hardware.model import Model
from fluid.replica import IterationTime, Replica

KV_BITS = {"float16": 16, "bfloat16": 16, "float32": 32, "fp8": 8, "int8": 8}
WEIGHT_BITS = KV_BITS | {"int4": 4 + 20 / 128}


@dataclass(frozen=True)
class Placement:
    """A model on `tensor_parallel` GPUs of one kind, with the element types of its weights and KV cache.

    `memory_fraction` is phi, `bandwidth_share` beta and `compute_share` gamma, each above 0 and at most 1;
    `activation_memory` is A in GiB per GPU. Raises InputError for a value outside that, an unknown type, or a number
    of GPUs the heads cannot be split over.

    >>> placement = Placement(find_model("llama-2-7b"), find_gpu("a100-80gb"))
    >>> placement.kv_bytes_per_token, placement.kv_capacity
    (524288, 136496)
    """

    model: Model
    gpu: Gpu
    tensor_parallel: int = 1
    memory_fraction: float = 0.99
    kv_dtype: str = "float16"
    weight_dtype: str = "float16"
    bandwidth_share: float = 0.64
    compute_share: float = 0.72
    activation_memory: float = 0.0

    def __post_init__(self) -> None:
        for field in ("memory_fraction", "bandwidth_share", "compute_share"):
            _share(field, getattr(self, field))
        one_of("kv_dtype", self.kv_dtype, tuple(KV_BITS))
        one_of("weight_dtype", self.weight_dtype, tuple(WEIGHT_BITS))
        activation = real("activation_memory", self.activation_memory, unit="GiB per GPU", zero=True)
        gpus = whole("tensor_parallel", self.tensor_parallel, unit="GPUs")
        heads, kv_heads = self.model.attention_heads, self.model.kv_heads
        if self.model.latent is not None:
            kv_heads = heads  # nothing to split: any divisor of the query heads will do
        if heads % gpus or (kv_heads % gpus and gpus % kv_heads):
            requirement = f"a number of GPUs that divides the {heads} attention heads of {self.model.name}"
            if kv_heads < heads:
                requirement += f" and is a divisor or a multiple of its {kv_heads} KV heads"
            raise InputError("tensor_parallel", requirement, self.tensor_parallel)
        object.__setattr__(self, "tensor_parallel", gpus)
        object.__setattr__(self, "activation_memory", activation)

    @property
    def attention_window(self) -> int | None:
        """The last tokens that every layer attends to; None: the whole context."""
        return self.model.attention_window

    @property
    def kv_bytes_per_token(self) -> int:
        """k, bytes over the whole group."""
        gpus = self.tensor_parallel
        copies = gpus if self.model.latent is not None else max(1, gpus // self.model.kv_heads)
        return self.model.kv_elements * copies * KV_BITS[self.kv_dtype] // 8

    @property
    def weight_bytes(self) -> int:
        """P b_w, bytes over the whole group."""
        return self._bytes(self.model.parameters, copies=1 if self.model.tied_embeddings else 2)

    @property
    def kv_capacity(self) -> int:
        """C, tokens; raises InputError where the weights and activations leave no room for one."""
        usable = self.memory_fraction * self.tensor_parallel * self.gpu.memory_bytes
        activations = self.tensor_parallel * self.activation_memory * GIB
        tokens = int((usable - activations - self.weight_bytes) // self.kv_bytes_per_token)
        if tokens < 1:
            others = f", activations and CUDA graphs {activations / GIB:,.1f} GiB" if activations else ""
            requirement = (f"larger: the weights of {self.model.name} in {self.weight_dtype} take "
                           f"{self.weight_bytes / GIB:,.1f} GiB{others} and {self.tensor_parallel} x {self.gpu.name} "
                           f"has {usable / GIB:,.1f} GiB at memory_fraction {self.memory_fraction:g}, "
                           f"which leaves no room for a token of KV cache")
            raise InputError("tensor_parallel", requirement, self.tensor_parallel)
        return tokens

    @property
    def iteration_time(self) -> IterationTime:
        """d0 + d1 KV + d2 prefill, seconds."""
        bandwidth = self.tensor_parallel * self.bandwidth_share * self.gpu.bandwidth
        compute = self.tensor_parallel * self.compute_share * self.gpu.compute
        return IterationTime(overhead=self._bytes(self.model.parameters_read, copies=1) / bandwidth,
                             per_kv_token=self.kv_bytes_per_token / bandwidth,
                             per_prefill_token=2 * self.model.parameters_active / compute)

    def _bytes(self, parameters: int, copies: int) -> int:
        """Bytes of so many parameters, of which those of `copies` embeddings are kept in at least 16 bits."""
        bits, wide = WEIGHT_BITS[self.weight_dtype], copies * self.model.embedding
        return math.ceil(((parameters - wide) * bits + wide * max(bits, 16)) / 8)


def replica_from_catalogue(model: str, gpu: str, *, tensor_parallel: int = 1, memory_fraction: float = 0.99,
                           kv_dtype: str = "float16", weight_dtype: str = "float16",
                           activation_memory: float = 0.0) -> Replica:
    """Return the replica of a catalogue model on catalogue GPUs: C tokens and tau = d0 + d1 KV + d2 prefill.

    `memory_fraction` is the share of GPU memory the engine may use (engines often default to 0.90), of which
    `activation_memory` GiB per GPU are not for the KV cache. Raises InputError for an unknown name (listing the known
    ones) and for weights that do not fit.

    >>> replica = replica_from_catalogue("llama-2-7b", "a100-80gb")
    >>> replica.kv_capacity, round(replica.iteration_time.pieces[0].overhead, 5)
    (136496, 0.01013)
    """
    placement = Placement(find_model(model), find_gpu(gpu), tensor_parallel, memory_fraction, kv_dtype, weight_dtype,
                          activation_memory=activation_memory)
    return Replica(placement.kv_capacity, placement.iteration_time, attention_window=placement.attention_window)


def _share(field: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InputError(field, "a share above 0 and at most 1", value)
