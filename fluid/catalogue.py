"""The catalogue: data sheets of GPUs, shapes of decoder-only language models.

A model is L layers of attention (H query heads, K key-value heads of d elements) and a gated MLP (hidden size h,
intermediate size m), between an embedding of V rows and an output head. Its parameters are counted, not quoted:

    per layer  h (2 H + 2 K) d [+ (H + 2 K) d with QKV biases] + 3 h m + 2 h
    total      L (per layer) + h + V h (twice, unless the head is the embedding itself)

which gives the published counts exactly (Llama-2-7B: 6,738,415,616). KV elements per token: 2 L K d.

GPU memory is what an engine finds, in GiB: on boards with HBM the data sheet's figure, on boards with GDDR6 15/16 of
it, because their error correction, on by default, takes the rest (an L4 of "24 GB" reports 22.5 GiB). Compute is
the dense 16-bit tensor rate: data sheets quote twice as much, "with sparsity", for the newer boards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from fluid.errors import InputError, real, whole

GIB = 2**30
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Gpu:
    """One GPU: `memory` in GiB, `bandwidth` of that memory in bytes/s, dense 16-bit `compute` in FLOP/s.

    Raises InputError unless all three are positive and finite.

    >>> Gpu("my-gpu", memory=80, bandwidth=2.0e12, compute=3.0e14).memory_bytes
    85899345920.0
    """

    name: str
    memory: float
    bandwidth: float
    compute: float
    source: str = ""

    def __post_init__(self) -> None:
        for field, unit in (("memory", "GiB"), ("bandwidth", "bytes/s"), ("compute", "FLOP/s")):
            object.__setattr__(self, field, real(field, getattr(self, field), f"GPU {self.name}", unit=unit))

    @property
    def memory_bytes(self) -> float:
        """Memory in bytes."""
        return self.memory * GIB


@dataclass(frozen=True)
class Model:
    """The shape of a dense decoder-only model: everything its weights and its KV cache follow from.

    Raises InputError unless every size is a whole number of at least 1 and `kv_heads` divides `attention_heads`.

    >>> tiny = Model("tiny", layers=1, hidden_size=4, attention_heads=2, kv_heads=1, head_dim=2, intermediate_size=8,
    ...              vocab_size=10)
    >>> tiny.parameters, tiny.kv_elements
    (236, 4)
    """

    name: str
    layers: int
    hidden_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    tied_embeddings: bool = False
    qkv_bias: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        where = f"model {self.name}"
        for field, unit in _SIZES.items():
            object.__setattr__(self, field, whole(field, getattr(self, field), where, unit=unit, most=2**31))
        if self.attention_heads % self.kv_heads:
            raise InputError("kv_heads", f"a divisor of the {self.attention_heads} attention heads",
                             self.kv_heads, where)

    @property
    def parameters(self) -> int:
        """Parameters stored."""
        return self.layers * self._layer_parameters + self.hidden_size + self._embedding * (2 - self.tied_embeddings)

    @property
    def parameters_used(self) -> int:
        """Parameters an iteration reads and multiplies by: all but an input embedding of its own, a mere look-up."""
        return self.parameters - (0 if self.tied_embeddings else self._embedding)

    @property
    def kv_elements(self) -> int:
        """Elements one token adds to the KV cache: 2 L K d."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    @property
    def _embedding(self) -> int:
        return self.vocab_size * self.hidden_size

    @property
    def _layer_parameters(self) -> int:
        query, key = self.attention_heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden_size * (2 * query + 2 * key) + (query + 2 * key if self.qkv_bias else 0)
        return attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size


_SIZES = {"layers": "layers", "hidden_size": "elements", "attention_heads": "heads", "kv_heads": "heads",
          "head_dim": "elements", "intermediate_size": "elements", "vocab_size": "tokens"}


def find_gpu(name: str) -> Gpu:
    """Return the GPU of that name (in any case); raises InputError listing the known names.

    >>> find_gpu("A100-80GB").memory
    80.0
    """
    return _find("gpu", name, GPUS)


def find_model(name: str) -> Model:
    """Return the model of that name (in any case); raises InputError listing the known names.

    >>> find_model("llama-2-7b").parameters
    6738415616
    """
    return _find("model", name, MODELS)


def _find(field: str, name: str, entries: Mapping[str, Entry]) -> Entry:
    entry = entries.get(name.lower()) if isinstance(name, str) else None
    if entry is None:
        raise InputError(field, "one of " + ", ".join(entries), name)
    return entry


_GPU_TABLE = (
    Gpu("a100-40gb", 40, 1555e9, 312e12, "NVIDIA A100 datasheet, A100 40GB: 40 GB, 1,555 GB/s, 312 TFLOPS"),
    Gpu("a100-80gb", 80, 2039e9, 312e12, "NVIDIA A100 datasheet, A100 80GB SXM: 80 GB, 2,039 GB/s, 312 TFLOPS"),
    Gpu("h100-80gb", 80, 3350e9, 989.5e12,
        "NVIDIA H100 datasheet, H100 SXM: 80 GB, 3.35 TB/s, 1,979 TFLOPS with sparsity"),
    Gpu("h200", 141, 4800e9, 989.5e12, "NVIDIA H200 datasheet, H200 SXM: 141 GB, 4.8 TB/s, 1,979 TFLOPS with sparsity"),
    Gpu("l40s", 48 * 15 / 16, 864e9, 362.05e12, "NVIDIA L40S datasheet: 48 GB GDDR6 with ECC, 864 GB/s, 362.05 TFLOPS"),
    Gpu("l4", 24 * 15 / 16, 300e9, 121e12, "NVIDIA L4 datasheet: 24 GB GDDR6, 300 GB/s, 242 TFLOPS with sparsity"),
    Gpu("a10g", 24 * 15 / 16, 600e9, 70e12, "NVIDIA A10G datasheet: 24 GB GDDR6, 600 GB/s, 70 TFLOPS"),
)

_MODEL_TABLE = (
    Model("llama-2-7b", 32, 4096, 32, 32, 128, 11008, 32000, source="config.json of meta-llama/Llama-2-7b-hf"),
    Model("llama-2-13b", 40, 5120, 40, 40, 128, 13824, 32000, source="config.json of meta-llama/Llama-2-13b-hf"),
    Model("llama-2-70b", 80, 8192, 64, 8, 128, 28672, 32000, source="config.json of meta-llama/Llama-2-70b-hf"),
    Model("llama-3-8b", 32, 4096, 32, 8, 128, 14336, 128256, source="config.json of meta-llama/Meta-Llama-3-8B"),
    Model("llama-3-70b", 80, 8192, 64, 8, 128, 28672, 128256, source="config.json of meta-llama/Meta-Llama-3-70B"),
    # version 0.1 forgets beyond 4,096 tokens; the model page has no such window, and 0.2 dropped it
    Model("mistral-7b", 32, 4096, 32, 8, 128, 14336, 32000,
          source="config.json of mistralai/Mistral-7B-Instruct-v0.2 (0.1 has the same shape)"),
    Model("qwen2.5-7b", 28, 3584, 28, 4, 128, 18944, 152064, qkv_bias=True, source="config.json of Qwen/Qwen2.5-7B"),
    Model("qwen2.5-32b", 64, 5120, 40, 8, 128, 27648, 152064, qkv_bias=True, source="config.json of Qwen/Qwen2.5-32B"),
)

GPUS: Mapping[str, Gpu] = MappingProxyType({entry.name: entry for entry in _GPU_TABLE})
MODELS: Mapping[str, Model] = MappingProxyType({entry.name: entry for entry in _MODEL_TABLE})
