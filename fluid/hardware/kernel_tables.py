"""Iteration times from measured kernels: the tables of the package aiconfigurator-core, where it is installed.

The package (Apache-2.0, `pip install 'fluidwait[kernels]'`) has times of single kernels, measured on some GPUs under
some versions of vLLM, SGLang and TensorRT-LLM, and adds them up to an iteration of a model of a given shape. Here it
evaluates batches that the replica can hold,

    decode    n = 1, 2, 4, ... sequences of 64 to 32,768 tokens of context each
    mixed     n = 0, 1, 4, 16, ... sequences at the mix's mean context beside 128, 256, ... prompt tokens of prompts as
              long as the mix's (their mean, weighted by tokens)

and the iteration time is fitted to them like to any measured batches. A sum of kernels leaves out what the host adds
between them. Nothing is downloaded: the shape of the model is handed over in a temporary config.json.
Covered: dense models with one attention window or none, in tensor parallel on one node. See mathematics, section 14.3.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fluid.arrays import Floats
from fluid.errors import InputError, one_of
from fluid.hardware.iteration_law import ENGINES
from fluid.hardware.model import Model
from fluid.hardware.placement import Placement

PACKAGE = "aiconfigurator-core"
SYSTEMS = {"a100-80gb": "a100_sxm", "h100-80gb": "h100_sxm", "h200": "h200_sxm", "b200": "b200_sxm", "l40s": "l40s"}
GEMM = {"float16": "bfloat16", "bfloat16": "bfloat16", "fp8": "fp8", "int8": "sq", "int4": "int4_wo", "nvfp4": "nvfp4"}
CONTEXTS = tuple(64 * 2**i for i in range(10))  # tokens
MOST_SEQUENCES, MOST_PROMPT_TOKENS = 1024, 8192  # in a batch
MILLISECOND = 1e-3


@dataclass(frozen=True)
class Reach:
    """Which batches to evaluate: at most `kv` tokens of KV cache, `sequences`, `prompt_tokens` prefilled together.

    `prompt` and `context` are the mix's mean prompt length, weighted by tokens, and the mean context of a decode.
    """

    kv: int
    sequences: float
    prompt_tokens: float
    prompt: int
    context: int


def kernel_batches(placement: Placement, reach: Reach) -> Floats:
    """Batches within reach and their seconds by the installed tables, shape (n, 5).

    The columns are decode sequences, the KV tokens they read, prefill sequences, prompt tokens, seconds. Raises
    InputError where the package is not installed, or has no table for the GPU, the engine, or such a model.
    """
    engine = engine_of(placement)
    most = int(min(reach.sequences, MOST_SEQUENCES))
    return np.array([*_decodes(engine, most, reach.kv), *_mixed(engine, most, reach)], dtype=np.float64)


def tables_version() -> str:
    """The version of the installed package, as reports name it."""
    return f"{PACKAGE} {version(PACKAGE)}"


def _decodes(engine: Any, most: int, kv: int) -> Iterator[tuple[float, ...]]:
    for n in _doubling(1, most):
        for context in CONTEXTS:
            if n * context <= kv:
                yield n, n * context, 0, 0, engine.predict_decode_latency(n, context, 2) * MILLISECOND


def _mixed(engine: Any, most: int, reach: Reach) -> Iterator[tuple[float, ...]]:
    """Prefills beside n decodes, whose context the package takes as `isl` + `osl` / 2."""
    prompt, context = reach.prompt, max(reach.context, reach.prompt + 1)
    for n in (0, *_doubling(1, most, 4)):
        for tokens in _doubling(128, int(min(reach.prompt_tokens, MOST_PROMPT_TOKENS))):
            if n * context + tokens <= reach.kv:
                seconds = engine.mixed_step_latency(tokens, n, prompt, 2 * (context - prompt)) * MILLISECOND
                yield n, n * context, -(-tokens // prompt), tokens, seconds


def _doubling(first: int, last: int, factor: int = 2) -> list[int]:
    """first, factor first, factor^2 first, ... up to last, and last itself; at least one."""
    steps, value = [], first
    while value < last:
        steps.append(value)
        value *= factor
    return [*steps, max(last, first)]


def engine_of(placement: Placement) -> Any:
    """The package's estimator of a placement; raises InputError as `kernel_batches` does."""
    one_of("engine", placement.engine, ENGINES)
    system = SYSTEMS.get(placement.gpu.name)
    if system is None:
        raise InputError("times", f'"law" for the GPU {placement.gpu.name}: kernels were measured on '
                         + ", ".join(SYSTEMS), "kernels")
    if placement.model.experts is not None or placement.model.latent is not None:
        raise InputError("times", f'"law" for {placement.model.name}: kernel times cover dense models', "kernels")
    try:
        sdk = import_module("aiconfigurator_core.sdk.engine")
    except ImportError:
        raise InputError("times", f"\"law\", or the package {PACKAGE} installed: pip install 'fluidwait[kernels]'",
                         "kernels") from None
    with tempfile.TemporaryDirectory() as folder, _quiet():
        Path(folder, "config.json").write_text(json.dumps(_config(placement.model)), encoding="utf-8")
        try:
            return sdk.EngineHandle.compile(
                folder, system, placement.engine, tp_size=placement.tensor_parallel, fmha_quant_mode="bfloat16",
                gemm_quant_mode=GEMM.get(placement.quantization.linear.name, placement.quantization.linear.name),
                kvcache_quant_mode="bfloat16" if placement.kv_type in ("float16", "bfloat16") else placement.kv_type)
        except Exception as error:  # the package's own errors are many, and each means: no such table
            reason = " ".join(str(error).split())[:200]
            raise InputError("times", f'"law": the tables do not have this placement ({reason})', "kernels") from None


def _config(model: Model) -> dict[str, Any]:
    """The shape of a dense model as a config.json of Llama's, whose kernels it has."""
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "torch_dtype": "bfloat16", "hidden_size": model.hidden_size, "intermediate_size": model.intermediate_size,
            "num_hidden_layers": model.layers, "num_attention_heads": model.attention_heads,
            "num_key_value_heads": model.kv_heads, "head_dim": model.head_dim, "vocab_size": model.vocab_size,
            "tie_word_embeddings": model.tied_embeddings, "max_position_embeddings": 2**20, "rms_norm_eps": 1e-5}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the package's warnings about tables that nobody asked for off standard error."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
