"""The iteration time of a model on GPUs that nobody has measured yet: what the data sheets say, and four costs more.

A batch of n sequences that reads KV tokens and prefills p prompt tokens, of prompts l tokens long, takes on t GPUs

    tau =   P_r b_w / (t B)  +  k KV / (t B)  +  2 P_a (p + n) / (t F_w)          weights, KV cache, arithmetic
          + A 2 L H d l p / (t F)  +  S L  +  G 2 L h (p + n) / B  +  N n        attention, launches, hidden state, n

with L layers, H heads of d elements, hidden size h; B bytes/s and F FLOP/s of a GPU in 16 bits, F_w in the type of the
weights, where the GPU multiplies in it (8 or 4 bits; else F). The first three terms are the data sheet itself: fitted
freely, engines would be faster than it, so they stand at 1. The others are what it does not know:

    A  attention of a prefill, over its peak rate    mean context l/2: 4 L H d l/2 operations a token, at 1/A of F
    S  seconds per layer                             kernel launches and the host's share; one value for each engine
    G  passes of the hidden state through memory     norms, rotations, conversions, all-reduces: a GPU of the group does
                                                     each of them for the whole hidden state, so t does not divide it
    N  seconds per sequence                          sampling, block tables, scheduling

A further term for communication (t > 1: bytes of the all-reduces over the link) has coefficient 0 beside G. What is
affine in the batch becomes an `IterationTime`: d0 to d3 are sums of the terms, d2 at the mean prompt length of the mix,
weighted by tokens. `benchmarks/iteration_law.py` fits the coefficients (Huber on relative errors) to public
measurements of dense models on H100, H200 and B200 under vLLM, SGLang and TensorRT-LLM, and scores them with each GPU,
model, and t held out.

**How sure.** COVARIANCE is that of the fit, by clusters of rows from one machine (model, GPU, engine, t). SPREAD is the
standard deviation of ln(predicted/measured) for GPUs or models held out, which is what a new machine sees. The edge of
the region is one over a sum linear in the coefficients (`fluid.region`), so its interval at 95% follows from both.
Mixtures of experts, latent attention and GPUs other than these three are extrapolation.

Source of the rows: `systems/silicon_sample.csv` of the package aiconfigurator-core 0.12.0 (Apache-2.0), which is not
part of this one. See mathematics, section 14.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fluid.arrays import Floats
from fluid.errors import one_of
from fluid.hardware.catalogue import Gpu
from fluid.hardware.model import Model
from fluid.replica import IterationTime

TERMS = ("weights", "KV cache", "arithmetic", "attention", "launches", "hidden state", "sequences")
HIDDEN_BYTES = 2  # of an element of the hidden state, whatever the weights are
DEFAULT_ENGINE = "vllm"
ENGINES = ("vllm", "sglang", "trtllm")

# written by benchmarks/iteration_law.py --write; nothing here is set by hand
FITTED = ("attention", "launches, vllm", "launches, sglang and trtllm", "hidden state", "sequences")
VALUES = (4.937, 7.535e-05, 5.803e-05, 59.9, 2.79e-05)
COVARIANCE = (
    (0.605, 3.44e-07, -2.66e-07, -5, 1.05e-06),
    (3.44e-07, 3.01e-12, 3.78e-13, -4.8e-06, -1.18e-13),
    (-2.66e-07, 3.78e-13, 3.67e-12, 1.24e-06, -1.42e-12),
    (-5, -4.8e-06, 1.24e-06, 55.9, -1.14e-05),
    (1.05e-06, -1.18e-13, -1.42e-12, -1.14e-05, 6.97e-12),
)
SPREAD = 0.125


@dataclass(frozen=True, eq=False)
class LawTime:
    """An iteration time by the law, and the covariance (4, 4) of its coefficients d0, d1, d2, d3."""

    iteration_time: IterationTime
    covariance: Floats


def costs(model: Model, gpu: Gpu, *, gpus: int, bytes_read: float, kv_bytes: float, multiplies_in: int,
          prompt_tokens: float) -> Floats:
    """What each of TERMS adds to d0, d1, d2, d3 at coefficient 1: shape (4, 7), seconds.

    `bytes_read` are P_r b_w and `kv_bytes` k, over the whole group; `multiplies_in` are the bits of the type that
    weights are multiplied in; `prompt_tokens` the mean prompt length, weighted by tokens.
    """
    bandwidth, compute = gpus * gpu.bandwidth, gpus * gpu.compute
    per_token = 2 * model.parameters_active / (compute * gpu.speedup(multiplies_in))
    attention = 2 * model.attention_heads * model.head_dim * _contexts(model, prompt_tokens) / compute
    hidden = HIDDEN_BYTES * model.layers * model.hidden_size / gpu.bandwidth
    table = np.zeros((4, len(TERMS)))
    table[0, 0], table[1, 1] = bytes_read / bandwidth, kv_bytes / bandwidth
    table[2:, 2], table[2, 3], table[0, 4] = per_token, attention, model.layers
    table[2:, 5], table[3, 6] = hidden, 1.0
    return table


def _contexts(model: Model, tokens: float) -> float:
    """Tokens attended to, over the layers: the window's in windowed ones, all in the others, none without a cache."""
    within = tokens if model.attention_window is None else min(tokens, model.attention_window)
    windowed = model.kv_layers if model.windowed_layers is None else model.windowed_layers
    return windowed * within + (model.kv_layers - windowed) * tokens


def coefficients(engine: str = DEFAULT_ENGINE, values: Sequence[float] = VALUES) -> Floats:
    """The coefficients of TERMS for an engine, shape (7,), from those of FITTED.

    >>> coefficients("vllm")[:3].tolist()
    [1.0, 1.0, 1.0]
    """
    return np.concatenate([np.ones(3), _chosen(engine) @ np.array(values)])


def time_by_law(costs: Floats, engine: str = DEFAULT_ENGINE) -> LawTime:
    """The iteration time of `costs` under an engine; raises InputError for an engine the law was not fitted to."""
    one_of("engine", engine, ENGINES)
    line = costs @ coefficients(engine)
    by_fitted = costs[:, 3:] @ _chosen(engine)
    covariance = by_fitted @ np.array(COVARIANCE) @ by_fitted.T + SPREAD**2 * np.outer(line, line)
    return LawTime(IterationTime(*map(float, line)), covariance)


def _chosen(engine: str) -> Floats:
    """Which of VALUES are the last four coefficients of an engine: shape (4, 5)."""
    rows = np.eye(5)
    return rows[[0, 1 if engine == "vllm" else 2, 3, 4]]
