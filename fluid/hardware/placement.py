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

Weights of fewer than 16 bits: P b_w is a sum over tensors (`fluid.hardware.element_types`); all but the linear layers
stays in 16 bits, and so does the output head. The types are those of the model's file unless given. The scales of a
quantised KV cache are left out: nothing with one scale per layer, one number per vector of d elements where every token
and head has its own.

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

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fluid.errors import InputError, one_of, real, whole
from fluid.hardware.catalogue import GIB, Gpu, find_gpu, find_model
from fluid.hardware.element_types import FORMATS, KV_BITS, Quantization, quantization
from fluid.hardware.model import Model
from fluid.replica import IterationTime, Replica


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
    kv_dtype: str | None = None
    weight_dtype: str | None = None
    bandwidth_share: float = 0.64
    compute_share: float = 0.72
    activation_memory: float = 0.0

    def __post_init__(self) -> None:
        for field in ("memory_fraction", "bandwidth_share", "compute_share"):
            _share(field, getattr(self, field))
        for field, known in (("kv_dtype", KV_BITS), ("weight_dtype", FORMATS)):
            if getattr(self, field) is not None:
                one_of(field, getattr(self, field), tuple(known))
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
        refuse_mixed_layers(self.model)
        object.__setattr__(self, "tensor_parallel", gpus)
        object.__setattr__(self, "activation_memory", activation)

    @property
    def attention_window(self) -> int | None:
        """The last tokens that every layer attends to; None: the whole context."""
        return self.model.attention_window

    @property
    def quantization(self) -> Quantization:
        """The element types of the weights: `weight_dtype` where given, else what the model's file says, or 16 bit."""
        if self.weight_dtype is None and self.model.quantization is not None:
            return self.model.quantization
        return quantization(self.weight_dtype or "float16")

    @property
    def kv_type(self) -> str:
        """The element type of the KV cache: `kv_dtype` where given, else what the model's file says, or 16 bit."""
        asked = self.model.quantization.kv_dtype if self.model.quantization else None
        return self.kv_dtype or asked or "float16"

    @property
    def kv_bytes_per_token(self) -> int:
        """k, bytes over the whole group."""
        gpus = self.tensor_parallel
        copies = gpus if self.model.latent is not None else max(1, gpus // self.model.kv_heads)
        return self.model.kv_bytes(self.kv_type) * copies

    @cached_property
    def weight_bytes(self) -> int:
        """P b_w, bytes over the whole group."""
        return self.quantization.bytes_of(self.model.weights)

    @cached_property
    def bytes_read(self) -> int:
        """P_r b_w: bytes of weights that an iteration reads, over the whole group."""
        return self.quantization.bytes_of(each for each in self.model.weights if each.is_read)

    @property
    def kv_capacity(self) -> int:
        """C, tokens; raises InputError where the weights and activations leave no room for one."""
        usable = self.memory_fraction * self.tensor_parallel * self.gpu.memory_bytes
        activations = self.tensor_parallel * self.activation_memory * GIB
        tokens = int((usable - activations - self.weight_bytes) // self.kv_bytes_per_token)
        if tokens < 1:
            others = f", activations and CUDA graphs {activations / GIB:,.1f} GiB" if activations else ""
            requirement = (f"larger: the weights of {self.model.name} in {self.quantization.name} take "
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
        return IterationTime(overhead=self.bytes_read / bandwidth,
                             per_kv_token=self.kv_bytes_per_token / bandwidth,
                             per_prefill_token=2 * self.model.parameters_active / compute)


def refuse_mixed_layers(model: Model) -> None:
    """Refuse a model whose layers do not all keep the same tokens; raises InputError naming what is missing."""
    if model.windowed_layers is not None:
        raise InputError("model", "one whose layers all attend to the same tokens: a KV cache with a window in some "
                         f"layers only is not simulated yet, and {model.name} has one in {model.windowed_layers} of "
                         f"{model.kv_layers}", model.name)
    if model.attention_layers is not None or model.state_bytes:
        raise InputError("model", "one whose layers all hold keys and values: a state of constant size per sequence is "
                         f"not simulated yet, and {model.name} keeps {model.state_bytes} bytes, with keys and "
                         f"values in {model.kv_layers} of {model.layers} layers", model.name)


def replica_from_catalogue(model: str, gpu: str, *, tensor_parallel: int = 1, memory_fraction: float = 0.99,
                           kv_dtype: str | None = None, weight_dtype: str | None = None,
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
