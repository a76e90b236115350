"""Hybrids: models in which most layers keep a state of constant size per sequence in place of keys and values.

Mamba 2 (arXiv 2405.21060), n heads of p elements, D = n p, g groups, N elements of state, a convolution of k taps:

    parameters  h (2 D + 2 g N + n) + k (D + 2 g N) [+ D + 2 g N] + 3 n + D + D h
    state       (k - 1)(D + 2 g N) elements of the convolution in 16 bits, and n p N of the recurrence

Gated delta rule (arXiv 2412.06464; Qwen3-Next, Qwen3.5), n_k key heads of d_k, n_v value heads of d_v elements:

    parameters  h (2 K + 2 V + 2 n_v) + k (2 K + V) + 2 n_v + d_v + V h,   K = n_k d_k, V = n_v d_v
    state       (k - 1)(2 K + V) elements of the convolution in 16 bits, and n_v d_v d_k of the recurrence

These are the shapes that vLLM allocates (`MambaStateShapeCalculator`; a group of tensor-parallel GPUs keeps each part
once). The recurrence is kept in the type the file names (`mamba_ssm_cache_dtype`, `mamba_ssm_dtype`), else Nemotron-H's
in 32 bits and the others' in the 16 of the model. vLLM rounds a state up to whole pages of the KV cache, which is not
counted here, and keeps more than one per sequence where prefixes are cached.

Nemotron-H (arXiv 2504.03624) has one part in each layer, Mamba (M), attention (*), an MLP (-) or experts (E), which may
work on a vector of `moe_latent_size` elements between two projections that all experts share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fluid.hardware import tensors
from fluid.hardware.configs.keys import Keys
from fluid.hardware.tensors import Tensor

_STATE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_PARTS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


@dataclass(frozen=True)
class Mamba:
    """A Mamba 2 layer: n heads of p elements, g groups, N elements of state, k taps."""

    heads: int
    head_dim: int
    groups: int
    state: int
    kernel: int
    conv_bias: bool = True
    bias: bool = False

    @property
    def convolved(self) -> int:
        """D + 2 g N, the elements that go through the convolution."""
        return self.heads * self.head_dim + 2 * self.groups * self.state

    def tensors(self, at: str, hidden: int) -> list[Tensor]:
        """The tensors of one layer's mixer."""
        inner = self.heads * self.head_dim
        return [*tensors.linear(f"{at}.in_proj", inner + self.convolved + self.heads, hidden, bias=self.bias),
                Tensor(f"{at}.conv1d", self.convolved, self.kernel + self.conv_bias),
                Tensor(f"{at}.scalars", self.heads, 3), Tensor(f"{at}.gated_norm", inner),
                *tensors.linear(f"{at}.out_proj", hidden, inner, bias=self.bias)]

    def state_bytes(self, element: int) -> int:
        """Bytes of state per sequence and layer, those of the recurrence of `element` bytes each."""
        return 2 * (self.kernel - 1) * self.convolved + element * self.heads * self.head_dim * self.state


