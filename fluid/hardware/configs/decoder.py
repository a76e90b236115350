"""The layers of one model: what its config.json says of each, and their tensors.

A layer is norms, attention (or what a hybrid has in its place), and an MLP or experts. Which layers have what:

    attention   `layer_types`; else every `full_attention_interval`-th (Qwen3-Next), `attn_layer_indices` (Bamba), all
    experts     `mlp_layer_types` or a list `moe_layer_freq`; else all; those past `first_k_dense_replace` (DeepSeek);
                every `decoder_sparse_step`-th not in `mlp_only_layers` (Qwen); every `interleave_moe_layer_step`-th
                (Llama 4)
    indexer     `indexer_types` "full"; else all of a family that has one. With x elements in each of i heads and
                queries of rank q: q i x + h x + 2 x + h i parameters (DeepSeek-V3.2)

Sources: the configuration and model classes of the Transformers library.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fluid.errors import InputError
from fluid.hardware import tensors
from fluid.hardware.configs import hybrid
from fluid.hardware.configs.families import Family, Mixture, Switch
from fluid.hardware.configs.keys import Keys
from fluid.hardware.model import MOST_LAYERS, Experts, Latent
from fluid.hardware.tensors import Tensor

WINDOWED = ("sliding_attention", "chunked_attention")
_WHOLE = ("full_attention", "attention", "deepseek_sparse_attention")
_STATE = ("linear_attention", "mamba")


@dataclass(frozen=True)
class Decoder:
    """The layers of the model that a config.json describes."""

    keys: Keys
    family: Family

    @cached_property
    def hidden(self) -> int:
        """h."""
        return self.keys.size("hidden_size")

    @cached_property
    def heads(self) -> int:
        """H."""
        return self.keys.size("num_attention_heads", self._default("num_attention_heads"))

    @cached_property
    def kv_heads(self) -> int:
        """K, one per attention head unless given."""
        return self.keys.size("num_key_value_heads", self._default("num_key_value_heads") or self.heads)

    @cached_property
    def vocabulary(self) -> int:
        """V."""
        return self.keys.size("vocab_size", self._default("vocab_size"))

    @cached_property
    def tied(self) -> bool:
        """Whether the head is the embedding."""
        return self.keys.flag("tie_word_embeddings", self.family.tied)

    @cached_property
    def head_dim(self) -> int:
        """d."""
        if self.latent is not None:
            return self.latent.nope_dim + self.latent.rope_dim
        key = "head_dim" if self.keys.config.get("head_dim") is not None else "attention_head_dim"
        if self.keys.config.get(key) is None and not self.family.head_dim and self.hidden % self.heads:
            raise InputError("hidden_size", f"a multiple of num_attention_heads {self.heads}, or head_dim given",
                             self.hidden, self.keys.where)
        return self.keys.size(key, self.family.head_dim or self.hidden // self.heads)

    @cached_property
    def latent(self) -> Latent | None:
        """The ranks of latent attention, in the families that have it."""
        keys = self.keys
        if not self.family.latent:
            return None
        if "q_lora_rank" not in keys.config:
            raise InputError("q_lora_rank", "given, as a whole number or null", None, keys.where)
        compressed = keys.config["q_lora_rank"] is not None
        return Latent(kv_rank=keys.size("kv_lora_rank"), rope_dim=keys.size("qk_rope_head_dim"),
                      nope_dim=keys.size("qk_nope_head_dim"), value_dim=keys.size("v_head_dim"),
                      query_rank=keys.size("q_lora_rank") if compressed else 0)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """What each layer has: "attention", or "state" in its place; Nemotron-H's are those of its pattern."""
        keys, family = self.keys, self.family
        if family.mixer == "nemotron":
            return tuple(hybrid.nemotron_parts(keys))
        layers, kinds = keys.size("num_hidden_layers", most=MOST_LAYERS), keys.texts("layer_types")
        if 0 in (keys.wholes("attn_type_list") or ()):  # MiniMax writes 1 for attention, 0 for its linear kind
            raise keys.refuse("attn_type_list", "1 for every layer: linear attention of this family is not known here")
        if kinds is None:
            return tuple("attention" if self._attends(i) else "state" for i in range(layers))
        known = WINDOWED + _WHOLE + (_STATE if family.mixer else ())
        if len(kinds) != layers or not set(kinds) <= set(known):
            odd = next((each for each in kinds if each not in known), f"{len(kinds)} layers")
            raise InputError("layer_types", f"one of {', '.join(known)} for each of the {layers} layers", odd,
                             keys.where)
        return tuple("state" if kind in _STATE else "attention" for kind in kinds)

    def _attends(self, i: int) -> bool:
        """Whether layer i holds keys and values, where no list of layers says so."""
        if self.family.mixer == "delta":
            return (i + 1) % self.keys.size("full_attention_interval", 4) == 0
        if self.family.mixer == "mamba":
            listed = self.keys.wholes("attn_layer_indices")
            if listed is None:
                raise self.keys.refuse("layer_types", "given, as a list of the kinds of layers")
            return i in listed
        return True

    @cached_property
    def experts(self) -> Experts | None:
        """The experts, `dense_layers` being the layers without them."""
        keys, mixture, layers = self.keys, self.family.mixture, len(self.parts)
        routed = keys.size(mixture.routed, 0 if mixture.optional else None, least=0) if mixture else 0
        if mixture is None or not routed or not self.sparse:
            return None
        return Experts(routed, keys.size(mixture.per_token, most=routed), keys.size(mixture.size),
                       shared=self._shared(mixture), dense_layers=layers - len(self.sparse),
                       router_bias=switch(keys, mixture.router_bias))

    def _shared(self, mixture: Mixture) -> int:
        if mixture.shared:
            return self.keys.size(mixture.shared, 0, least=0)
        return int(bool(mixture.shared_size and self.keys.size(mixture.shared_size, 0, least=0)))

    @cached_property
    def sparse(self) -> frozenset[int]:
        """The layers with experts."""
        keys, mixture, layers = self.keys, self.family.mixture, len(self.parts)
        if mixture is None:
            return frozenset()
        listed = [kind == "sparse" for kind in keys.texts("mlp_layer_types") or ()]
        if isinstance(keys.config.get("moe_layer_freq"), list):
            listed = [bool(each) for each in keys.wholes("moe_layer_freq") or ()]
        if listed:
            return frozenset(i for i in range(layers) if i < len(listed) and listed[i])
        return frozenset(i for i in range(layers) if self._is_sparse(i, mixture.layers))

    def _is_sparse(self, i: int, rule: str) -> bool:
        keys = self.keys
        if rule == "part":
            return self.parts[i] == "moe"
        if rule == "step":
            dense = keys.wholes("mlp_only_layers") or ()
            return i not in dense and (i + 1) % keys.size("decoder_sparse_step", 1) == 0
        if rule == "interleave":
            listed = keys.wholes("moe_layers")
            return (i + 1) % keys.size("interleave_moe_layer_step", 1) == 0 if listed is None else i in listed
        if rule == "first":
            if keys.config.get("moe_layer_freq", 1) != 1:
                raise keys.refuse("moe_layer_freq", "1, experts in every layer after the dense ones")
            return i >= keys.size("first_k_dense_replace", 0, least=0, most=len(self.parts) - 1)
        return True

    @cached_property
    def indexed(self) -> frozenset[int]:
        """The layers with an indexer of their own."""
        if not self.family.indexer:
            return frozenset()
        kinds = self.keys.texts("indexer_types") or ["full"] * len(self.parts)
        if len(kinds) < len(self.parts) or not set(kinds) <= {"full", "shared"}:
            raise self.keys.refuse("indexer_types", 'a list of "full" and "shared", one for each layer')
        return frozenset(i for i in range(len(self.parts)) if kinds[i] == "full")

    @property
    def index_bytes(self) -> int:
        """Bytes a token adds to the caches of all indexers: x + 4 x/128 each."""
        size = self.keys.size("index_head_dim") if self.indexed else 0
        return len(self.indexed) * (size + 4 * size // 128)

    @property
    def state_bytes(self) -> int:
        """Bytes of state per sequence in all layers that keep one."""
        layers = sum(part in ("state", "mamba") for part in self.parts)
        if not layers:
            return 0
        element = hybrid.recurrence_bytes(self.keys, "float32" if self.family.mixer == "nemotron" else "float16")
        return layers * hybrid.mixer_of(self.keys, self.family.mixer).state_bytes(element)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors of the whole model."""
        family, bias = self.family, self.family.norm_bias
        ends = tensors.ends(self.hidden, self.vocabulary, tied=self.tied, norm_bias=bias)
        if family.mixer == "nemotron":
            return *ends, *hybrid.nemotron_tensors(self.keys, self.parts, self.hidden,
                                                   (self.heads, self.kv_heads, self.head_dim))
        return *ends, *(each for i in range(len(self.parts)) for each in (
            *tensors.norms(f"layers.{i}", self.hidden, family.norms, bias=bias), *self._attention(i),
            *self._block(f"layers.{i}.mlp", i)))

    def _attention(self, i: int) -> list[Tensor]:
        """The attention of layer i, or what keeps a state in its place."""
        family, keys, at = self.family, self.keys, f"layers.{i}.self_attn"
        if self.parts[i] != "attention":
            name = "linear_attn" if family.mixer == "delta" else "mamba"
            return hybrid.mixer_of(keys, family.mixer).tensors(f"layers.{i}.{name}", self.hidden)
        if self.latent is not None:
            indexer = self._indexer(f"{at}.indexer", self.latent) if i in self.indexed else []
            return self.latent.tensors(at, self.hidden, self.heads) + indexer
        norms = {"head": 2 * self.head_dim, "width": (self.heads + self.kv_heads) * self.head_dim, "": 0}
        return tensors.attention(at, self.hidden, self.heads, self.kv_heads, self.head_dim,
                                 bias=switch(keys, family.qkv_bias), output_bias=switch(keys, family.output_bias),
                                 norms=norms[family.qk_norm] if switch(keys, family.qk_norm_if) else 0,
                                 gate=family.mixer == "delta", sinks=family.sinks)

    def _indexer(self, at: str, latent: Latent) -> list[Tensor]:
        heads, size = self.keys.size("index_n_heads"), self.keys.size("index_head_dim")
        return [*tensors.linear(f"{at}.wq_b", heads * size, latent.query_rank),
                *tensors.linear(f"{at}.wk", size, self.hidden), Tensor(f"{at}.k_norm", size, 2),
                Tensor(f"{at}.weights_proj", heads, self.hidden)]

    def _block(self, at: str, i: int) -> list[Tensor]:
        """The MLP or the experts of layer i."""
        family, keys, mixture, experts = self.family, self.keys, self.family.mixture, self.experts
        if mixture is None or experts is None or i not in self.sparse:
            return tensors.mlp(at, self.hidden, self.dense_size, gated=family.gated, bias=switch(keys, family.mlp_bias))
        if not mixture.shared_size and not mixture.bias:
            return experts.tensors(at, self.hidden)
        size = keys.size(mixture.shared_size, 0, least=0) if mixture.shared_size else 0
        shared = tensors.mlp(f"{at}.shared_expert", self.hidden, size) if size else []
        gate = [Tensor(f"{at}.shared_expert_gate", 1, self.hidden)] if mixture.shared_gate and size else []
        return [*tensors.router(at, self.hidden, experts.routed, bias=experts.router_bias),
                *tensors.experts(at, self.hidden, experts.routed, experts.per_token, experts.size, bias=mixture.bias),
                *shared, *gate]

    @property
    def dense_size(self) -> int:
        """m, the elements of a dense MLP; of a family whose layers all have experts it may be left out."""
        key, layers = self.family.dense_size, len(self.parts)
        key = key if self.keys.config.get(key) else "intermediate_size"
        every = self.experts is not None and len(self.sparse) == layers
        return self.keys.size(key, self.experts.size if self.experts and every else None)

    def _default(self, key: str) -> int | None:
        return dict(self.family.defaults).get(key)


def switch(keys: Keys, of: Switch) -> bool:
    """What a family says, or the key that it names."""
    return keys.flag(of) if isinstance(of, str) else of
