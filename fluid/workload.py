"""Workloads: prompt types and the rates at which they arrive.

A prompt type j is a triple (l_j, R_j, lambda_j): prompt tokens, response tokens, Poisson arrival rate in
requests/s. A workload is a finite set of types; a trace is a workload with one type per length pair, and laws of
lengths become types too, so the arrays are the primary form and the `PromptType` objects are made on demand. Source:
mathematics, section 1.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fluid.arrays import MOST_TOKENS, Floats, Ints, finite_sum
from fluid.errors import InputError, real, whole
from fluid.lengths.law import Lengths
from fluid.lengths.pairs import MOST_PAIRS, LengthPairs, as_lengths
from fluid.tables import Tabular


@dataclass(frozen=True)
class PromptType:
    """One kind of request: `prompt_tokens` l, `output_tokens` R (response tokens), `rate` lambda in requests/s.

    `cached_prefix` p are the first tokens of the prompt that are in the KV cache already, whoever comes
    (`fluid.shared_prefixes`). Raises InputError for lengths below 1 or above 2^24 tokens, for a rate that is not
    positive and finite, and unless p < l: the last token of a prompt is always computed. A request without any output
    token is refused: it would have no first token, so no TTFT.

    >>> PromptType(prompt_tokens=512, output_tokens=20, rate=20.0).rate
    20.0
    """

    prompt_tokens: int
    output_tokens: int
    rate: float
    name: str = ""
    cached_prefix: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InputError("name", "text", self.name, "prompt type")
        where = f'prompt type "{self.name}"' if self.name else ""
        for field in ("prompt_tokens", "output_tokens"):
            value = whole(field, getattr(self, field), where, unit="tokens", most=MOST_TOKENS)
            object.__setattr__(self, field, value)
        cached = whole("cached_prefix", self.cached_prefix, where, unit="tokens", least=0, most=self.prompt_tokens - 1)
        object.__setattr__(self, "cached_prefix", cached)
        object.__setattr__(self, "rate", real("rate", self.rate, where, unit="requests/s"))


class Workload(Tabular):
    """A mix of prompt types, immutable: arrays `prompt_tokens`, `output_tokens`, `rates`, `cached_prefix`, shape (J,).

    Raises InputError when there is no type, or one that cannot be used.

    >>> mix = Workload([PromptType(512, 20, 20.0, "chat"), PromptType(2000, 300, 1.0, "summary")])
    >>> len(mix), mix.rate
    (2, 21.0)
    """

    def __init__(self, types: Iterable[PromptType]) -> None:
        if not isinstance(types, Iterable):
            raise InputError("types", "a sequence of PromptType objects", types, "Workload")
        types = tuple(types)
        for each in types:
            if not isinstance(each, PromptType):
                raise InputError("types", "PromptType objects", each, "Workload")
        self._keep([t.prompt_tokens for t in types], [t.output_tokens for t in types], [t.rate for t in types],
                   [t.name for t in types], [t.cached_prefix for t in types])

    @classmethod
    def from_arrays(cls, prompt_tokens: ArrayLike, output_tokens: ArrayLike, rates: ArrayLike,
                    names: Sequence[str] = (), cached_prefix: ArrayLike | None = None) -> Workload:
        """Make a workload of J types from arrays of shape (J,): tokens, tokens, requests/s; tokens (None: all 0).

        >>> Workload.from_arrays([10, 20], [5, 5], [1.0, 2.0]).rate
        3.0
        """
        self = cls.__new__(cls)
        self._keep(_lengths("prompt_tokens", prompt_tokens), _lengths("output_tokens", output_tokens),
                   _rates(rates), names, None if cached_prefix is None else _prefixes(cached_prefix))
        return self

    @classmethod
    def from_lengths(cls, prompt: Lengths | int, output: Lengths | int, rate: float, name: str = "",
                     bins: int = MOST_PAIRS) -> Workload:
        """Make at most `bins` types of requests whose prompts and outputs follow laws of their own, independently.

        `rate` is in requests/s, of all types together; a number of tokens is a law of one length. The means of prompts,
        outputs and KV work are those of the laws (`fluid.lengths.pairs`). The `types` of several such mixes make one.

        >>> Workload.from_lengths(Lengths.lognormal(mean=1500, p95=4000, max=8192), Lengths.geometric(mean=300), 2.0)
        Workload(1980 types, 2 requests/s)
        """
        return cls.from_pairs(LengthPairs(as_lengths("prompt", prompt), as_lengths("output", output), name, bins), rate)

    @classmethod
    def from_pairs(cls, pairs: LengthPairs, rate: float) -> Workload:
        """Make a type of each pair of lengths, at a total rate in requests/s."""
        rates = pairs.chances * real("rate", rate, unit="requests/s")
        return cls.from_arrays(pairs.prompt_tokens, pairs.output_tokens, rates, pairs.names if pairs.name else ())

    def _keep(self, prompt: ArrayLike, output: ArrayLike, rates: ArrayLike, names: Sequence[str],
              cached: ArrayLike | None) -> None:
        self.prompt_tokens: Ints = np.array(prompt, dtype=np.int64)
        self.output_tokens: Ints = np.array(output, dtype=np.int64)
        self.rates: Floats = np.array(rates, dtype=np.float64)
        if self.rates.size == 0:
            raise InputError("types", "at least one prompt type", [], "Workload")
        if not self.prompt_tokens.shape == self.output_tokens.shape == self.rates.shape:
            shapes = (self.prompt_tokens.shape, self.output_tokens.shape, self.rates.shape)
            raise InputError("prompt_tokens, output_tokens and rates", "of one shape", shapes, "Workload")
        if len(names) and len(names) != self.rates.size:
            raise InputError("names", f"{self.rates.size} names, one per type", len(names), "Workload")
        self.cached_prefix: Ints = np.array(0 * self.prompt_tokens if cached is None else cached, dtype=np.int64)
        if self.cached_prefix.shape != self.rates.shape or np.any(self.cached_prefix >= self.prompt_tokens):
            raise InputError("cached_prefix", "fewer tokens than the prompt has, one number per type",
                             self.cached_prefix.tolist(), "Workload")
        self._names = tuple(names)
        for array in (self.prompt_tokens, self.output_tokens, self.rates, self.cached_prefix):
            array.flags.writeable = False

    def __len__(self) -> int:
        return int(self.rates.size)

    def __repr__(self) -> str:
        return f"Workload({len(self)} types, {self.rate:g} requests/s)"

    def columns(self) -> dict[str, Sequence[str] | Ints | Floats]:
        """The types: names, lengths and rates."""
        return {"type": self.names, "prompt tokens": self.prompt_tokens, "output tokens": self.output_tokens,
                "requests/s": self.rates}

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, Workload) and self.names == other.names
                and np.array_equal(self.prompt_tokens, other.prompt_tokens)
                and np.array_equal(self.output_tokens, other.output_tokens)
                and np.array_equal(self.cached_prefix, other.cached_prefix)
                and np.array_equal(self.rates, other.rates))

    def __hash__(self) -> int:
        return hash((self.prompt_tokens.tobytes(), self.output_tokens.tobytes(), self.rates.tobytes()))

    @property
    def rate(self) -> float:
        """Total arrival rate, sum_j lambda_j, in requests/s (at most the largest float)."""
        return finite_sum(self.rates)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """One name per type; a type without a name is named after its lengths, as in "512+20"."""
        given = self._names or ("",) * len(self)
        pairs = zip(given, self.prompt_tokens.tolist(), self.output_tokens.tolist(), strict=True)
        return tuple(name or f"{prompt}+{output}" for name, prompt, output in pairs)

    @cached_property
    def types(self) -> tuple[PromptType, ...]:
        """The prompt types as objects, in order."""
        rows = zip(self.prompt_tokens.tolist(), self.output_tokens.tolist(), self.rates.tolist(), self.names,
                   self.cached_prefix.tolist(), strict=True)
        return tuple(PromptType(*row) for row in rows)

    def scaled(self, factor: float) -> Workload:
        """Return the same mix with every rate multiplied by `factor` > 0."""
        factor = real("factor", factor)
        with np.errstate(over="ignore"):
            rates = self.rates * factor
        return self.at_rates(rates)

    def at_rates(self, rates: ArrayLike) -> Workload:
        """Return the same types at other rates (requests/s), shape (J,)."""
        return Workload.from_arrays(self.prompt_tokens, self.output_tokens, rates, self._names, self.cached_prefix)

    def some(self, which: ArrayLike, rates: ArrayLike | None = None) -> Workload:
        """Return some of the types, by their numbers or a mask, at their own rates or those of others, shape (J,).

        >>> Workload([PromptType(10, 5, 1.0), PromptType(20, 5, 2.0, "long")]).some([False, True]).names
        ('long',)
        """
        kept = np.arange(len(self))[np.asarray(which)]
        own: Floats = self.rates if rates is None else np.asarray(rates, dtype=np.float64)
        names = [self._names[j] for j in kept] if self._names else ()
        return Workload.from_arrays(self.prompt_tokens[kept], self.output_tokens[kept], own[kept], names,
                                    self.cached_prefix[kept])


def _lengths(field: str, values: ArrayLike) -> Ints:
    array = _array(field, values)
    _refuse(field, array, f"a whole number of tokens from 1 to {MOST_TOKENS}",
            lambda x: (x != np.floor(x)) | (x < 1) | (x > MOST_TOKENS))
    return array.astype(np.int64)


def _prefixes(values: ArrayLike) -> Ints:
    array = _array("cached_prefix", values)
    _refuse("cached_prefix", array, "a nonnegative whole number of tokens", lambda x: (x != np.floor(x)) | (x < 0))
    return array.astype(np.int64)


def _rates(values: ArrayLike) -> Floats:
    array = _array("rates", values)
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
    _refuse("rates", array, "a positive finite number of requests/s", lambda x: ~np.isfinite(x) | (x <= 0))
    return array.astype(np.float64)


def _array(field: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.atleast_1d(np.asarray(values))
    except ValueError:
        raise InputError(field, "numbers in one dimension", values, "Workload") from None


def _refuse(field: str, array: NDArray[Any], requirement: str, bad: Any) -> None:
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise InputError(field, f"numbers in one dimension, each {requirement}", array.tolist(), "Workload")
    wrong = np.flatnonzero(bad(array))
    if wrong.size:
        raise InputError(f"{field}[{wrong[0]}]", requirement, array[wrong[0]].item(), "Workload")
