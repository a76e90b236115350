"""A replica: how long an iteration takes, how much KV cache it has, how it prefills prompts.

Iteration time of a batch, in seconds, as the largest of one or more affine pieces:

    tau(batch) = max_i [ d0_i + d1_i KV(batch) + d2_i prefill(batch) + d3_i size(batch) ]

with KV the KV tokens read, prefill the prompt tokens processed, size the number of sequences.

**What a request holds.** Of a model's a = a_w + a_g attention layers a_w attend to the last z tokens (Gemma 2 and 3,
gpt-oss, Llama 4, Cohere 2), the others to all. With x tokens of context, cache blocks of b and a state of s tokens that
does not grow (the layers of a hybrid state-space model),

    held(x) = [ a_w ceil_b(min(x, z)) + a_g ceil_b(x) ] / a + s        KV tokens, ceil_b(x) = b ceil(x/b)
    read(x) = [ a_w min(x, z) + a_g x ] / a + s                        KV tokens: the state is read in every iteration

A token of KV is that of all attention layers, as engines count their capacity. Both are whole numbers of 1/a token, the
unit in which whatever must be exact is counted (`KVLayout`). An engine that shares one pool among groups of layers pads
them to one size, which is not modelled. Source: mathematics, sections 1.3 and 1.5; mixed layers derived here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fluid.arrays import MOST_TOKENS, Floats, Ints
from fluid.errors import InputError, one_of, real, whole
from fluid.power import Power

WHOLE, DECODE_ONLY = "whole", "decode-only"
FIRST_TOKEN = ("decode", "prefill")
UNLIMITED = 2**62  # tokens: an attention window that no request fills
MOST_LAYERS = 1000  # of a model: units of KV stay far below 2^63


class Line(NamedTuple):
    """One affine piece: d0 (s), d1 (s per KV token read), d2 (s per prefill token), d3 (s per sequence)."""

    overhead: float
    per_kv_token: float
    per_prefill_token: float = 0.0
    per_sequence: float = 0.0


@dataclass(frozen=True, init=False)
class IterationTime:
    """Seconds an iteration takes: d0 + d1 KV + d2 prefill + d3 size, or the largest of several such lines.

    Raises InputError unless the overhead is positive and the other coefficients are at least 0, all finite.

    >>> tau = IterationTime(overhead=0.0106, per_kv_token=4.013e-7)
    >>> round(tau(kv=137_000), 4)
    0.0656
    """

    pieces: tuple[Line, ...]

    def __init__(self, overhead: float, per_kv_token: float, per_prefill_token: float = 0.0,
                 per_sequence: float = 0.0) -> None:
        values = (overhead, per_kv_token, per_prefill_token, per_sequence)
        line = Line(*(real(field, value, "iteration time", unit=unit, zero=field != "overhead")
                      for field, value, unit in zip(Line._fields, values, _UNITS, strict=True)))
        object.__setattr__(self, "pieces", (line,))

    @classmethod
    def largest(cls, *lines: IterationTime) -> IterationTime:
        """Return the pointwise largest of the given iteration times.

        >>> memory, compute = IterationTime(0.0101, 2.55e-7), IterationTime(0.0089, 2.55e-7, 58.5e-6, 58.5e-6)
        >>> IterationTime.largest(memory, compute)(kv=0, prefill=1000, size=0)
        0.0674
        """
        if not lines:
            raise InputError("lines", "at least one IterationTime", [], "IterationTime.largest")
        for line in lines:
            if not isinstance(line, IterationTime):
                raise InputError("lines", "IterationTime objects", line, "IterationTime.largest")
        self = cls.__new__(cls)
        object.__setattr__(self, "pieces", tuple(piece for line in lines for piece in line.pieces))
        return self

    def __call__(self, kv: float, prefill: float = 0.0, size: float = 0.0) -> float:
        """Seconds for a batch that reads `kv` tokens, prefills `prefill` tokens, in `size` sequences."""
        return float(max(d0 + d1 * kv + d2 * prefill + d3 * size for d0, d1, d2, d3 in self.pieces))

    @cached_property
    def coefficients(self) -> Floats:
        """The pieces as an array of shape (pieces, 4), columns d0, d1, d2, d3."""
        array = np.array(self.pieces, dtype=np.float64)
        array.flags.writeable = False
        return array

    def __repr__(self) -> str:
        lines = [f"IterationTime({_given(each._asdict(), each._field_defaults)})" for each in self.pieces]
        return lines[0] if len(lines) == 1 else f"IterationTime.largest({', '.join(lines)})"

    @property
    def overheads(self) -> Floats:
        """The overheads d0_i of the pieces, shape (pieces,), seconds."""
        return self.coefficients[:, 0]


_UNITS = ("seconds", "seconds per token", "seconds per token", "seconds")


def _given(values: Mapping[str, object], defaults: Mapping[str, object]) -> str:
    """The values as arguments, those that are the defaults left out."""
    return ", ".join(f"{name}={value!r}" for name, value in values.items()
                     if name not in defaults or value != defaults[name])


@dataclass(frozen=True)
class KVLayout:
    """How the KV of a request follows from its context: held(x) and read(x) of the module, in units of 1/a token.

    `block` b, `window` z and `state` s in tokens; `windowed` a_w and `everywhere` a_g layers, without a common factor:
    (1, 0) where all layers are alike, so that a unit is a token.
    """

    block: int = 1
    window: int = UNLIMITED
    windowed: int = 1
    everywhere: int = 0
    state: int = 0

    @property
    def unit(self) -> int:
        """a, the units of a token."""
        return self.windowed + self.everywhere

    def held(self, context: Ints, block: int | None = None) -> Ints:
        """KV held by requests of so many tokens, in whole blocks (of `block` tokens, where given): units."""
        size = self.block if block is None else block
        held = whole_blocks(np.minimum(context, self.window), size)
        if self.everywhere:
            held = self.windowed * held + self.everywhere * whole_blocks(context, size)
        return held + self.unit * self.state if self.state else held

    def read(self, context: Ints) -> Ints:
        """KV read by requests of so many tokens: units."""
        return self.held(context, block=1)

    def tokens(self, units: Ints) -> Ints | Floats:
        """Units as tokens: whole numbers where all layers are alike, else the nearest floats."""
        return units if self.unit == 1 else units / self.unit

    def whole(self, units: Any) -> Any:
        """Units as whole tokens, rounded up: at most C of them are held if and only if at most C a units are."""
        return units if self.unit == 1 else -(-units // self.unit)


def whole_blocks(tokens: Ints, block: int) -> Ints:
    """Return tokens rounded up to whole cache blocks of `block` tokens: b ceil(x/b).

    >>> whole_blocks(np.array([0, 1, 16, 17]), 16).tolist()
    [0, 16, 16, 32]
    """
    up: Ints = -(-tokens // block) * block
    return up


@dataclass(frozen=True)
class Replica:
    """One model replica: KV cache capacity C (tokens), iteration time, and how it serves prompts.

    `prefill` is "whole" (a prompt is prefilled in one iteration), "decode-only" (prefill happens elsewhere) or
    a chunk size in tokens; `block` is the number of tokens per cache block; `first_token` says which iteration
    makes the first output token: the first "decode" one (R decode stages) or the last "prefill" one (R - 1);
    `max_num_seqs` is B, the most sequences the engine runs in one batch (None: as many as there are);
    `attention_window` is the number of last tokens whose KV is kept and read (None: all), in `windowed_layers` = (a_w,
    a) a_w of the a attention layers (None: in every layer); `state` are the KV tokens that a sequence holds and reads
    beside its context's, whatever its length;
    `max_num_batched_tokens` is q, the most tokens an iteration computes, one for each sequence that decodes and those
    of prefills (None: as many as there are; a longer prompt is prefilled in chunks of q); `max_model_len` is the most
    tokens of a request, prompt and output together, that the engine takes (None: what the cache holds); `power` what
    its GPUs draw (None: not known, and nothing is said of energy).

    >>> Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7)).prefill
    'whole'
    """

    kv_capacity: int
    iteration_time: IterationTime
    prefill: str | int = WHOLE
    block: int = 1
    first_token: str = "decode"
    max_num_seqs: int | None = None
    attention_window: int | None = None
    max_num_batched_tokens: int | None = None
    windowed_layers: tuple[int, int] | None = None
    state: int = 0
    max_model_len: int | None = None
    power: Power | None = None

    @classmethod
    def of(cls, model: str, gpu: str, **options: Any) -> Replica:
        """Return the replica of a model on GPUs, both by name, as an engine finds it: capacity, times, limits.

        `model` is a name of the catalogue or the hub, or the path of a Hugging Face config.json; `options` are the
        keys of a deployment file (`tensor_parallel`, `memory_fraction`, `engine`, `kv_dtype`, `prefill`, ...), which
        win, and `prompt_tokens`, the mean prompt length that the times are for (512). Raises InputError for an unknown
        name, with the nearest known ones, and for weights that do not fit.

        >>> Replica.of("llama-3.1-8b", "h100-80gb", max_num_seqs=128, prefill=512).max_num_seqs
        128
        """
        from fluid.hardware.placement import replica_from_catalogue  # upwards, by name only: nothing else here knows it

        return replica_from_catalogue(model, gpu, **options)

    def __repr__(self) -> str:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return f"Replica({_given(given, {each.name: each.default for each in fields(self)})})"

    def __post_init__(self) -> None:
        def keep(field: str, value: object) -> None:
            object.__setattr__(self, field, value)

        keep("kv_capacity", whole("kv_capacity", self.kv_capacity, "replica", unit="tokens", most=2**50))
        keep("block", whole("block", self.block, "replica", unit="tokens", most=MOST_TOKENS))
        if self.max_num_seqs is not None:
            keep("max_num_seqs", whole("max_num_seqs", self.max_num_seqs, "replica", unit="sequences"))
        if self.attention_window is not None:
            window = whole("attention_window", self.attention_window, "replica", unit="tokens", most=MOST_TOKENS)
            keep("attention_window", window)
        if self.max_model_len is not None:
            keep("max_model_len", whole("max_model_len", self.max_model_len, "replica", unit="tokens", least=2,
                                        most=2 * MOST_TOKENS))
        keep("windowed_layers", self._layers())
        keep("state", whole("state", self.state, "replica", unit="tokens", least=0, most=MOST_TOKENS))
        one_of("first_token", self.first_token, FIRST_TOKEN, "replica")
        if not isinstance(self.iteration_time, IterationTime):
            raise InputError("iteration_time", "an IterationTime", self.iteration_time, "replica")
        if self.power is not None and not isinstance(self.power, Power):
            raise InputError("power", "a Power", self.power, "replica")
        if isinstance(self.prefill, str):
            if self.prefill not in (WHOLE, DECODE_ONLY):
                raise InputError("prefill", '"whole", "decode-only" or a chunk size in tokens', self.prefill, "replica")
        else:
            keep("prefill", whole("prefill chunk", self.prefill, "replica", unit="tokens", most=MOST_TOKENS))
        if self.max_num_batched_tokens is not None:
            keep("max_num_batched_tokens", self._token_budget())

    def _layers(self) -> tuple[int, int] | None:
        """a_w of a layers, checked and without a common factor."""
        if self.windowed_layers is None:
            return None
        if not isinstance(self.windowed_layers, tuple | list) or len(self.windowed_layers) != 2:
            raise InputError("windowed_layers", "two numbers, windowed layers and all layers", self.windowed_layers,
                             "replica")
        every = whole("windowed_layers.layers", self.windowed_layers[1], "replica", unit="layers", most=MOST_LAYERS)
        some = whole("windowed_layers.windowed", self.windowed_layers[0], "replica", unit="layers", least=0, most=every)
        if self.attention_window is None:
            raise InputError("windowed_layers", "absent where no attention_window is given", self.windowed_layers,
                             "replica")
        shared = math.gcd(some, every)
        return some // shared, every // shared

    def _token_budget(self) -> int:
        """q, checked: an iteration must have a token for each sequence, and for a chunk."""
        given = self.max_num_batched_tokens
        budget = whole("max_num_batched_tokens", given, "replica", unit="tokens", most=MOST_TOKENS)
        for what, least in (("max_num_seqs", self.max_num_seqs), ("the prefill chunk", self.prefill)):
            if isinstance(least, int) and least > budget:
                raise InputError("max_num_batched_tokens", f"at least {what}, {least:,}", budget, "replica")
        return budget

    @property
    def most_sequences(self) -> float:
        """B, the most sequences in a batch; infinite where there is no cap."""
        return math.inf if self.max_num_seqs is None else self.max_num_seqs

    @property
    def most_tokens(self) -> float:
        """q, the most tokens an iteration computes; infinite where there is no budget."""
        return math.inf if self.max_num_batched_tokens is None else self.max_num_batched_tokens

    @property
    def prefill_chunk(self) -> int | None:
        """The most tokens of a prompt in one iteration: its chunk, or the budget; None where neither is given."""
        return self.prefill if isinstance(self.prefill, int) else self.max_num_batched_tokens

    @cached_property
    def layout(self) -> KVLayout:
        """How the KV of a request follows from its context."""
        windowed, layers = self.windowed_layers or (1, 1)
        if self.attention_window is None or windowed == 0:
            return KVLayout(self.block, state=self.state)
        return KVLayout(self.block, self.attention_window, windowed, layers - windowed, self.state)
