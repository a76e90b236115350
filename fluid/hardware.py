"""A model on a group of GPUs: how much KV cache fits, and how long an iteration takes.

With P parameters stored, P_u of them used by an iteration (all but an input embedding of its own), weights of b_w
bytes, KV elements of b_k bytes, and t GPUs of M bytes, B bytes/s and F FLOP/s in tensor parallel,

    KV bytes per token   k = 2 L K d b_k                        (x t/K where t > K: every GPU keeps a whole head)
    KV capacity          C = floor((phi t M - P b_w) / k)       phi: share of the memory the engine may use
    iteration time       tau = d0 + d1 KV + d2 prefill,
                         d0 = P_u b_w / (t beta B)              every iteration reads the weights once
                         d1 = k / (t beta B)                    and the KV cache of its batch
                         d2 = 2 P_u / (t gamma F)               a multiply and an add per parameter and prompt token

beta and gamma, the shares of the data sheet an engine achieves, come from Llama-2-7B on an A100-80GB. The published
calibration (10.6 ms, 0.4013 us per KV token) means beta = 0.611 and 0.641; Vidur's fit, max(10.1 ms,
8.9 ms + 58.5 us T) for T tokens, means beta = 0.642 and gamma = 0.724. Hence beta = 0.64, gamma = 0.72: 10.13 ms,
0.4018 us, 58.8 us. Nothing is added for launching kernels: beta holds it already, and one GPU cannot tell them apart.

One line, not the larger of a memory-bound and a compute-bound one: Vidur's fit is itself a sum beyond 20 tokens
(8.9 ms + 58.5 us T, not 58.5 us T). Its own KV coefficient, 0.255 us, means beta = 1 and charges 58.5 us per sequence
besides; one affine d1 stands for both, so d3 = 0. For 200 to 1,000 tokens of context the two agree within 26%.

Left out: communication between the GPUs, attention's quadratic part of a prefill, 8-bit tensor cores. A prefill
also "reads" its own prompt (the convention of model.md), under 1% of d2. Measured batches beat all of it: see
`fluidwait calibrate`. Sources: model.md sections 1 and 2; the shapes and data sheets of `fluid.catalogue`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluid.catalogue import GIB, Gpu, Model, find_gpu, find_model
from fluid.errors import InputError, one_of, whole
from fluid.replica import IterationTime, Replica

KV_BITS = {"float16": 16, "bfloat16": 16, "float32": 32, "fp8": 8, "int8": 8}
WEIGHT_BITS = KV_BITS | {"int4": 4}
_UNITS = {"num_hidden_layers": "layers", "num_attention_heads": "heads", "num_key_value_heads": "heads",
          "vocab_size": "tokens"}


@dataclass(frozen=True)
class Placement:
    """A model on `tensor_parallel` GPUs of one kind, with the element types of its weights and KV cache.

    `memory_fraction` is phi, `bandwidth_share` beta and `compute_share` gamma, each above 0 and at most 1. Raises
    InputError for a share outside that, an unknown type, or a number of GPUs the heads cannot be split over.

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

    def __post_init__(self) -> None:
        for field in ("memory_fraction", "bandwidth_share", "compute_share"):
            _share(field, getattr(self, field))
        one_of("kv_dtype", self.kv_dtype, tuple(KV_BITS))
        one_of("weight_dtype", self.weight_dtype, tuple(WEIGHT_BITS))
        gpus = whole("tensor_parallel", self.tensor_parallel, unit="GPUs")
        heads, kv_heads = self.model.attention_heads, self.model.kv_heads
        if heads % gpus or (kv_heads % gpus and gpus % kv_heads):
            requirement = (f"a number of GPUs that divides the {heads} attention heads of {self.model.name} and is a "
                           f"divisor or a multiple of its {kv_heads} KV heads")
            raise InputError("tensor_parallel", requirement, self.tensor_parallel)
        object.__setattr__(self, "tensor_parallel", gpus)

    @property
    def kv_bytes_per_token(self) -> int:
        """k, bytes over the whole group."""
        copies = max(1, self.tensor_parallel // self.model.kv_heads)
        return self.model.kv_elements * copies * KV_BITS[self.kv_dtype] // 8

    @property
    def weight_bytes(self) -> int:
        """P b_w, bytes over the whole group."""
        return _bytes(self.model.parameters, self.weight_dtype)

    @property
    def kv_capacity(self) -> int:
        """C, tokens; raises InputError where the weights leave no room for one."""
        usable = self.memory_fraction * self.tensor_parallel * self.gpu.memory_bytes
        tokens = int((usable - self.weight_bytes) // self.kv_bytes_per_token)
        if tokens < 1:
            requirement = (f"larger: the weights of {self.model.name} in {self.weight_dtype} take "
                           f"{self.weight_bytes / GIB:,.1f} GiB and {self.tensor_parallel} x {self.gpu.name} has "
                           f"{usable / GIB:,.1f} GiB at memory_fraction {self.memory_fraction:g}")
            raise InputError("tensor_parallel", requirement, self.tensor_parallel)
        return tokens

    @property
    def iteration_time(self) -> IterationTime:
        """d0 + d1 KV + d2 prefill, seconds."""
        bandwidth = self.tensor_parallel * self.bandwidth_share * self.gpu.bandwidth
        compute = self.tensor_parallel * self.compute_share * self.gpu.compute
        used = self.model.parameters_used
        return IterationTime(overhead=_bytes(used, self.weight_dtype) / bandwidth,
                             per_kv_token=self.kv_bytes_per_token / bandwidth,
                             per_prefill_token=2 * used / compute)


def replica_from_catalogue(model: str, gpu: str, *, tensor_parallel: int = 1, memory_fraction: float = 0.99,
                           kv_dtype: str = "float16", weight_dtype: str = "float16") -> Replica:
    """Return the replica of a catalogue model on catalogue GPUs: C tokens and tau = d0 + d1 KV + d2 prefill.

    `memory_fraction` is the share of GPU memory the engine may use (engines often default to 0.90). Raises
    InputError for an unknown name (listing the known ones) and for weights that do not fit.

    >>> replica = replica_from_catalogue("llama-2-7b", "a100-80gb")
    >>> replica.kv_capacity, round(replica.iteration_time.pieces[0].overhead, 5)
    (136496, 0.01013)
    """
    placement = Placement(find_model(model), find_gpu(gpu), tensor_parallel, memory_fraction, kv_dtype, weight_dtype)
    return Replica(placement.kv_capacity, placement.iteration_time)


def model_from_config(path: str | Path) -> Model:
    """Read the shape of a Llama, Mistral or Qwen2 model from its Hugging Face config.json.

    A missing `num_key_value_heads` means one per attention head, a missing `head_dim` hidden_size / heads. Raises
    InputError for a file that cannot be read, another architecture, and a key that is missing or unusable.

    >>> model_from_config("no/such/config.json")
    Traceback (most recent call last):
    fluid.errors.InputError: model must be a readable config.json: No such file or directory (got 'no/such/config.json')
    """
    config, where = _read_config(path), str(path)
    family = _family(config, where)
    hidden, heads = (_size(config, key, where) for key in ("hidden_size", "num_attention_heads"))
    if config.get("head_dim") is None and hidden % heads:
        raise InputError("hidden_size", f"a multiple of num_attention_heads {heads}, or head_dim given", hidden, where)
    return Model(
        name=Path(path).parent.name or Path(path).stem,
        layers=_size(config, "num_hidden_layers", where),
        hidden_size=hidden,
        attention_heads=heads,
        kv_heads=_size(config, "num_key_value_heads", where, heads),
        head_dim=_size(config, "head_dim", where, hidden // heads),
        intermediate_size=_size(config, "intermediate_size", where),
        vocab_size=_size(config, "vocab_size", where),
        tied_embeddings=_flag(config, "tie_word_embeddings", where),
        qkv_bias=family == "qwen2" or _flag(config, "attention_bias", where),
        source=where)


def _share(field: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InputError(field, "a share above 0 and at most 1", value)


def _bytes(parameters: int, dtype: str) -> int:
    return -(-parameters * WEIGHT_BITS[dtype] // 8)


def _read_config(path: str | Path) -> dict[str, Any]:
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("model", f"a readable config.json: {error.strerror}", str(path)) from None
    except json.JSONDecodeError as error:
        raise InputError("model", f"a config.json in JSON: {error.msg} at line {error.lineno}", str(path)) from None
    except (ValueError, RecursionError):  # not UTF-8, a NUL in the path, a number or nesting beyond the reader
        raise InputError("model", "a config.json in JSON", str(path)) from None
    if not isinstance(config, dict):
        raise InputError("model", "a config.json that holds an object", str(path))
    return config


def _family(config: dict[str, Any], where: str) -> str:
    """The architecture: `model_type`, or the first of `architectures`; a file with neither counts as Llama-like."""
    names = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral", "Qwen2ForCausalLM": "qwen2"}
    if config.get("model_type") is not None:
        return one_of("model_type", _plain(config["model_type"]), tuple(names.values()), where)
    listed = config.get("architectures") or ["LlamaForCausalLM"]
    first = listed[0] if isinstance(listed, list) else listed
    return names[one_of("architectures", _plain(first), tuple(names), where)]


def _size(config: dict[str, Any], key: str, where: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is None:
        raise InputError(key, "given, as a whole number", None, where)
    return whole(key, default if value is None else _plain(value), where, unit=_UNITS.get(key, "elements"), most=2**31)


def _flag(config: dict[str, Any], key: str, where: str) -> bool:
    value = config.get(key)
    if not isinstance(value, bool | None):
        raise InputError(key, "true or false", _plain(value), where)
    return bool(value)


def _plain(value: Any) -> Any:
    """The value, or just its kind where quoting it could go arbitrarily deep."""
    return type(value).__name__ if isinstance(value, list | dict) else value
