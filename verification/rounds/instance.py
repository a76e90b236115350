"""An instance of the discrete-round model: who comes when, how long prompts and outputs are, how much memory there is.

[J] counts time in rounds. Request i comes at round a_i with a prompt of s_i tokens and will make o_i tokens, one in
each round in which it is active; with its j-th token it holds s_i + j tokens of KV, and everything is freed when it
ends. The memory holds M tokens, and s_i + o_i <= M for every request: otherwise nothing could ever serve it. What a
policy sees of o_i is a prediction otilde_i, with otilde_i >= o_i where [J] proves anything.

**Rounds and moments.** Round t runs from moment t to moment t + 1. A request that starts at moment p, p >= a_i, makes
its j-th token in round p + j - 1, so that at moment t in p + 1..p + o_i it holds s_i + t - p, and it finishes at
moment p + o_i. At every moment the sum over requests is at most M. Its latency is p + o_i - a_i: a request of three
tokens that is alone starts as it arrives and has latency 3. Source: [J] = arXiv 2502.07115v5; mathematics, section 7.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import MOST_TOKENS, Ints
from fluid.errors import InputError, whole

MOST_ROUNDS = 2**40  # the latest arrival: sums over requests then stay far inside 64 bits


@dataclass(frozen=True, eq=False)
class Instance:
    """Requests in order of arrival (rounds, sorted), `prompts` s, `outputs` o, `predicted` otilde (tokens), shape (N,).

    `memory` is M (tokens). Without `predicted` the lengths are known: otilde = o. Raises InputError unless arrivals are
    sorted rounds from 0 on, every length is a whole number of tokens from 1 (a prompt may be 0) to 2^24, and
    s_i + o_i <= M for every request.

    >>> instance = Instance(arrivals=[0, 0, 2], prompts=[1, 3, 1], outputs=[3, 2, 1], memory=6)
    >>> len(instance), instance.exact
    (3, True)
    """

    arrivals: Ints
    prompts: Ints
    outputs: Ints
    predicted: Ints
    memory: int

    def __init__(self, arrivals: ArrayLike, prompts: ArrayLike, outputs: ArrayLike, memory: int,
                 predicted: ArrayLike | None = None) -> None:
        lengths = outputs if predicted is None else predicted
        fields = (("arrivals", arrivals, "rounds", 0, MOST_ROUNDS), ("prompts", prompts, "tokens", 0, MOST_TOKENS),
                  ("outputs", outputs, "tokens", 1, MOST_TOKENS), ("predicted", lengths, "tokens", 1, MOST_TOKENS))
        for field, values, unit, least, most in fields:
            object.__setattr__(self, field, _whole_numbers(field, values, unit, least, most))
        object.__setattr__(self, "memory", whole("memory", memory, "instance", unit="tokens"))
        self._check()

    def _check(self) -> None:
        shapes = (self.arrivals.shape, self.prompts.shape, self.outputs.shape, self.predicted.shape)
        if len(set(shapes)) > 1:
            raise InputError("arrivals, prompts, outputs and predicted", "of one length", shapes, "instance")
        if np.any(np.diff(self.arrivals) < 0):
            raise InputError("arrivals", "sorted", self.arrivals.tolist(), "instance")
        peaks = self.prompts + self.outputs
        if np.any(peaks > self.memory):
            worst = int(np.argmax(peaks > self.memory))
            found = f"{self.prompts[worst]} + {self.outputs[worst]}"
            raise InputError("prompts + outputs", f"at most the memory of {self.memory} tokens", found,
                             f"request {worst} of the instance")

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def exact(self) -> bool:
        """Whether every prediction is the truth."""
        return bool(np.array_equal(self.predicted, self.outputs))

    @property
    def never_short(self) -> bool:
        """Whether otilde_i >= o_i for every request, as [J] assumes."""
        return bool(np.all(self.predicted >= self.outputs))

    @property
    def horizon(self) -> int:
        """A moment by which any policy that keeps what it starts can be done: max a_i + sum o_i; 0 without requests."""
        return int(self.arrivals.max(initial=0) + self.outputs.sum())

    def seen_as(self, predicted: ArrayLike) -> Instance:
        """Return the same requests with other predictions otilde (tokens), shape (N,).

        >>> Instance([0], [1], [2], memory=9).seen_as([4]).predicted.tolist()
        [4]
        """
        return Instance(self.arrivals, self.prompts, self.outputs, self.memory, predicted)


def _whole_numbers(field: str, values: ArrayLike, unit: str, least: int, most: int) -> Ints:
    """A read-only copy of whole numbers in [least, most], shape (N,)."""
    found = np.array(values)
    if found.ndim != 1:
        _refuse(field, unit, least, most, values)
    if found.size and (found.dtype.kind not in "iuf" or not np.all((found >= least) & (found <= most))):
        _refuse(field, unit, least, most, values)
    numbers = found.astype(np.int64)
    if np.any(numbers != found):
        _refuse(field, unit, least, most, values)
    numbers.flags.writeable = False
    return numbers


def _refuse(field: str, unit: str, least: int, most: int, values: ArrayLike) -> NoReturn:
    raise InputError(field, f"a list of whole numbers of {unit} from {least} to {most}", values, "instance")
