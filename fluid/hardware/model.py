"""The shape of a decoder-only language model, and what follows from it: parameters, KV elements, state.

A model is L layers of attention (H query heads, K key-value heads of d elements) and a gated MLP (hidden size h,
intermediate size m), between an embedding of V rows and an output head. Its parameters are counted, not quoted:

    per layer  h (2 H + 2 K) d [+ (H + 2 K) d with QKV biases] [+ 2 d with norms on Q and K] + 3 h m + 2 h
    total      L (per layer) + h + V h (twice, unless the head is the embedding itself)

which gives the published counts exactly (Llama-2-7B: 6,738,415,616). A family whose layers have other parts lists
its tensors itself (`fluid.hardware.configs`): the counts are sums over `weights`, its own or those of this shape.

KV elements per token: 2 A K d, A the layers that hold keys and values: all L, but in hybrids. Three variants:

Latent attention (DeepSeek-V2, section 2.1) caches one vector of c + r elements per token and layer, c the rank of keys
and values together and r the rotary part every head shares: A (c + r) elements. With n elements of a head without
rotation, v of a value, and queries of rank q (0: not compressed), the attention of a layer has

    h q + q + q H (n + r)  [h H (n + r) where q = 0]  +  h (c + r) + c + c H (n + v) + H v h

An indexer (DeepSeek-V3.2) beside it caches keys of its own in 8 bits with a scale of 32 per 128: x + 4 x/128 bytes per
token and layer (`index_bytes`, their sum), and makes engines store an 8-bit latent vector as c + 4 c/128 + 2 r bytes.
(It also spares reading most latent vectors of a long context, which the iteration time of a placement does not know.)

Windows: of the A layers, `windowed_layers` attend to the last `attention_window` tokens only (None: all A).

Hybrids: the layers without KV keep a state of constant size instead, `state_bytes` per sequence
(`fluid.hardware.configs.hybrid`).

Mixture of experts: past the first f layers the MLP is a router over E experts of size m_e, e of them per token, and s
shared ones: 3 h m_e (E + s) + E h [+ E with a bias on the router] in place of 3 h m. So three counts differ:

    stored     all experts: what the memory holds
    read       all but a separate input embedding: what an iteration reads, once the batch touches every expert. T
               tokens touch 1 - (1 - e/E)^T of them on average: DeepSeek-V2-Lite 96% at T = 32, Mixtral 99% at T = 16;
               the cost of a smaller batch is overstated
    active     of those only e experts: what one token is multiplied by

Sources: the architectures of Llama 2 (arXiv 2307.09288), Mistral 7B (2310.06825), Mixtral (2401.04088), Qwen3
(2505.09388), DeepSeek-V2 (2405.04434), V3 (2412.19437; its router has the bias) and V3.2 (2512.02556; the bytes of its
caches: vLLM, `DeepseekV32IndexerCache` and the cache type fp8_ds_mla). See mathematics, section 14.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fluid.errors import InputError, whole
from fluid.hardware import tensors
from fluid.hardware.element_types import KV_BITS, Quantization
from fluid.hardware.tensors import Tensor

_SIZES = {"layers": "layers", "hidden_size": "elements", "attention_heads": "heads", "kv_heads": "heads",
          "head_dim": "elements", "intermediate_size": "elements", "vocab_size": "tokens", "attention_window": "tokens",
          "windowed_layers": "layers", "attention_layers": "layers", "state_bytes": "bytes", "index_bytes": "bytes",
          "routed": "experts", "per_token": "experts", "size": "elements", "shared": "experts",
          "dense_layers": "layers"}
MOST_LAYERS = 1000  # the tensors of each are listed
_OPTIONAL = ("attention_window", "windowed_layers", "attention_layers")  # None has a meaning


@dataclass(frozen=True)
class Latent:
    """Latent attention: ranks c of keys and values and q of queries (0: not compressed), elements r, n, v of a head."""

    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    query_rank: int = 0

    def __post_init__(self) -> None:
        for field in ("kv_rank", "rope_dim", "nope_dim", "value_dim", "query_rank"):
            value = whole(field, getattr(self, field), "latent attention", unit="elements", most=2**31,
                          least=int(field != "query_rank"))
            object.__setattr__(self, field, value)

    def tensors(self, at: str, hidden: int, heads: int) -> list[Tensor]:
        """The tensors of one layer's attention, its two inner norms included."""
        query, rank = heads * (self.nope_dim + self.rope_dim), self.query_rank
        queries = [*tensors.linear(f"{at}.q_a_proj", rank, hidden), Tensor(f"{at}.q_a_layernorm", rank),
                   *tensors.linear(f"{at}.q_b_proj", query, rank)] if rank else tensors.linear(
                       f"{at}.q_proj", query, hidden)
        return [*queries, *tensors.linear(f"{at}.kv_a_proj_with_mqa", self.kv_rank + self.rope_dim, hidden),
                Tensor(f"{at}.kv_a_layernorm", self.kv_rank),
                *tensors.linear(f"{at}.kv_b_proj", heads * (self.nope_dim + self.value_dim), self.kv_rank),
                *tensors.linear(f"{at}.o_proj", hidden, heads * self.value_dim)]


