"""The shape of a decoder-only language model, and what follows from it: parameters, KV elements per token.

A model is L layers of attention (H query heads, K key-value heads of d elements) and a gated MLP (hidden size h,
intermediate size m), between an embedding of V rows and an output head. Its parameters are counted, not quoted:

    per layer  h (2 H + 2 K) d [+ (H + 2 K) d with QKV biases] [+ 2 d with norms on Q and K] + 3 h m + 2 h
    total      L (per layer) + h + V h (twice, unless the head is the embedding itself)

which gives the published counts exactly (Llama-2-7B: 6,738,415,616). KV elements per token: 2 L K d. Two variants:

Latent attention (DeepSeek-V2, section 2.1) caches one vector of c + r elements per token and layer, c the rank of keys
and values together and r the rotary part every head shares: L (c + r) elements. With n elements of a head without
rotation, v of a value, and queries of rank q (0: not compressed), the attention of a layer has

    h q + q + q H (n + r)  [h H (n + r) where q = 0]  +  h (c + r) + c + c H (n + v) + H v h

Mixture of experts: past the first f layers the MLP is a router over E experts of size m_e, e of them per token, and s
shared ones: 3 h m_e (E + s) + E h [+ E with a bias on the router] in place of 3 h m. So three counts differ:

    stored     all experts: what the memory holds
    read       all but a separate input embedding: what an iteration reads, once the batch touches every expert. T
               tokens touch 1 - (1 - e/E)^T of them on average: DeepSeek-V2-Lite 96% at T = 32, Mixtral 99% at T = 16;
               the cost of a smaller batch is overstated
    active     of those only e experts: what one token is multiplied by

Sources: the architectures of Llama 2 (arXiv 2307.09288), Mistral 7B (2310.06825), Mixtral (2401.04088), Qwen3
(2505.09388), DeepSeek-V2 (2405.04434) and V3 (2412.19437; its router has the bias).
"""

from __future__ import annotations

from dataclasses import dataclass

from fluid.errors import InputError, whole

_SIZES = {"layers": "layers", "hidden_size": "elements", "attention_heads": "heads", "kv_heads": "heads",
          "head_dim": "elements", "intermediate_size": "elements", "vocab_size": "tokens", "attention_window": "tokens",
          "routed": "experts", "per_token": "experts", "size": "elements", "shared": "experts",
          "dense_layers": "layers"}


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

    def parameters(self, hidden: int, heads: int) -> int:
        """Parameters of one layer's attention, its two inner norms included."""
        query, rank = heads * (self.nope_dim + self.rope_dim), self.query_rank
        queries = hidden * rank + rank + rank * query if rank else hidden * query
        keys_values = hidden * (self.kv_rank + self.rope_dim) + self.kv_rank
        expanded = self.kv_rank * heads * (self.nope_dim + self.value_dim)
        return queries + keys_values + expanded + heads * self.value_dim * hidden


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

    def parameters(self, hidden: int, routed: int) -> int:
        """Parameters of one layer's experts and router, counting only `routed` of the routed experts."""
        return 3 * hidden * self.size * (routed + self.shared) + self.routed * (hidden + self.router_bias)


@dataclass(frozen=True)
class Model:
    """The shape of a decoder-only model: everything its weights and its KV cache follow from.

    `attention_window` is the number of last tokens that every layer attends to, where it is not the whole context.
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

    def __post_init__(self) -> None:
        where = f"model {self.name}"
        for field in ("layers", "hidden_size", "attention_heads", "kv_heads", "head_dim", "intermediate_size",
                      "vocab_size", "attention_window"):
            if field != "attention_window" or self.attention_window is not None:
                value = whole(field, getattr(self, field), where, unit=_SIZES[field], most=2**31)
                object.__setattr__(self, field, value)
        if self.attention_heads % self.kv_heads:
            raise InputError("kv_heads", f"a divisor of the {self.attention_heads} attention heads",
                             self.kv_heads, where)
        if self.experts is not None and self.experts.dense_layers >= self.layers:
            raise InputError("dense_layers", f"below the {self.layers} layers", self.experts.dense_layers, where)

    @property
    def parameters(self) -> int:
        """Parameters stored."""
        return self.parameters_read + (0 if self.tied_embeddings else self.embedding)

    @property
    def parameters_read(self) -> int:
        """Parameters an iteration reads: all but a separate input embedding, of which it looks up single rows."""
        return self._multiplied(self.experts.routed if self.experts else 0)

    @property
    def parameters_active(self) -> int:
        """Parameters one token is multiplied by: those read, less the experts it is not routed to."""
        return self._multiplied(self.experts.per_token if self.experts else 0)

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, and again of an output head: V h."""
        return self.vocab_size * self.hidden_size

    @property
    def kv_elements(self) -> int:
        """Elements one token adds to the KV cache: 2 L K d, with latent attention L (c + r)."""
        if self.latent is not None:
            return self.layers * (self.latent.kv_rank + self.latent.rope_dim)
        return 2 * self.layers * self.kv_heads * self.head_dim

    def _multiplied(self, routed: int) -> int:
        """Parameters of the layers with `routed` experts each, of the last norm and of the output head."""
        dense = self.experts.dense_layers if self.experts else self.layers
        experts = self.experts.parameters(self.hidden_size, routed) if self.experts else 0
        mlps = dense * 3 * self.hidden_size * self.intermediate_size + (self.layers - dense) * experts
        return self.layers * (self._attention + 2 * self.hidden_size) + mlps + self.hidden_size + self.embedding

    @property
    def _attention(self) -> int:
        if self.latent is not None:
            return self.latent.parameters(self.hidden_size, self.attention_heads)
        query, key = self.attention_heads * self.head_dim, self.kv_heads * self.head_dim
        extras = (query + 2 * key) * self.qkv_bias + 2 * self.head_dim * self.qk_norm
        return self.hidden_size * (2 * query + 2 * key) + extras
