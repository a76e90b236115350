"""The weights of a model, tensor by tensor: what they are called, how many parameters they have, which a token uses.

A model's parameters are counted by writing down its tensors: a matrix of r rows and c columns has r c of them, times
the copies of it (E experts have E). Names are those of the checkpoints, without what stands before the layer and with
one spelling where families differ, so that a file which says what is not quantised can be understood:

    embed_tokens, lm_head, norm
    layers.3.self_attn.q_proj       matrices of attention; k_proj, v_proj, o_proj; q_a_proj ... of latent attention
    layers.3.mlp.gate_proj          of a dense MLP; up_proj, down_proj
    layers.3.mlp.gate               the router over the experts
    layers.3.mlp.experts.0.up_proj  of an expert: the first stands for all, with as many copies
    layers.3.mlp.shared_expert...   of the experts that every token goes through

A matrix counts three ways: stored, in the memory; read, by an iteration that touches every expert, which is all but a
separate input embedding, of which single rows are looked up; active, multiplied by one token: e of E experts.
Sources: the model classes of the Transformers library, and the public checkpoints (`tests/fluid/hardware`).
"""

from __future__ import annotations

from dataclasses import dataclass

LINEAR = "linear"  # the matrix of a linear layer: what quantisation is for
HEAD = "head"  # the output head: quantised only where a file says so
EMBEDDING = "embedding"  # an input embedding that is not the head as well
OTHER = "other"  # norms, biases, routers, convolutions: never quantised


@dataclass(frozen=True)
class Tensor:
    """A matrix of `rows` outputs and `columns` inputs (a vector has 1), kept `copies` times, `active` for one token.

    >>> Tensor("layers.0.mlp.experts.0.up_proj", 768, 2048, copies=128, active=8, kind=LINEAR).parameters
    201326592
    """

    name: str
    rows: int
    columns: int = 1
    copies: int = 1
    active: int = 1
    kind: str = OTHER

    @property
    def parameters(self) -> int:
        """Parameters stored: rows x columns x copies."""
        return self.rows * self.columns * self.copies

    @property
    def is_read(self) -> bool:
        """Whether an iteration reads all of it: not of an input embedding."""
        return self.kind != EMBEDDING


def linear(name: str, rows: int, columns: int, *, bias: bool = False) -> list[Tensor]:
    """The matrix of a linear layer, and its bias."""
    return [Tensor(name, rows, columns, kind=LINEAR)] + [Tensor(f"{name}.bias", rows)] * bias


def ends(hidden: int, vocabulary: int, *, tied: bool, norm_bias: bool = False) -> list[Tensor]:
    """The embedding, the last norm and the head, which is the embedding itself where they are `tied`."""
    separate = [] if tied else [Tensor("embed_tokens", vocabulary, hidden, kind=EMBEDDING)]
    return [*separate, Tensor("norm", hidden * (1 + norm_bias)), Tensor("lm_head", vocabulary, hidden, kind=HEAD)]


def attention(at: str, hidden: int, heads: int, kv_heads: int, head_dim: int, *, bias: bool = False,
              output_bias: bool = False, norms: int = 0, gate: bool = False, sinks: bool = False) -> list[Tensor]:
    """Q, K, V and output of H heads on K key-value heads: h (2 H + 2 K) d, and what some families have besides.

    `norms` are the parameters of the norms on Q and K together, `gate` doubles Q by a gate of the output, `sinks` are
    one parameter per head.
    """
    query, key = heads * head_dim, kv_heads * head_dim
    extras = [Tensor(f"{at}.qk_norm", norms)] * bool(norms) + [Tensor(f"{at}.sinks", heads)] * sinks
    return [*linear(f"{at}.q_proj", query * (1 + gate), hidden, bias=bias),
            *linear(f"{at}.k_proj", key, hidden, bias=bias), *linear(f"{at}.v_proj", key, hidden, bias=bias),
            *linear(f"{at}.o_proj", hidden, query, bias=output_bias), *extras]


def mlp(at: str, hidden: int, size: int, *, gated: bool = True, bias: bool = False) -> list[Tensor]:
    """An MLP of `size` elements: 3 h m with a gate, 2 h m without."""
    gates = linear(f"{at}.gate_proj", size, hidden, bias=bias) if gated else []
    return [*gates, *linear(f"{at}.up_proj", size, hidden, bias=bias),
            *linear(f"{at}.down_proj", hidden, size, bias=bias)]


def experts(at: str, hidden: int, routed: int, per_token: int, size: int, *, gated: bool = True,
            bias: bool = False) -> list[Tensor]:
    """E experts of an MLP each, e of them per token."""
    return [Tensor(each.name, each.rows, each.columns, routed, per_token, each.kind)
            for each in mlp(f"{at}.experts.0", hidden, size, gated=gated, bias=bias)]


def router(at: str, hidden: int, routed: int, *, bias: bool = False) -> list[Tensor]:
    """The router over E experts: E h, and E with a bias (a score correction counts as one)."""
    return [Tensor(f"{at}.gate", routed, hidden)] + [Tensor(f"{at}.gate.bias", routed)] * bias


def norms(at: str, hidden: int, count: int, *, bias: bool = False) -> list[Tensor]:
    """The norms of a layer, h parameters each, 2 h with biases."""
    return [Tensor(f"{at}.norm_{i}", hidden * (1 + bias)) for i in range(count)]
