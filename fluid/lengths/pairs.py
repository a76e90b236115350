r"""Prompts and outputs with laws of their own, independent of each other, as few pairs of lengths.

The pairs of two laws are a product, P(l, R) = P(l) P(R): of thousands of lengths each, tens of millions. Each law is
put into few lengths (`fluid.lengths.cells`), twice as many outputs as prompts, since KV work is linear in l and
quadratic in R, and fewer where a law has no more. The means of l, R and KV work

    w = (R + 1)(l + R/2),     E w = (E R + 1) E l + (E R + E R^2) / 2        (whole prefill, blocks of one token)

are those of the laws, to rounding; what moves is the shape, of which `p99_moved` tells. Source: mathematics, section
15.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.errors import InputError, whole
from fluid.lengths.cells import PER_CELL
from fluid.lengths.law import Lengths

MOST_PAIRS = 2000  # of two laws, unless told otherwise


@dataclass(frozen=True, eq=False)
class LengthPairs:
    """The laws of `prompt` and `output` tokens of requests called `name`, in at most `bins` pairs of lengths.

    Raises InputError where `bins` are too few for three lengths of each law that has as many.

    >>> pairs = LengthPairs(Lengths.lognormal(mean=1500, p95=4000, max=8192), Lengths.geometric(mean=300))
    >>> pairs.few_prompts, len(pairs.chances)
    (Lengths(lognormal, mean 1500, p95 4000: 255 to 8,192 tokens, mean 1486, p99 6,779), 1980)
    """

    prompt: Lengths
    output: Lengths
    name: str = ""
    bins: int = MOST_PAIRS

    def __post_init__(self) -> None:
        least = min(len(self.prompt.tokens), PER_CELL) * min(len(self.output.tokens), PER_CELL)
        object.__setattr__(self, "bins", whole("bins", self.bins, unit="types", least=least))

    @cached_property
    def _counts(self) -> tuple[int, int]:
        """How many lengths of prompts and of outputs there may be."""
        prompts, outputs = len(self.prompt.tokens), len(self.output.tokens)
        fewest = min(outputs, PER_CELL)
        of_prompts = min(prompts, max(int(np.sqrt(self.bins / 2)), self.bins // outputs, PER_CELL), self.bins // fewest)
        return of_prompts, self.bins // max(_kept(prompts, of_prompts), 1)

    @cached_property
    def few_prompts(self) -> Lengths:
        """The prompts in few lengths."""
        return _few(self.prompt, self._counts[0])

    @cached_property
    def few_outputs(self) -> Lengths:
        """The outputs in few lengths."""
        return _few(self.output, self._counts[1])

    @property
    def exact(self) -> bool:
        """Whether every pair of lengths is kept."""
        return self.few_prompts is self.prompt and self.few_outputs is self.output

    @property
    def prompt_tokens(self) -> Ints:
        """The prompt of each pair."""
        return np.repeat(self.few_prompts.tokens, len(self.few_outputs.tokens))

    @property
    def output_tokens(self) -> Ints:
        """The output of each pair."""
        return np.tile(self.few_outputs.tokens, len(self.few_prompts.tokens))

    @property
    def chances(self) -> Floats:
        """The share of the requests that each pair has."""
        return np.outer(self.few_prompts.probabilities, self.few_outputs.probabilities).ravel()

    @property
    def names(self) -> list[str]:
        """A name for each pair, its lengths behind the name of the requests."""
        pairs = zip(self.prompt_tokens.tolist(), self.output_tokens.tolist(), strict=True)
        return [f"{self.name} {prompt}+{output}".lstrip() for prompt, output in pairs]

    @property
    def mean_kv_work(self) -> float:
        """E w of the laws, token-iterations: whole prefill, blocks of one token, first token by "decode"."""
        return _mean_kv_work(self.prompt, self.output)

    @property
    def kv_work_error(self) -> float:
        """The relative error of the mean KV work of the pairs: rounding."""
        return _mean_kv_work(self.few_prompts, self.few_outputs) / self.mean_kv_work - 1

    def p99_moved(self) -> tuple[float, float]:
        """Return by which share of themselves the 99th percentiles of prompts and of outputs moved."""
        both = ((self.prompt, self.few_prompts), (self.output, self.few_outputs))
        prompts, outputs = (few.quantile(0.99) / law.quantile(0.99) - 1 for law, few in both)
        return prompts, outputs


def as_lengths(field: str, value: object) -> Lengths:
    """Return a law, or that of one length; raises InputError for anything else."""
    if isinstance(value, Lengths):
        return value
    if isinstance(value, int | np.integer | float) and not isinstance(value, bool):
        return Lengths.fixed(whole(field, value, unit="tokens"))
    raise InputError(field, "Lengths, or a whole number of tokens", value)


def _few(law: Lengths, most: int) -> Lengths:
    return law if len(law.tokens) <= most else law.in_cells(most // PER_CELL)


def _kept(lengths: int, most: int) -> int:
    return lengths if lengths <= most else most // PER_CELL * PER_CELL


def _mean_kv_work(prompt: Lengths, output: Lengths) -> float:
    mean, square = output.mean, output.variance + output.mean**2
    return (mean + 1) * prompt.mean + (mean + square) / 2
