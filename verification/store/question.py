"""What a store is asked: everything that decides its rows, apart from what tells the rows apart.

A question is made of named parts: the numbers of an experiment, the digest of what is simulated, the program that
computes (`verification.store.program`). Its text is their JSON, sorted by name, its digest the SHA-256 of the text: two
questions are the same exactly where their digests are. Rows of two questions never mix.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fluid.errors import InputError

Part = str | float | None | tuple["Part", ...]


class Digest(str):
    """A part that tells a reader nothing: that it differs is said, its value is not."""

    __slots__ = ()

    @classmethod
    def of(cls, arrays: Iterable[np.ndarray], words: object) -> Digest:
        """SHA-256 of arrays, their shapes with them, and of what JSON says of the words.

        >>> len(Digest.of([np.arange(3)], ["name", 1.0]))
        64
        """
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(np.array(array.shape, dtype=np.int64).tobytes() + array.tobytes())
        digest.update(json.dumps(words).encode())
        return cls(digest.hexdigest())


@dataclass(frozen=True)
class Question:
    """Parts by name, in the order in which differences are told; raises InputError where JSON cannot say one.

    >>> here, there = Question.of(trace=Digest("ab"), seed=1), Question.of(trace=Digest("cd"), seed=0)
    >>> here.difference(there.text)
    'another trace; seed 0 there, 1 here'
    """

    parts: tuple[tuple[str, Part], ...]

    @classmethod
    def of(cls, /, **parts: Part) -> Question:
        """The question with these parts."""
        return cls(tuple(parts.items()))

    def __post_init__(self) -> None:
        for name, value in self.parts:
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):
                raise InputError(name, "text, a finite number, or a tuple of such", value, "a question") from None
        if len(dict(self.parts)) < len(self.parts):
            raise InputError("parts", "named once each", [name for name, _ in self.parts], "a question")

    @cached_property
    def text(self) -> str:
        """The parts as JSON, the same for the same question.

        >>> Question.of(seed=1, horizon=60.0).text
        '{"horizon": 60.0, "seed": 1}'
        """
        return json.dumps(dict(self.parts), sort_keys=True)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal digits.

        >>> len(Question.of(seed=1).digest)
        64
        """
        return hashlib.sha256(self.text.encode()).hexdigest()

    def difference(self, there: str) -> str:
        """What differs in the question whose text is kept there, in words; "" where nothing does.

        >>> Question.of(horizon=60.0).difference('{"horizon": 30.0}')
        'horizon 30.0 there, 60.0 here'
        """
        mine: dict[str, Any] = json.loads(self.text)
        theirs: dict[str, Any] = json.loads(there)
        digests = {name for name, value in self.parts if isinstance(value, Digest)}
        names = dict.fromkeys((*dict(self.parts), *theirs))
        return "; ".join(
            f"another {name}" if name in digests else f"{name} {theirs.get(name)} there, {mine.get(name)} here"
            for name in names if theirs.get(name) != mine.get(name))
