"""Prefixes that the prompts of a trace repeat: the hit rate of a prefix cache that never forgets.

A trace with block hashes (Mooncake's `hash_ids`) says of each prompt which blocks of d = 512 tokens it is made of. A
cache that keeps every block finds of request i the k_i leading blocks that, one after the other from the first, stood
at the beginning of an earlier prompt, so

    c_i = min(d k_i, l_i) tokens cached,      share = sum c_i / sum l_i

An upper bound on the share of prompt tokens that any cache finds: one of finite memory forgets, and engines compute the
last token of a prompt always. Requests count in the order of the file. A trace with more than 2^21 different blocks, by
what comes before them too, says nothing here: they are kept, at some 200 bytes each. See mathematics, section 12.8.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fluid.arrays import Ints

BLOCK = 512  # tokens of a block that one of Mooncake's hash_ids stands for; 16 of Alibaba's Qwen traces
MOST_BLOCKS = 2**21


class Repeats:
    """The chains of blocks seen so far; `known` is False once a request does not say its blocks, or there are too many.
    """

    def __init__(self, block: int = BLOCK) -> None:
        self.known, self._block = True, block
        self._after: dict[tuple[int, int], int] = {}  # (chain of blocks, next block) to the chain of both; 0: none

    def add(self, hashes: list[Any], prompts: Ints) -> Ints:
        """The tokens c_i that were seen before of each prompt, blocks given by their hashes; then they are seen too.

        >>> Repeats().add([[1, 2], [1, 2, 3], [2, 3]], np.array([1000, 1300, 900])).tolist()
        [0, 1024, 0]
        """
        self.known = self.known and all(map(_is_chain, hashes))
        self.known = self.known and len(self._after) + sum(map(len, hashes)) <= MOST_BLOCKS
        if not self.known:
            self._after.clear()
            return np.zeros(len(prompts), dtype=np.int64)
        leading = np.array([self._leading(blocks) for blocks in hashes], dtype=np.int64)
        return np.minimum(self._block * leading, prompts)

    def _leading(self, blocks: list[int]) -> int:
        """The leading blocks of a prompt that were seen before, in this order."""
        chain, found = 0, 0
        for place, block in enumerate(blocks):
            fresh = len(self._after) + 1
            chain = self._after.setdefault((chain, block), fresh)
            if chain != fresh:
                found = place + 1
        return found


def _is_chain(blocks: Any) -> bool:
    return isinstance(blocks, list) and all(type(block) is int for block in blocks)
