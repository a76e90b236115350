"""A decoder of a Llama-like model's shape in PyTorch, with random weights: what `measure_iteration_time.py` measures.

A batch is some decodes, which read a context each (the token just written included), and some prompts prefilled from
their first token. One iteration is the embedding; L layers of RMSNorm, QKV projection (with biases, with norms on Q and
K where the model has them), rotary positions, a write to the KV cache, attention, output projection and SwiGLU; then
the head on the last token of each sequence. Decodes and prompts share the matrix products, as in an engine, and attend
apart: decodes over their own rows of the cache, the query heads that share a KV head as so many queries of one head, so
that the cache is read once and never copied; prompts over their own keys with a causal mask.

The KV cache is one pool of tokens per layer, cut into equal rows for each batch anew. Nothing waits for the host, so an
iteration can be captured as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everyone gives it

from fluid.hardware.model import Model


@dataclass(frozen=True)
class Batch:
    """`decodes` sequences of `context` tokens, `prompts` of `length` tokens; `room` tokens in a row (0: no more)."""

    decodes: int = 0
    context: int = 0
    prompts: int = 0
    length: int = 0
    room: int = 0

    @property
    def key(self) -> tuple[int, ...]:
        """The measured columns."""
        return self.decodes, self.decodes * self.context, self.prompts, self.prompts * self.length

    @property
    def cached(self) -> int:
        """Tokens of KV cache it needs."""
        return self.decodes * (self.room or self.context) + self.prompts * (self.room or self.length)


@dataclass(frozen=True)
class Layer:
    """The matrices of one layer; one bias for Q, K and V together."""

    qkv: Tensor
    bias: Tensor | None
    out: Tensor
    gate_up: Tensor
    down: Tensor


class Decoder:
    """A Llama-shaped decoder: random weights, one pool of `pool` KV tokens per layer, shared by the rows of a batch."""

    def __init__(self, model: Model, device: str, dtype: torch.dtype, positions: int, fused: bool = False) -> None:
        self.model, self.device, self.dtype = model, device, dtype
        self.norm, self.rotate, self.swiglu = (_fused(step) if fused else step for step in STEPS)
        hidden, dim = model.hidden_size, model.head_dim
        heads = model.attention_heads + 2 * model.kv_heads
        self.random = torch.Generator(device).manual_seed(0)
        self.embedding = self._weights(model.vocab_size, hidden)
        self.head = self.embedding if model.tied_embeddings else self._weights(model.vocab_size, hidden)
        self.layers = [Layer(qkv=self._weights(heads * dim, hidden),
                             bias=self._weights(heads * dim) if model.qkv_bias else None,
                             out=self._weights(hidden, model.attention_heads * dim),
                             gate_up=self._weights(2 * model.intermediate_size, hidden),
                             down=self._weights(hidden, model.intermediate_size)) for _ in range(model.layers)]
        self.ones, self.dim_ones = (torch.ones(size, device=device, dtype=dtype) for size in (hidden, dim))
        angles = torch.outer(torch.arange(positions), 10000.0 ** (-torch.arange(0, dim, 2) / dim)).to(device)
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)
        self.allocate(0)

    def allocate(self, pool: int) -> None:
        """Make the KV cache: keys and values of `pool` tokens in every layer (random: zeros would draw less power)."""
        self.pool = pool
        self.cache = [tuple(self._weights(pool, self.model.kv_heads, self.model.head_dim) for _ in "kv")
                      for _ in self.layers]

    def iteration(self, batch: Batch, tokens: Tensor, positions: Tensor, last: Tensor) -> Tensor:
        """Logits of the last token of each sequence, decodes first; writes the keys and values of `tokens`."""
        model, x = self.model, self.embedding[tokens]
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        split = (model.attention_heads, model.kv_heads, model.kv_heads)
        for layer, cache in zip(self.layers, self.cache, strict=True):
            qkv = F.linear(self.norm(x, self.ones), layer.qkv, layer.bias)
            query, key, value = qkv.view(len(tokens), -1, model.head_dim).split(split, dim=1)
            if model.qk_norm:
                query, key = self.norm(query, self.dim_ones), self.norm(key, self.dim_ones)
            attended = self._attend(batch, cache, self.rotate(query, cos, sin), self.rotate(key, cos, sin), value)
            x = x + F.linear(attended, layer.out)
            x = x + F.linear(self.swiglu(F.linear(self.norm(x, self.ones), layer.gate_up)), layer.down)
        return F.linear(self.norm(x[last], self.ones), self.head)

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Random tokens of a batch, their positions, and where the last token of each sequence is."""
        total = batch.decodes + batch.prompts * batch.length
        tokens = torch.randint(self.model.vocab_size, (total,), device=self.device, generator=self.random)
        prompt = torch.arange(batch.length, device=self.device).repeat(batch.prompts)
        positions = torch.cat([torch.full((batch.decodes,), batch.context - 1, device=self.device), prompt])
        ends = batch.decodes + batch.length * torch.arange(1, batch.prompts + 1, device=self.device) - 1
        return tokens, positions, torch.cat([torch.arange(batch.decodes, device=self.device), ends])

    def _attend(self, batch: Batch, cache: tuple[Tensor, ...], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        model, done = self.model, batch.decodes
        group, room = model.attention_heads // model.kv_heads, batch.room or batch.context
        parts: list[Tensor] = []
        if done:
            keys, values = (_rows(pool, 0, done, room) for pool in cache)
            keys[:, batch.context - 1], values[:, batch.context - 1] = key[:done], value[:done]
            grouped = query[:done].view(done, model.kv_heads, group, model.head_dim)
            keys, values = (rows[:, :batch.context].transpose(1, 2) for rows in (keys, values))
            parts.append(F.scaled_dot_product_attention(grouped, keys, values).reshape(done, -1))
        if batch.prompts:
            for pool, new in zip(cache, (key, value), strict=True):
                rows = _rows(pool, done * room, batch.prompts, batch.room or batch.length)
                rows[:, :batch.length] = new[done:].view(batch.prompts, batch.length, *new.shape[1:])
            shape = (batch.prompts, batch.length, -1, model.head_dim)
            ours, keys, values = (heads[done:].reshape(shape).transpose(1, 2) for heads in (query, key, value))
            keys, values = keys.repeat_interleave(group, dim=1), values.repeat_interleave(group, dim=1)
            attended = F.scaled_dot_product_attention(ours, keys, values, is_causal=True)
            parts.append(attended.transpose(1, 2).reshape(batch.prompts * batch.length, -1))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _weights(self, *shape: int) -> Tensor:
        return torch.empty(shape, device=self.device, dtype=self.dtype).normal_(
            std=shape[-1] ** -0.5, generator=self.random)


def _rows(pool: Tensor, start: int, rows: int, room: int) -> Tensor:
    return pool[start:start + rows * room].view(rows, room, *pool.shape[1:])


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """x / sqrt(mean(x^2)), in 32 bits as checkpoints ask for."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: each pair (x_i, x_{i + d/2}) turned by its angle."""
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


def swiglu(x: Tensor) -> Tensor:
    """silu(gate) x up."""
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


STEPS: tuple[Callable[..., Tensor], ...] = (rms_norm, rotate, swiglu)


def _fused(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(step, dynamic=True)
    return compiled
