r"""Prefixes that prompts share: found in the cache by some requests, computed by the others, held once.

A share h of the requests of a type (l, R, lambda) finds the first p tokens of its prompt in the KV cache (a system
prompt, a document, the turns before). An engine shares whole cache blocks, p' = b floor(p/b), and computes the last
token of a prompt always. Independent of each other, requests that hit and that miss are two Poisson streams, two types:

    hit     rate h lambda         prefills l - p', holds held(l - p' + s) of its own, reads read(l + s) at decode s
    miss    rate (1 - h) lambda   a request like any other

(`cached_prefix` = p' of the first). The prefix itself is held once, always: every prefix of its own takes held(p')
whole tokens of the cache, and the replica that the requests see has

    C' = C - sum over prefixes of held(p')

Everything else follows: the region, thresholds by type (for a scheduler that asks the cache on arrival), simulation.

**What h is.** It is given, not found. Under least-recently-used eviction a prefix stays cached only while it is asked
for more often than what competes with it, so h depends on the memory that requests leave. Two bounds hold whatever the
cache does: h is at most the hit rate of an infinite cache (`fluid.traces.repeats` counts it in a trace with block
hashes), and a hit rate above 0 needs its held(p') tokens, so C' is at most what this says. A miss writes a copy of the
prefix until it is recognised; that copy is the request's own here, which errs towards too much memory. Derived here.
See mathematics, section 1.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fluid.arrays import MOST_TOKENS
from fluid.errors import InputError, real, share_meant, whole
from fluid.replica import Replica
from fluid.workload import PromptType, Workload


@dataclass(frozen=True)
class SharedPrefix:
    """The first `tokens` p of a prompt, found in the cache by a share `hit` h of the requests.

    Types that give the same `name` share one prefix, held once; without a name a prefix is the type's own. Raises
    InputError for less than a token and a share outside [0, 1].

    >>> SharedPrefix(800, hit=0.6).name
    ''
    """

    tokens: int
    hit: float
    name: str = ""

    def __post_init__(self) -> None:
        tokens = whole("tokens", self.tokens, "shared prefix", unit="tokens", most=MOST_TOKENS)
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "hit", real("hit", self.hit, "shared prefix", zero=True))
        if self.hit > 1:
            raise InputError("hit", "a share of the requests, at most 1", self.hit, "shared prefix",
                             share_meant(self.hit))
        if not isinstance(self.name, str):
            raise InputError("name", "text", self.name, "shared prefix")

    def cached(self, replica: Replica) -> int:
        """p', the tokens in whole blocks of the replica's cache; 0 where nobody finds them."""
        return self.tokens // replica.block * replica.block if self.hit > 0 else 0


def share_prefixes(types: Sequence[PromptType], prefixes: Sequence[SharedPrefix | None],
                   replica: Replica) -> tuple[Workload, Replica]:
    """Return the workload of those that hit and those that miss, and the replica with the cache that is left to them.

    `prefixes` has an entry for each type, None where it shares nothing. Raises InputError for a prefix as long as the
    prompt, prefixes of one name and different lengths, and where no cache is left.

    >>> from fluid import IterationTime
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7), block=16)
    >>> mix, left = share_prefixes([PromptType(1000, 20, 10.0, "chat")], [SharedPrefix(810, hit=0.6)], replica)
    >>> mix.names, mix.rates.tolist(), mix.cached_prefix.tolist(), left.kv_capacity
    (('chat (hit)', 'chat (miss)'), [6.0, 4.0], [800, 0], 136200)
    """
    split = [part for each, prefix in zip(types, prefixes, strict=True) for part in _split(each, prefix, replica)]
    return Workload(split), _beside(prefixes, replica)


def _split(whole_type: PromptType, prefix: SharedPrefix | None, replica: Replica) -> list[PromptType]:
    """The types of those that hit and those that miss; the type itself where one of them never comes."""
    cached = 0 if prefix is None else prefix.cached(replica)
    if prefix is None or cached == 0:
        return [whole_type]
    if prefix.tokens >= whole_type.prompt_tokens:
        raise InputError("shared_prefix.tokens", f"fewer than the {whole_type.prompt_tokens} tokens of the prompt",
                         prefix.tokens, f'prompt type "{whole_type.name}"')
    if prefix.hit == 1:
        return [replace(whole_type, cached_prefix=cached)]
    name = whole_type.name or f"{whole_type.prompt_tokens}+{whole_type.output_tokens}"
    return [replace(whole_type, rate=whole_type.rate * prefix.hit, name=f"{name} (hit)", cached_prefix=cached),
            replace(whole_type, rate=whole_type.rate * (1 - prefix.hit), name=f"{name} (miss)")]


def _beside(prefixes: Sequence[SharedPrefix | None], replica: Replica) -> Replica:
    """The replica whose cache holds each of the prefixes once."""
    named: dict[str, int] = {}
    units, layout = 0, replica.layout
    for prefix in prefixes:
        cached = 0 if prefix is None else prefix.cached(replica)
        if prefix is None or cached == 0:
            continue
        if prefix.name not in named:
            units += layout.held(np.array([cached])).item()
        elif named[prefix.name] != prefix.tokens:
            raise InputError("shared_prefix.tokens", f"{named[prefix.name]}, as elsewhere under this name",
                             prefix.tokens, f'shared prefix "{prefix.name}"')
        if prefix.name:
            named[prefix.name] = prefix.tokens
    reserved = int(layout.whole(units))
    if reserved >= replica.kv_capacity:
        raise InputError("shared_prefix", f"prefixes that leave some of the {replica.kv_capacity:,} KV tokens of the "
                         "replica", reserved, "workload")
    return replace(replica, kv_capacity=replica.kv_capacity - reserved) if reserved else replica
