"""The catalogue: data sheets of GPUs, shapes of decoder-only language models (counted in `fluid.hardware.model`).

GPU memory is what a process finds, in GiB, as CUDA reports it in public logs: less than the name says (79.2 of 80 on an
H100, 23.5 of 24 on an RTX 4090, 44.4 on an L40S of "48 GB", whose error correction takes a sixteenth). Compute is the
dense 16-bit tensor rate: data sheets quote twice as much, "with sparsity", for the newer boards.

Power is that which the same data sheets and white papers allow the board. Power while idle is that of a GPU which holds
a model, or a CUDA context, and runs nothing, which is more than that of a GPU without a process: of A100, H100 and L40S
as measured by Vadari (*The Model Parking Tax*, arXiv 2605.23918), of H200, L4 and A10G what nvidia-smi shows in public
logs, of B200 there without a process. GPUs that leave that state by themselves, and those nobody was found to have
measured, have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from fluid.errors import InputError, did_you_mean, real
from fluid.hardware.hub_names import FP8_BLOCKS, HUB, on_the_hub, says_quantised
from fluid.hardware.model import Experts, Latent, Model

GIB = 2**30
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Gpu:
    """One GPU: `memory` in GiB, `bandwidth` of that memory in bytes/s, dense 16-bit `compute` in FLOP/s.

    `narrowest` is the least number of bits of a floating-point type its tensor cores multiply in; `tdp` the watts that
    the board may draw, `idle` those with a model in memory and nothing to do, None where no source is known. Raises
    InputError unless the others are positive and finite.

    >>> Gpu("my-gpu", memory=80, bandwidth=2.0e12, compute=3.0e14).memory_bytes
    85899345920.0
    """

    name: str
    memory: float
    bandwidth: float
    compute: float
    source: str = ""
    narrowest: int = 16
    tdp: float | None = None
    idle: float | None = None

    def __post_init__(self) -> None:
        for field, unit in (("memory", "GiB"), ("bandwidth", "bytes/s"), ("compute", "FLOP/s"), ("tdp", "watts"),
                            ("idle", "watts")):
            if field not in ("tdp", "idle") or getattr(self, field) is not None:
                object.__setattr__(self, field, real(field, getattr(self, field), f"GPU {self.name}", unit=unit))

    @property
    def memory_bytes(self) -> float:
        """Memory in bytes."""
        return self.memory * GIB

    def speedup(self, bits: int) -> float:
        """The factor on `compute` where a model multiplies in so many bits: 16 / bits, if the GPU can; else 1."""
        return 16 / bits if self.narrowest <= bits < 16 else 1.0


def find_gpu(name: str) -> Gpu:
    """Return the GPU of that name (in any case); raises InputError with the nearest names, or all of them.

    >>> find_gpu("A100-80GB").memory
    79.25
    """
    return _find("gpu", name, GPUS)


def find_model(name: str) -> Model:
    """Return the model of that name, in the catalogue or on the hub (`fluid.hardware.hub_names`), in any case.

    Raises InputError with the nearest names, or all of the catalogue, and for quantised weights that are not known.

    >>> find_model("llama-2-7b").parameters, find_model("Qwen/Qwen2.5-7B-Instruct").name
    (6738415616, 'qwen2.5-7b')
    """
    listed = on_the_hub(name) if isinstance(name, str) else None
    if listed is not None:
        model = MODELS[listed[0]]
        return model if listed[1] is None else replace(model, quantization=listed[1])
    if isinstance(name, str) and name.lower() not in MODELS and says_quantised(name):
        raise InputError("model", "a checkpoint whose element types are known here: give weight_dtype beside the name "
                         "of the model alone, or the path of its config.json", name)
    return _find("model", name, MODELS, also=HUB)


def _find(field: str, name: str, entries: Mapping[str, Entry], also: Iterable[str] = ()) -> Entry:
    entry = entries.get(name.lower()) if isinstance(name, str) else None
    if entry is None:
        near = did_you_mean(name, entries) or did_you_mean(name, also)
        raise InputError(field, f"a known name: {near}" if near else "one of " + ", ".join(entries), name)
    return entry


_GPU_TABLE = (
    Gpu("a100-40gb", 39.39, 1555e9, 312e12, "NVIDIA A100 datasheet, A100 40GB: 40 GB, 1,555 GB/s, 312 TFLOPS", tdp=400),
    Gpu("a100-80gb", 79.25, 2039e9, 312e12, "NVIDIA A100 datasheet, A100 80GB SXM: 80 GB, 2,039 GB/s, 312 TFLOPS",
        tdp=400, idle=80),
    Gpu("h100-80gb", 79.18, 3350e9, 989.5e12,
        "NVIDIA H100 datasheet, H100 SXM: 80 GB, 3.35 TB/s, 1,979 TFLOPS with sparsity", narrowest=8,
        tdp=700, idle=121.7),
    Gpu("h100-nvl", 93.1, 3900e9, 835.5e12,
        "NVIDIA H100 datasheet, H100 NVL: 94 GB, 3.9 TB/s, 1,671 TFLOPS with sparsity", narrowest=8, tdp=400),
    Gpu("h200", 139.81, 4800e9, 989.5e12,
        "NVIDIA H200 datasheet, H200 SXM: 141 GB, 4.8 TB/s, 1,979 TFLOPS with sparsity", narrowest=8,
        tdp=700, idle=122),
    Gpu("b200", 178.35, 7700e9, 2250e12,
        "Lenovo product guide, HGX B200 180GB: 180 GB, 7.7 TB/s, 2.25 PFLOPS (4.5 with sparsity)", narrowest=4,
        tdp=1000, idle=140),
    Gpu("l40s", 44.42, 864e9, 362.05e12,
        "NVIDIA L40S datasheet: 48 GB GDDR6 with ECC, 864 GB/s, 362.05 TFLOPS", narrowest=8, tdp=350, idle=102),
    Gpu("l4", 22.03, 300e9, 121e12,
        "NVIDIA L4 datasheet: 24 GB GDDR6, 300 GB/s, 242 TFLOPS with sparsity", narrowest=8, tdp=72, idle=36),
    Gpu("a10g", 22.06, 600e9, 70e12,
        "NVIDIA A10G datasheet (AWS, 2022): 24 GB GDDR6, 600 GB/s, 70 TFLOPS (140 with sparsity)", tdp=300, idle=62),
    Gpu("a6000", 47.37, 768e9, 154.85e12,
        "NVIDIA RTX A6000 datasheet: 48 GB GDDR6 with ECC, 768 GB/s, 309.7 TFLOPS with sparsity", tdp=300),
    Gpu("rtx-4090", 23.52, 1008e9, 165.2e12,
        "NVIDIA Ada architecture white paper: 24 GB GDDR6X, 1,008 GB/s, 165.2 TFLOPS accumulating in 32 bits",
        narrowest=8, tdp=450),
    Gpu("rtx-3090", 23.57, 936e9, 71e12,
        "NVIDIA Ampere GA102 white paper: 24 GB GDDR6X, 936 GB/s, 71 TFLOPS accumulating in 32 bits", tdp=350),
    Gpu("rtx-5090", 31.36, 1792e9, 209.5e12,
        "NVIDIA RTX Blackwell white paper: 32 GB GDDR7, 1,792 GB/s, 209.5 TFLOPS accumulating in 32 bits", narrowest=4,
        tdp=575),
    Gpu("rtx-pro-6000", 94.97, 1792e9, 503.8e12,
        "NVIDIA RTX PRO Blackwell white paper: 96 GB GDDR7, 1,792 GB/s, 503.8 TFLOPS accumulating in 32 bits",
        narrowest=4, tdp=600),
)

_MODEL_TABLE = (
    Model("llama-2-7b", 32, 4096, 32, 32, 128, 11008, 32000, source="config.json of meta-llama/Llama-2-7b-hf"),
    Model("llama-2-13b", 40, 5120, 40, 40, 128, 13824, 32000, source="config.json of meta-llama/Llama-2-13b-hf"),
    Model("llama-2-70b", 80, 8192, 64, 8, 128, 28672, 32000, source="config.json of meta-llama/Llama-2-70b-hf"),
    Model("llama-3-8b", 32, 4096, 32, 8, 128, 14336, 128256, source="config.json of meta-llama/Meta-Llama-3-8B"),
    Model("llama-3-70b", 80, 8192, 64, 8, 128, 28672, 128256, source="config.json of meta-llama/Meta-Llama-3-70B"),
    Model("llama-3.1-8b", 32, 4096, 32, 8, 128, 14336, 128256, source="config.json of meta-llama/Llama-3.1-8B"),
    Model("llama-3.1-70b", 80, 8192, 64, 8, 128, 28672, 128256, source="config.json of meta-llama/Llama-3.1-70B"),
    Model("llama-3.1-405b", 126, 16384, 128, 8, 128, 53248, 128256, source="config.json of meta-llama/Llama-3.1-405B"),
    Model("llama-3.2-1b", 16, 2048, 32, 8, 64, 8192, 128256, tied_embeddings=True,
          source="config.json of meta-llama/Llama-3.2-1B"),
    Model("llama-3.2-3b", 28, 3072, 24, 8, 128, 8192, 128256, tied_embeddings=True,
          source="config.json of meta-llama/Llama-3.2-3B"),
    # version 0.1 attends to the last 4,096 tokens only; 0.2 has no such window
    Model("mistral-7b", 32, 4096, 32, 8, 128, 14336, 32000,
          source="config.json of mistralai/Mistral-7B-Instruct-v0.2"),
    Model("mistral-7b-v0.1", 32, 4096, 32, 8, 128, 14336, 32000, attention_window=4096,
          source="config.json of mistralai/Mistral-7B-v0.1"),
    Model("mistral-7b-v0.3", 32, 4096, 32, 8, 128, 14336, 32768, source="config.json of mistralai/Mistral-7B-v0.3"),
    Model("mistral-small-24b", 40, 5120, 32, 8, 128, 32768, 131072,
          source="config.json of mistralai/Mistral-Small-24B-Base-2501"),
    Model("mixtral-8x7b", 32, 4096, 32, 8, 128, 14336, 32000, experts=Experts(8, 2, 14336),
          source="config.json of mistralai/Mixtral-8x7B-v0.1"),
    Model("mixtral-8x22b", 56, 6144, 48, 8, 128, 16384, 32000, experts=Experts(8, 2, 16384),
          source="config.json of mistralai/Mixtral-8x22B-v0.1"),
    Model("phi-4", 40, 5120, 40, 10, 128, 17920, 100352, source="config.json of microsoft/phi-4"),
    Model("qwen2.5-0.5b", 24, 896, 14, 2, 64, 4864, 151936, tied_embeddings=True, qkv_bias=True,
          source="config.json of Qwen/Qwen2.5-0.5B"),
    Model("qwen2.5-1.5b", 28, 1536, 12, 2, 128, 8960, 151936, tied_embeddings=True, qkv_bias=True,
          source="config.json of Qwen/Qwen2.5-1.5B"),
    Model("qwen2.5-3b", 36, 2048, 16, 2, 128, 11008, 151936, tied_embeddings=True, qkv_bias=True,
          source="config.json of Qwen/Qwen2.5-3B"),
    Model("qwen2.5-7b", 28, 3584, 28, 4, 128, 18944, 152064, qkv_bias=True, source="config.json of Qwen/Qwen2.5-7B"),
    Model("qwen2.5-14b", 48, 5120, 40, 8, 128, 13824, 152064, qkv_bias=True, source="config.json of Qwen/Qwen2.5-14B"),
    Model("qwen2.5-32b", 64, 5120, 40, 8, 128, 27648, 152064, qkv_bias=True, source="config.json of Qwen/Qwen2.5-32B"),
    Model("qwen2.5-72b", 80, 8192, 64, 8, 128, 29568, 152064, qkv_bias=True, source="config.json of Qwen/Qwen2.5-72B"),
    Model("qwen3-0.6b", 28, 1024, 16, 8, 128, 3072, 151936, tied_embeddings=True, qk_norm=True,
          source="config.json of Qwen/Qwen3-0.6B"),
    Model("qwen3-1.7b", 28, 2048, 16, 8, 128, 6144, 151936, tied_embeddings=True, qk_norm=True,
          source="config.json of Qwen/Qwen3-1.7B"),
    Model("qwen3-4b", 36, 2560, 32, 8, 128, 9728, 151936, tied_embeddings=True, qk_norm=True,
          source="config.json of Qwen/Qwen3-4B"),
    Model("qwen3-8b", 36, 4096, 32, 8, 128, 12288, 151936, qk_norm=True, source="config.json of Qwen/Qwen3-8B"),
    Model("qwen3-14b", 40, 5120, 40, 8, 128, 17408, 151936, qk_norm=True, source="config.json of Qwen/Qwen3-14B"),
    Model("qwen3-32b", 64, 5120, 64, 8, 128, 25600, 151936, qk_norm=True, source="config.json of Qwen/Qwen3-32B"),
    Model("qwen3-30b-a3b", 48, 2048, 32, 4, 128, 6144, 151936, qk_norm=True, experts=Experts(128, 8, 768),
          source="config.json of Qwen/Qwen3-30B-A3B"),
    Model("qwen3-235b-a22b", 94, 4096, 64, 4, 128, 12288, 151936, qk_norm=True, experts=Experts(128, 8, 1536),
          source="config.json of Qwen/Qwen3-235B-A22B"),
    Model("deepseek-v2-lite", 27, 2048, 16, 16, 192, 10944, 102400, latent=Latent(512, 64, 128, 128),
          experts=Experts(64, 6, 1408, shared=2, dense_layers=1), source="config.json of deepseek-ai/DeepSeek-V2-Lite"),
    Model("deepseek-v3", 61, 7168, 128, 128, 192, 18432, 129280, latent=Latent(512, 64, 128, 128, query_rank=1536),
          experts=Experts(256, 8, 2048, shared=1, dense_layers=3, router_bias=True), quantization=FP8_BLOCKS,
          source="config.json of deepseek-ai/DeepSeek-V3, without its layer for multi-token prediction"),
)

GPUS: Mapping[str, Gpu] = MappingProxyType({entry.name: entry for entry in _GPU_TABLE})
MODELS: Mapping[str, Model] = MappingProxyType({entry.name: entry for entry in _MODEL_TABLE})