@dataclass(frozen=True)
class Delta:
    """A layer of the gated delta rule: key heads, value heads, their elements, taps; Q, K, V in one matrix or two."""

    key_heads: int
    key_dim: int
    value_heads: int
    value_dim: int
    kernel: int

    @property
    def convolved(self) -> int:
        """2 K + V, the elements that go through the convolution."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim

    def tensors(self, at: str, hidden: int) -> list[Tensor]:
        """The tensors of one layer's mixer, under Qwen3.5's names."""
        value, heads = self.value_heads * self.value_dim, self.value_heads
        return [*tensors.linear(f"{at}.in_proj_qkv", self.convolved, hidden),
                *tensors.linear(f"{at}.in_proj_z", value, hidden), *tensors.linear(f"{at}.in_proj_b", heads, hidden),
                *tensors.linear(f"{at}.in_proj_a", heads, hidden), Tensor(f"{at}.conv1d", self.convolved, self.kernel),
                Tensor(f"{at}.scalars", heads, 2), Tensor(f"{at}.gated_norm", self.value_dim),
                *tensors.linear(f"{at}.out_proj", hidden, value)]

    def state_bytes(self, element: int) -> int:
        """Bytes of state per sequence and layer, those of the recurrence of `element` bytes each."""
        return 2 * (self.kernel - 1) * self.convolved + element * self.value_heads * self.value_dim * self.key_dim


def mixer_of(keys: Keys, kind: str) -> Mamba | Delta:
    """The mixer of the layers without KV: "delta", "mamba" (Granite 4, Bamba) or "nemotron"."""
    if kind == "delta":
        return Delta(*(keys.size(f"linear_{key}") for key in ("num_key_heads", "key_head_dim", "num_value_heads",
                                                              "value_head_dim", "conv_kernel_dim")))
    names = ("mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel", "use_conv_bias") \
        if kind == "nemotron" else ("mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv",
                                    "mamba_conv_bias")
    heads, size, groups, state, kernel = (keys.size(key) for key in names[:5])
    return Mamba(heads, size, groups, state, kernel, keys.flag(names[5], True), keys.flag("mamba_proj_bias"))


def recurrence_bytes(keys: Keys, default: str) -> int:
    """Bytes of an element of the recurrence, in the type that the file names."""
    key = next((each for each in ("mamba_ssm_cache_dtype", "mamba_ssm_dtype") if keys.config.get(each)), None)
    named = keys.config[key] if key else default
    if not isinstance(named, str) or named not in _STATE_BYTES:
        raise keys.refuse(str(key), " or ".join(f'"{each}"' for each in _STATE_BYTES))
    return _STATE_BYTES[named]


def nemotron_parts(keys: Keys) -> list[str]:
    """What each layer is: "mamba", "attention", "mlp" or "moe"."""
    listed, pattern = keys.texts("layers_block_type"), keys.config.get("hybrid_override_pattern")
    if listed is None and not (isinstance(pattern, str) and pattern and set(pattern) <= set(_PARTS)):
        raise keys.refuse("hybrid_override_pattern", "a text of M, *, - and E, one for each layer")
    parts = listed if listed is not None else [_PARTS[each] for each in str(pattern)]
    if not set(parts) <= set(_PARTS.values()) or "attention" not in parts:
        raise keys.refuse("layers_block_type", 'a list of "mamba", "attention", "mlp" and "moe", one of them attention')
    return parts


def nemotron_tensors(keys: Keys, parts: Sequence[str], hidden: int, attention: tuple[int, int, int]) -> list[Tensor]:
    """The tensors of every layer; `attention` is H, K and d."""
    mamba = mixer_of(keys, "nemotron")
    every: list[Tensor] = []
    for i, part in enumerate(parts):
        at = f"layers.{i}.mixer"
        every += tensors.norms(f"layers.{i}", hidden, 1)
        if part == "mamba":
            every += mamba.tensors(at, hidden)
        elif part == "attention":
            every += tensors.attention(at, hidden, *attention, bias=keys.flag("attention_bias"),
                                       output_bias=keys.flag("attention_bias"))
        elif part == "mlp":
            every += tensors.mlp(at, hidden, keys.size("intermediate_size"), gated=False, bias=keys.flag("mlp_bias"))
        else:
            every += _nemotron_experts(keys, at, hidden)
    return every


def _nemotron_experts(keys: Keys, at: str, hidden: int) -> list[Tensor]:
    """Router, experts (in the latent dimension where there is one), and the shared expert."""
    routed = keys.size("n_routed_experts")
    latent = keys.size("moe_latent_size", 0, least=0)
    between = [*tensors.linear(f"{at}.fc1_latent_proj", latent, hidden),
               *tensors.linear(f"{at}.fc2_latent_proj", hidden, latent)] if latent else []
    shared = keys.size("n_shared_experts", 1, least=0) * keys.size("moe_shared_expert_intermediate_size", 0, least=0)
    return [*tensors.router(at, hidden, routed, bias=True), *between,
            *tensors.experts(at, latent or hidden, routed, keys.size("num_experts_per_tok", most=routed),
                             keys.size("moe_intermediate_size"), gated=False),
            *(tensors.mlp(f"{at}.shared_expert", hidden, shared, gated=False) if shared else [])]
