r"""Laws of lengths: how many tokens a prompt or an answer has, stated by a few numbers instead of by a trace.

A continuous law with distribution function F becomes whole tokens k = a..b exactly,

    P(k) = F(k + 1/2) - F(k - 1/2),     P(a) = F(a + 1/2),     P(b) = 1 - F(b - 1/2)

so that lengths are rounded to the nearest, and those outside the limits are clipped to them, as engines cut answers at
max_tokens and clients cut prompts to the context. a is 1 unless given. Without a most b is where 1e-9 of the law is
left: a limit that nobody sees in a run. The geometric law, P(X > k) = (1 - 1/mean)^k, and the uniform one are laws of
whole numbers; of the first the same clipping is exact. Clipping moves the mean: `mean` is that of the whole tokens,
`stated_mean` that of the law before. Source: mathematics, section 15.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.errors import InputError, probability, real, whole
from fluid.lengths.cells import in_cells
from fluid.lengths.lognormal import mu_and_sigma
from fluid.tables import Tabular, figure

MOST_LENGTHS = 2**20  # of a law
LEFT_OUT = 1e-9  # of a law without limits
NEVER = 1e-30  # a probability: products of two of them are no rates
WHERE = "lengths"
Law = Callable[[Floats], Floats]


@dataclass(frozen=True, eq=False)
class Lengths(Tabular):
    """A law of whole tokens: `tokens`, ascending, and their `probabilities`, arrays of shape (K,).

    Made by `lognormal`, `geometric`, `uniform` or `fixed`, or of any two arrays; lengths that nobody has are left out.
    `law` says which in words, `stated_mean` is its mean before rounding and clipping, `clipped` the share of it beyond
    the largest length. Raises InputError unless lengths are whole, ascending and positive, and probabilities
    nonnegative numbers that sum to 1.

    >>> lengths = Lengths.lognormal(mean=1500, p95=4000, max=8192)
    >>> lengths.quantile(0.95), round(lengths.mean, 1), round(lengths.clipped, 4)
    (4000, 1486.3, 0.0052)
    """

    tokens: Ints
    probabilities: Floats
    law: str = ""
    stated_mean: float = math.nan
    clipped: float = 0.0

    def __post_init__(self) -> None:
        tokens, chances = np.array(self.tokens), np.array(self.probabilities, dtype=np.float64)
        if tokens.ndim != 1 or not tokens.size or tokens.dtype.kind not in "iu" or tokens.min() < 1 or (
                np.diff(tokens) <= 0).any():
            raise InputError("tokens", "whole numbers of tokens, ascending from 1", self.tokens, WHERE)
        if chances.shape != tokens.shape or not (chances >= 0).all() or abs(chances.sum() - 1) > 1e-9:
            raise InputError("probabilities", "a nonnegative number for each length, 1 together", self.probabilities,
                             WHERE)
        seen = chances > NEVER
        for field, array in (("tokens", tokens[seen].astype(np.int64)), ("probabilities", chances[seen])):
            array.flags.writeable = False
            object.__setattr__(self, field, array)

    @classmethod
    def lognormal(cls, *, mean: float | None = None, median: float | None = None, p95: float | None = None,
                  p99: float | None = None, cv: float | None = None, min: int = 1,  # noqa: A002, the file's words
                  max: int | None = None) -> Lengths:  # noqa: A002
        """Return the log-normal law with two of its numbers, tokens but for `cv`, clipped to min..max.

        Of the two laws with a mean and a quantile the one that is spread less (`fluid.lengths.lognormal`).

        >>> Lengths.lognormal(median=900, cv=0.0)
        Lengths(lognormal, median 900, cv 0: 900 tokens)
        """
        given = {"mean": mean, "median": median, "p95": p95, "p99": p99, "cv": cv}
        mu, sigma = mu_and_sigma(given, WHERE)
        told = _told("lognormal", {name: value for name, value in given.items() if value is not None})
        from scipy.special import ndtr, ndtri  # loads for as long as the rest of fluid

        with np.errstate(divide="ignore", over="ignore"):
            most = float(np.exp(mu - sigma * ndtri(LEFT_OUT)))
            stated = float(np.exp(mu + sigma**2 / 2))
        if sigma == 0:
            return cls._limited(lambda x: (x >= math.exp(mu)).astype(np.float64), most, stated, told, min, max)
        return cls._limited(lambda x: ndtr((np.log(x) - mu) / sigma), most, stated, told, min, max)

    @classmethod
    def geometric(cls, *, mean: float, min: int = 1,  # noqa: A002
                  max: int | None = None) -> Lengths:  # noqa: A002
        """Return the geometric law on 1, 2, ... with a mean (tokens, at least 1), clipped to min..max.

        >>> Lengths.geometric(mean=300).quantile(0.5)
        208
        """
        mean = real("mean", mean, WHERE, unit="tokens")
        if mean < 1:
            raise InputError("mean", "at least 1 token", mean, WHERE)
        goes_on = math.log1p(-1 / mean) if mean > 1 else -math.inf
        return cls._limited(lambda x: -np.expm1(np.floor(x) * goes_on), math.log(LEFT_OUT) / goes_on, mean,
                            _told("geometric", {"mean": mean}), min, max)

    @classmethod
    def uniform(cls, min: int, max: int) -> Lengths:  # noqa: A002
        """Return the law with equal chances of min, min + 1, ..., max tokens.

        >>> Lengths.uniform(100, 300).quantile(0.5)
        200
        """
        least, most = _limits(min, max)
        tokens = np.arange(least, most + 1)
        return cls(tokens, np.full(len(tokens), 1 / len(tokens)), _told("uniform", {"min": min, "max": max}),
                   (least + most) / 2)

    @classmethod
    def fixed(cls, tokens: int) -> Lengths:
        """Return the law of one length.

        >>> Lengths.fixed(512).mean
        512.0
        """
        only = whole("tokens", tokens, WHERE, unit="tokens")
        return cls(np.array([only]), np.ones(1), "fixed", float(only))

    @classmethod
    def _limited(cls, law: Law, end: float, stated: float, told: str, least: int, most: int | None) -> Lengths:
        """The law of X rounded to the nearest and clipped, `law` being P(X <= x) and `end` where hardly any is left."""
        least = whole("min", least, WHERE, unit="tokens")
        if most is None:
            if not end <= MOST_LENGTHS:
                raise InputError("max", f"a whole number of tokens: without one this law goes beyond {MOST_LENGTHS:,}",
                                 None, WHERE)
            most = max(math.ceil(end), least)
        least, most = _limits(least, most)
        inner = law(np.arange(least, most, dtype=np.float64) + 0.5)
        chances = np.diff(np.concatenate([[0.0], inner, [1.0]]))
        beyond = 1.0 - float(law(np.array([most + 0.5]))[0])
        return cls(np.arange(least, most + 1), chances, told, stated, beyond)

    def __repr__(self) -> str:
        return f"Lengths({self.caption()})"

    def columns(self) -> dict[str, Ints | Floats]:
        """The lengths and their probabilities."""
        return {"tokens": self.tokens, "probability": self.probabilities}

    def caption(self) -> str:
        """The law in words, and what its whole tokens amount to."""
        before = f"{self.law}: " if self.law else ""
        if len(self.tokens) == 1:
            return f"{before}{int(self.tokens[0]):,} tokens"
        return (f"{before}{int(self.tokens[0]):,} to {int(self.tokens[-1]):,} tokens, mean {figure(self.mean)}, p99 "
                f"{self.quantile(0.99):,}")

    @cached_property
    def mean(self) -> float:
        """E X, tokens."""
        return float(self.probabilities @ self.tokens)

    @cached_property
    def variance(self) -> float:
        """Var X, tokens^2."""
        return float(self.probabilities @ (self.tokens - self.mean) ** 2)

    def quantile(self, share: float) -> int:
        """Return the least length that a share of the requests, above 0 and below 1, does not exceed: tokens."""
        share = probability("share", share, WHERE)
        below = np.cumsum(self.probabilities)
        return int(self.tokens[min(int(np.searchsorted(below, share * (1 - 1e-12))), len(below) - 1)])

    def in_cells(self, cells: int) -> Lengths:
        """Return at most three lengths for each of so many cells, mean and variance kept (`fluid.lengths.cells`).

        >>> few = Lengths.geometric(mean=300).in_cells(8)
        >>> len(few.tokens), round(few.mean, 6), round(few.variance / (300 * 299), 6)
        (24, 300.0, 1.0)
        """
        tokens, chances = in_cells(self.tokens, self.probabilities, whole("cells", cells, WHERE, unit="cells"))
        return Lengths(tokens, chances / chances.sum(), self.law, self.stated_mean, self.clipped)


def _limits(least: int, most: int) -> tuple[int, int]:
    least = whole("min", least, WHERE, unit="tokens")
    most = whole("max", most, WHERE, unit="tokens", least=least)
    if most - least >= MOST_LENGTHS:
        raise InputError("max", f"at most {MOST_LENGTHS:,} tokens above min", most, WHERE)
    return least, most


def _told(name: str, numbers: dict[str, float]) -> str:
    return f"{name}, " + ", ".join(f"{key} {value:g}" for key, value in numbers.items())
