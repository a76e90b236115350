"""A model on a group of GPUs: how much KV cache an engine finds there, and how long an iteration takes.

With P parameters stored, P_r of them read by an iteration, P_a multiplied by each token (`fluid.hardware.model`),
weights of b_w bytes, KV elements of b_k bytes, and t GPUs of M bytes, B bytes/s and F FLOP/s in tensor parallel,

    KV bytes per token   k = 2 L K d b_k                        (x t/K where t > K: every GPU keeps a whole head)
                         k = t L (c + r) b_k                    latent attention: every GPU keeps the whole vector
    KV capacity          C = floor((phi t M - t A - P b_w) / (b k)) b       in whole blocks of b tokens
    iteration time       d0 + d1 KV + d2 prefill + d3 size      by the law of `fluid.hardware.iteration_law`

phi is the share of the memory that the engine may use, 0.90 by default as in vLLM; M is the memory as the device
reports it, which is less than its name; A is what the engine keeps on each GPU out of its share for activations, CUDA
graphs and libraries, estimated in `fluid.hardware.memory` unless given. An engine's own number, `kv_capacity` in a
deployment, is better than any estimate.

Weights of fewer than 16 bits: P b_w is a sum over tensors (`fluid.hardware.element_types`); all but the linear layers
stays in 16 bits, and so does the output head. The types are those of the model's file unless given. The scales of a
quantised KV cache are left out: nothing with one scale per layer, one number per vector of d elements where every token
and head has its own.

A prefill also "reads" its own prompt (mathematics, section 1.5), under 1% of d2. Measured batches are better than any
data sheet: see `benchmarks/measure_iteration_time.py` and `fluidwait calibrate`. Sources: mathematics, sections 14.2
and 14.3; the shapes and data sheets of `fluid.hardware.model` and `fluid.hardware.catalogue`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from fluid.errors import InputError, did_you_mean, one_of, real, share_meant, whole
from fluid.hardware.catalogue import GIB, Gpu, find_gpu
from fluid.hardware.element_types import FORMATS, KV_BITS, Quantization, quantization
from fluid.hardware.huggingface import model_named
from fluid.hardware.iteration_law import DEFAULT_ENGINE, ENGINES, LawTime, costs, time_by_law
from fluid.hardware.memory import EngineLimits, default_limits, reserved_bytes
from fluid.hardware.model import Model
from fluid.hardware.power_law import power_of
from fluid.replica import Replica

TYPICAL_PROMPT = 512.0  # tokens: where no mix says how long prompts are


@dataclass(frozen=True)
class Placement:
    """A model on `tensor_parallel` GPUs of one kind, with the element types of its weights and KV cache.

    `memory_fraction` is phi, above 0 and at most 1; `activation_memory` is A in GiB per GPU, estimated where not given;
    `engine` is "vllm", "sglang" or "trtllm"; `max_num_seqs` and `max_num_batched_tokens` are the limits of an iteration
    (the engine's defaults where not given); `block` the tokens of a cache block. Raises InputError for a value outside
    that, an unknown type, or a number of GPUs the heads cannot be split over.

    >>> from fluid.hardware.catalogue import find_model
    >>> placement = Placement(find_model("llama-2-7b"), find_gpu("a100-80gb"))
    >>> placement.kv_bytes_per_token
    524288
    """

    model: Model
    gpu: Gpu
    tensor_parallel: int = 1
    memory_fraction: float = 0.90
    kv_dtype: str | None = None
    weight_dtype: str | None = None
    activation_memory: float | None = None
    engine: str = DEFAULT_ENGINE
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    block: int = 1

    def __post_init__(self) -> None:
        _share("memory_fraction", self.memory_fraction)
        one_of("engine", self.engine, ENGINES)
        for field, known in (("kv_dtype", KV_BITS), ("weight_dtype", FORMATS)):
            if getattr(self, field) is not None:
                one_of(field, getattr(self, field), tuple(known))
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
        if self.activation_memory is not None:
            kept = real("activation_memory", self.activation_memory, unit="GiB per GPU", zero=True)
            object.__setattr__(self, "activation_memory", kept)

    @property
    def attention_window(self) -> int | None:
        """The last tokens that windowed layers attend to; None: every layer attends to the whole context."""
        return self.model.attention_window

    @property
    def windowed_layers(self) -> tuple[int, int] | None:
        """How many of the layers with a KV cache have the window; None: all of them, or there is no window."""
        some = self.model.windowed_layers
        return None if some is None else (some, self.model.kv_layers)

    @property
    def state(self) -> int:
        """KV tokens, rounded up, that take the memory of a sequence's constant state (hybrid models)."""
        return math.ceil(self.model.state_bytes / self.kv_bytes_per_token)

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
    def limits(self) -> EngineLimits:
        """The most sequences and tokens of an iteration: those given, else the engine's defaults on this GPU."""
        default = default_limits(self.gpu)
        return EngineLimits(self.max_num_seqs or default.max_num_seqs,
                            self.max_num_batched_tokens or default.max_num_batched_tokens)

    @property
    def reserved_bytes(self) -> float:
        """t A, bytes over the whole group."""
        if self.activation_memory is not None:
            return self.tensor_parallel * self.activation_memory * GIB
        return self.tensor_parallel * reserved_bytes(self.model, self.tensor_parallel, self.limits)

    @property
    def kv_capacity(self) -> int:
        """C, tokens, in whole blocks; raises InputError where weights and activations leave no room for one."""
        usable = self.memory_fraction * self.tensor_parallel * self.gpu.memory_bytes
        free = usable - self.reserved_bytes - self.weight_bytes
        blocks = int(free // (self.kv_bytes_per_token * self.block))
        if blocks < 1:
            requirement = (f"larger: the weights of {self.model.name} in {self.quantization.name} take "
                           f"{self.weight_bytes / GIB:,.1f} GiB, activations and CUDA graphs "
                           f"{self.reserved_bytes / GIB:,.1f} GiB and {self.tensor_parallel} x {self.gpu.name} "
                           f"has {usable / GIB:,.1f} GiB at memory_fraction {self.memory_fraction:g}, "
                           f"which leaves no room for a token of KV cache")
            kept = self.activation_memory or 0.0
            guess = f"is activation_memory {kept / 1024:g}, in GiB?" if kept * GIB > self.gpu.memory_bytes else ""
            raise InputError("tensor_parallel", requirement, self.tensor_parallel, guess=guess)
        return blocks * self.block

    def time_by_law(self, prompt_tokens: float = TYPICAL_PROMPT) -> LawTime:
        """The iteration time by the law, for prompts of that mean length (tokens, weighted by tokens)."""
        table = costs(self.model, self.gpu, gpus=self.tensor_parallel, bytes_read=self.bytes_read,
                      kv_bytes=self.kv_bytes_per_token, multiplies_in=self.quantization.linear.multiplies_in,
                      prompt_tokens=prompt_tokens)
        return time_by_law(table, self.engine)

    def replica(self, prompt_tokens: float = TYPICAL_PROMPT, **given: Any) -> Replica:
        """The replica found here; fields of `Replica` that are `given`, and not None, win over what is found.

        Prompts have that mean length; a window that is given is that of every layer, unless its layers are given too.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        if "attention_window" not in chosen:
            chosen["attention_window"] = self.attention_window
            chosen.setdefault("windowed_layers", self.windowed_layers)
        if "kv_capacity" not in chosen:
            chosen["kv_capacity"] = self.kv_capacity
        if "iteration_time" not in chosen:
            chosen["iteration_time"] = self.time_by_law(prompt_tokens).iteration_time
        found = {"block": self.block, "max_num_seqs": self.limits.max_num_seqs, "state": self.state,
                 "max_num_batched_tokens": self.max_num_batched_tokens,
                 "power": power_of(self.gpu, self.tensor_parallel)}
        return Replica(**{**found, **chosen})


def replica_from_catalogue(model: str, gpu: str, *, prompt_tokens: float = TYPICAL_PROMPT, **options: Any) -> Replica:
    """Return the replica of a model on GPUs, both by name, as an engine finds it; `Replica.of` is the same.

    `model` is a name of the catalogue or the hub, or the path of a config.json; `options` are the other fields of
    `Placement` (`tensor_parallel`, `memory_fraction` 0.90, ...) and of `Replica`, which win over what is found;
    `prompt_tokens` is the mean prompt length, weighted by tokens. Raises InputError for an unknown name, with the
    nearest known ones, and for weights that do not fit.

    >>> replica = replica_from_catalogue("llama-2-7b", "a100-80gb")
    >>> replica.max_num_seqs, round(replica.iteration_time.pieces[0].overhead, 4)
    (256, 0.0089)
    """
    known = [each.name for each in (*fields(Placement)[2:], *fields(Replica))]
    for name in options:
        if name not in known:
            near = did_you_mean(name, known)
            near = f"a known name: {near}" if near else "one of " + ", ".join(dict.fromkeys(known))
            raise InputError("option", near, name, "Replica.of")
    placed = [each.name for each in fields(Placement) if each.name in options]
    placement = Placement(model_named(model), find_gpu(gpu), **{name: options.pop(name) for name in placed})
    return placement.replica(prompt_tokens, **options)


def _share(field: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InputError(field, "a share above 0 and at most 1", value, guess=share_meant(value))