@dataclass(frozen=True)
class Experts:
    """A mixture of experts: E `routed` ones of `size` elements, e `per_token`, s `shared`, after f `dense_layers`."""

    routed: int
    per_token: int
    size: int
    shared: int = 0
    dense_layers: int = 0
    router_bias: bool = False

    def __post_init__(self) -> None:
        for field in ("routed", "per_token", "size", "shared", "dense_layers"):
            most = self.routed if field == "per_token" else 2**31
            value = whole(field, getattr(self, field), "experts", unit=_SIZES[field], most=most,
                          least=int(field not in ("shared", "dense_layers")))
            object.__setattr__(self, field, value)

    def tensors(self, at: str, hidden: int) -> list[Tensor]:
        """The tensors of one layer's router, routed experts and shared experts (one MLP of their sizes together)."""
        shared = tensors.mlp(f"{at}.shared_expert", hidden, self.shared * self.size) if self.shared else []
        return [*tensors.router(at, hidden, self.routed, bias=self.router_bias),
                *tensors.experts(at, hidden, self.routed, self.per_token, self.size), *shared]


@dataclass(frozen=True)
class Model:
    """The shape of a decoder-only model: everything its weights and its KV cache follow from.

    `attention_window` is the number of last tokens that `windowed_layers` of the layers attend to (None: all that hold
    KV), where it is not the whole context. `attention_layers` is the number of layers that hold KV (None: all); the
    others keep `state_bytes` per sequence together. `index_bytes` is what a token adds to caches whose type is fixed.
    `tensors` are the weights where they are not those of the shape, `quantization` their element types (None: 16 bit).
    With `latent` attention `kv_heads` and `head_dim` are not used, and with `experts` in every layer
    `intermediate_size` is not. Raises InputError unless every size is a whole number of at least 1, `kv_heads` divides
    `attention_heads`, and at least one layer has the experts.

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
    qk_norm: bool = False
    attention_window: int | None = None
    latent: Latent | None = None
    experts: Experts | None = None
    source: str = ""
    windowed_layers: int | None = None
    attention_layers: int | None = None
    state_bytes: int = 0
    index_bytes: int = 0
    tensors: tuple[Tensor, ...] = ()
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        where = f"model {self.name}"
        for field in ("layers", "hidden_size", "attention_heads", "kv_heads", "head_dim", "intermediate_size",
                      "vocab_size", *_OPTIONAL, "state_bytes", "index_bytes"):
            if field not in _OPTIONAL or getattr(self, field) is not None:
                value = whole(field, getattr(self, field), where, unit=_SIZES[field],
                              least=0 if field.endswith("bytes") else 1,
                              most=2**53 if "bytes" in field else MOST_LAYERS if field == "layers" else 2**31)
                object.__setattr__(self, field, value)
        self._check_layers(where)
        if self.attention_heads % self.kv_heads:
            raise InputError("kv_heads", f"a divisor of the {self.attention_heads} attention heads",
                             self.kv_heads, where)

    def _check_layers(self, where: str) -> None:
        """Every kind of layer counts at most those there are; all of them is the same as None."""
        if self.experts is not None and self.experts.dense_layers >= self.layers:
            raise InputError("dense_layers", f"below the {self.layers} layers", self.experts.dense_layers, where)
        if self.windowed_layers is not None and self.attention_window is None:
            raise InputError("windowed_layers", "given together with attention_window", self.windowed_layers, where)
        for field, most in (("attention_layers", self.layers), ("windowed_layers", self.kv_layers)):
            given = getattr(self, field)
            if given is not None and given > most:
                raise InputError(field, f"at most the {most} layers", given, where)
            if given == most:
                object.__setattr__(self, field, None)

    @property
    def kv_layers(self) -> int:
        """A, the layers that hold keys and values."""
        return self.layers if self.attention_layers is None else self.attention_layers

    @cached_property
    def weights(self) -> tuple[Tensor, ...]:
        """The weights, tensor by tensor: its own, or those of the shape."""
        return self.tensors or (*tensors.ends(self.hidden_size, self.vocab_size, tied=self.tied_embeddings),
                                *(each for i in range(self.layers) for each in self._layer(i)))

    @cached_property
    def parameters(self) -> int:
        """Parameters stored."""
        return sum(each.parameters for each in self.weights)

    @cached_property
    def parameters_read(self) -> int:
        """Parameters an iteration reads: all but a separate input embedding, of which it looks up single rows."""
        return sum(each.parameters for each in self.weights if each.is_read)

    @cached_property
    def parameters_active(self) -> int:
        """Parameters one token is multiplied by: those read, less the experts it is not routed to."""
        return sum(each.parameters // each.copies * each.active for each in self.weights if each.is_read)

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, and again of an output head: V h."""
        return self.vocab_size * self.hidden_size

    @property
    def kv_elements(self) -> int:
        """Elements one token adds to the KV cache: 2 A K d, with latent attention A (c + r)."""
        if self.latent is not None:
            return self.kv_layers * (self.latent.kv_rank + self.latent.rope_dim)
        return 2 * self.kv_layers * self.kv_heads * self.head_dim

    def kv_bytes(self, dtype: str) -> int:
        """Bytes one token adds to the KV cache in an element type, the caches of fixed type included."""
        if self.latent is not None and self.index_bytes and dtype == "fp8":
            rank, rotary = self.latent.kv_rank, self.latent.rope_dim
            return self.kv_layers * (rank + 4 * rank // 128 + 2 * rotary) + self.index_bytes
        return self.kv_elements * KV_BITS[dtype] // 8 + self.index_bytes

    def _layer(self, i: int) -> list[Tensor]:
        """The tensors of layer i of the plain shape."""
        at, hidden, heads = f"layers.{i}", self.hidden_size, self.attention_heads
        if self.latent is not None:
            attention = self.latent.tensors(f"{at}.self_attn", hidden, heads)
        else:
            attention = tensors.attention(f"{at}.self_attn", hidden, heads, self.kv_heads, self.head_dim,
                                          bias=self.qkv_bias, norms=2 * self.head_dim * self.qk_norm)
        mixed = self.experts is not None and i >= self.experts.dense_layers
        block = self.experts.tensors(f"{at}.mlp", hidden) if self.experts and mixed else tensors.mlp(
            f"{at}.mlp", hidden, self.intermediate_size)
        return [*tensors.norms(at, hidden, 2), *attention, *block]
