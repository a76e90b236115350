"""A simulated tandem: prefill replicas, the links that carry the KV of prompts away, decode replicas.

Requests only go forwards, so a path is exact one station after the other (`fluid.planning.parts` has the two parts):

    prefill    each replica on what is dealt to it, by its own policy; request i is prefilled at F_i
    link       one for each prefill replica, first come first served: E_i = max(E_{i-1}, F_i) + k x_i / b
    decode     request i is there at E_i + t0, is dealt to a replica, and waits for its policy

A request whose one token the prefill made is over at F_i. Its TTFT ends there for all others too where prefills make
first tokens, else with the first iteration that decodes it.

**What is not held.** The simulator frees the KV of a prompt when its prefill ends, and takes it in when the decode
replica admits it; in between it is nobody's. `in_transfer` is the most that was on the links of one prefill replica, or
waited for them, and `waiting` the most that stood before one decode replica: what caches, or a host's memory, would
have to hold beside. Links into decode replicas have no queue, and nothing holds a prefill back because decode replicas
are full. One that is evicted there comes back with its prompt's KV at no cost. Source: mathematics, section 17.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fluid import Replica, Workload, stage_profile
from fluid.arrays import Bools, Floats, Ints, over_gaps
from fluid.errors import InputError, one_of, whole
from fluid.planning.parts import DECODE, PREFILL, Part, Transfer, moved
from fluid.tables import Tabular, duration, figure
from verification.policies import Policy
from verification.run import Run
from verification.simulation import simulate
from verification.traffic.arrivals import Arrivals
from verification.traffic.processes import POISSON, Traffic

RANDOM, ROUND_ROBIN = "random", "round-robin"
ROUTING = 17  # the random stream of routers, apart from those of arrivals


@dataclass(frozen=True, eq=False)
class Pool:
    """So many alike replicas (`count`), each of which runs the `policy`."""

    replica: Replica
    policy: Policy
    count: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", whole("count", self.count, "pool", unit="replicas"))


@dataclass(frozen=True, eq=False)
class Tandem:
    """A pool that prefills, the links, a pool that decodes; requests are dealt out by a `router`, twice.

    The router is "round-robin" or "random". Raises InputError where the pools make first tokens in different places.
    """

    prefill: Pool
    decode: Pool
    transfer: Transfer
    router: str = ROUND_ROBIN

    def __post_init__(self) -> None:
        one_of("router", self.router, (RANDOM, ROUND_ROBIN), "tandem")
        first = self.prefill.replica.first_token
        if self.decode.replica.first_token != first:
            raise InputError("first_token", f'"{first}", as on the prefill replicas', self.decode.replica.first_token,
                             "tandem")

    @property
    def first_in_prefill(self) -> bool:
        """Whether prefills make first tokens."""
        return self.prefill.replica.first_token == PREFILL


@dataclass(frozen=True, eq=False)
class TandemRun(Tabular):
    """One path of a tandem; as a table, a row for each request.

    Arrays have shape (N,), in order of arrival, NaN until it happens: `prefilled` F, `received` E + t0 (NaN of those
    that need no decode), `admitted` to the cache of the decode replica, `first_token`, `finished`, in seconds;
    `prefilled_by` and `decoded_by` the replicas, -1 where none did. `prefill_runs` and `decode_runs` are those of the
    replicas, alone.
    """

    tandem: Tandem
    workload: Workload
    arrivals: Arrivals
    prefilled_by: Ints
    decoded_by: Ints
    prefilled: Floats
    received: Floats
    admitted: Floats
    first_token: Floats
    finished: Floats
    prefill_runs: tuple[Run, ...]
    decode_runs: tuple[Run, ...]
    end_time: float

    def __repr__(self) -> str:
        return f"TandemRun({self.caption()})"

    def columns(self) -> dict[str, Sequence[object] | Floats | Ints]:
        """The requests: when what happened, by whom, latency and TTFT."""
        return {"arrival, s": self.arrivals.times, "type": self.arrivals.types, "prefilled by": self.prefilled_by,
                "prefilled, s": self.prefilled, "decoded by": self.decoded_by, "received, s": self.received,
                "first token, s": self.first_token, "finished, s": self.finished, "latency, s": self.latency,
                "TTFT, s": self.ttft}

    def caption(self) -> str:
        """How many requests finished, and what that took."""
        return (f"{self.completed:,} of {len(self.arrivals):,} requests finished in {duration(self.end_time)}, "
                f"{figure(self.throughput)} tokens/s, {sum(run.evictions for run in self.decode_runs):,} evictions")

    @property
    def latency(self) -> Floats:
        """Completion minus arrival, seconds."""
        return self.finished - self.arrivals.times

    @property
    def ttft(self) -> Floats:
        """First token minus arrival, seconds."""
        return self.first_token - self.arrivals.times

    @property
    def output_tokens(self) -> Ints:
        """R of each request, tokens."""
        tokens: Ints = self.workload.output_tokens[self.arrivals.types]
        return tokens

    @property
    def time_between_tokens(self) -> Floats:
        """(completion - first token) / (R - 1), seconds: with the transfer in it where prefills make first tokens."""
        return over_gaps(self.finished - self.first_token, self.output_tokens)

    @property
    def completed(self) -> int:
        """Requests that finished."""
        return int(np.count_nonzero(np.isfinite(self.finished)))

    @property
    def throughput(self) -> float:
        """Output tokens of completed requests per second."""
        done = np.isfinite(self.finished)
        return float(self.output_tokens[done].sum() / self.end_time) if self.end_time > 0 else 0.0

    @cached_property
    def kv_moved(self) -> Floats:
        """x, the KV tokens of each request's prompt."""
        mine, replica = Part(PREFILL, self.tandem.transfer).of(self.workload, self.tandem.prefill.replica)
        tokens: Floats = moved(stage_profile(mine, replica))[self.arrivals.types]
        return tokens

    @property
    def in_transfer(self) -> float:
        """The most KV tokens of one prefill replica that were on its link or waited for it."""
        return max(_most(self.kv_moved[mine], self.prefilled[mine], self.received[mine])
                   for mine in _shares(self.prefilled_by, self.tandem.prefill.count))

    @property
    def waiting(self) -> float:
        """The most KV tokens that waited before one decode replica."""
        return max(_most(self.kv_moved[mine], self.received[mine], self.admitted[mine])
                   for mine in _shares(self.decoded_by, self.tandem.decode.count))


def simulate_tandem(tandem: Tandem, workload: Workload, *, horizon: float | None = None,
                    arrivals: Arrivals | None = None, traffic: Traffic = POISSON, seed: int = 0,
                    replication: int = 0) -> TandemRun:
    """Simulate a tandem, on `traffic` over [0, horizon) seconds or on explicit arrivals until nothing moves.

    What happens after a horizon does not count. Raises InputError as `simulate` does, for each station.

    >>> from fluid import IterationTime, PromptType
    >>> from verification import Greedy
    >>> gpu = Replica(10_000, IterationTime(1.0, 0.0), first_token="prefill")
    >>> pair = Tandem(Pool(gpu, Greedy()), Pool(gpu, Greedy()), Transfer(100.0, 1.0))
    >>> run = simulate_tandem(pair, Workload([PromptType(50, 3, 1.0)]), arrivals=Arrivals([0.0, 0.0], [0, 0]))
    >>> run.first_token.tolist(), run.received.tolist(), run.finished.tolist()
    ([1.0, 1.0], [1.5, 2.0], [3.5, 4.5])
    """
    if (horizon is None) == (arrivals is None):
        raise InputError("horizon", "given where arrivals are not, and only there", horizon, "simulate_tandem")
    if arrivals is None and horizon is not None:
        arrivals = traffic.draw(workload, horizon, seed, replication)
    assert arrivals is not None
    arrivals.check(workload)
    generator = np.random.default_rng(np.random.SeedSequence([seed, replication], spawn_key=(ROUTING,)))
    first = _station(tandem, PREFILL, workload, arrivals, generator)
    goes_on = np.isfinite(first.finished) & (workload.output_tokens[arrivals.types] > int(tandem.first_in_prefill))
    run = _decoded(tandem, workload, arrivals, first, goes_on, generator)
    return run if horizon is None else _until(run, horizon)


@dataclass(frozen=True, eq=False)
class _Station:
    """The replica of each request, when it was admitted, done, and had its first token there, and the runs."""

    where: Ints
    admitted: Floats
    finished: Floats
    first_token: Floats
    runs: tuple[Run, ...]


def _station(tandem: Tandem, role: str, workload: Workload, arrivals: Arrivals, generator: np.random.Generator,
             ) -> _Station:
    """The replicas of a pool on what comes to it."""
    pool = tandem.prefill if role == PREFILL else tandem.decode
    where = (generator.integers(pool.count, size=len(arrivals)) if tandem.router == RANDOM
             else np.arange(len(arrivals)) % pool.count)
    mine, replica = Part(role, tandem.transfer).of(workload, pool.replica)
    runs = tuple(simulate(pool.policy, mine, replica, arrivals=Arrivals.made(
        arrivals.times[own], arrivals.types[own], arrivals.seen[own])) for own in _shares(where, pool.count))
    admitted, finished, first_token = (_merged(where, [getattr(run, name) for run in runs])
                                       for name in ("admitted", "finished", "first_token"))
    return _Station(where, admitted, finished, first_token, runs)


def _decoded(tandem: Tandem, workload: Workload, arrivals: Arrivals, first: _Station, goes_on: Bools,
             generator: np.random.Generator) -> TandemRun:
    """The path from the ends of prefills on."""
    received = np.full(len(arrivals), np.nan)
    profile = stage_profile(*Part(PREFILL, tandem.transfer).of(workload, tandem.prefill.replica))
    busy = tandem.transfer.on_the_link(moved(profile))[arrivals.types]
    for own in _shares(first.where, tandem.prefill.count):
        sent = own[goes_on[own]]
        received[sent] = free_again(first.finished[sent], busy[sent]) + tandem.transfer.latency
    there = np.flatnonzero(goes_on)[np.argsort(received[goes_on], kind="stable")]
    coming = Arrivals.made(received[there], arrivals.types[there], arrivals.seen[there])
    second = _station(tandem, DECODE, *_of_several_tokens(workload, coming, tandem.first_in_prefill), generator)
    finished = np.where(goes_on, np.nan, first.finished)
    decoded_by, admitted = np.full(len(arrivals), -1), np.full(len(arrivals), np.nan)
    decoded_by[there], admitted[there], finished[there] = second.where, second.admitted, second.finished
    first_token = first.finished if tandem.first_in_prefill else np.full(len(arrivals), np.nan)
    if not tandem.first_in_prefill:
        first_token[there] = second.first_token
    ends = finished[np.isfinite(finished)]
    return TandemRun(tandem, workload, arrivals, first.where, decoded_by, first.finished, received, admitted,
                     first_token, finished, first.runs, second.runs, float(ends.max()) if ends.size else 0.0)


def free_again(ends: Floats, busy: Floats) -> Floats:
    """Return E, when a link is free again: first come first served at `ends` F, each for `busy` seconds, shape (n,).

    With S_i the sum of the first i services, E_i = S_i + max_{m <= i} (F_m - S_{m-1}), which is Lindley's recursion.

    >>> free_again(np.array([0.0, 0.5, 5.0]), np.array([1.0, 1.0, 1.0])).tolist()
    [1.0, 2.0, 6.0]
    """
    order = np.argsort(ends, kind="stable")
    served = np.cumsum(busy[order])
    free = np.empty(len(ends))
    free[order] = served + np.maximum.accumulate(ends[order] - served + busy[order])
    return free


def _of_several_tokens(workload: Workload, coming: Arrivals, in_prefill: bool) -> tuple[Workload, Arrivals]:
    """The types that are decoded, and the arrivals by their indices; one that is taken for another is seen as it is."""
    keep = workload.output_tokens > int(in_prefill)
    if keep.all():
        return workload, coming
    if not keep.any():
        raise InputError("output_tokens", "at least 2 tokens of some type where prefills make the first", 1, "tandem")
    index = np.cumsum(keep) - 1
    names = [name for name, mine in zip(workload.names, keep, strict=True) if mine]
    own = Workload.from_arrays(workload.prompt_tokens[keep], workload.output_tokens[keep], workload.rates[keep], names,
                               workload.cached_prefix[keep])
    seen = np.where(keep[coming.seen], coming.seen, coming.types)
    return own, Arrivals.made(coming.times, index[coming.types], index[seen])


def _until(run: TandemRun, horizon: float) -> TandemRun:
    """The run without what happens after the horizon."""
    prefilled, received, admitted, first_token, finished = (np.where(each <= horizon, each, np.nan) for each in (
        run.prefilled, run.received, run.admitted, run.first_token, run.finished))
    return replace(run, prefilled=prefilled, received=received, admitted=admitted, first_token=first_token,
                   finished=finished, end_time=horizon)


def _shares(where: Ints, count: int) -> list[Ints]:
    """The requests of each replica, in order."""
    return [np.flatnonzero(where == i) for i in range(count)]


def _merged(where: Ints, values: list[Floats]) -> Floats:
    """What the replicas say of their requests, in the order of all: NaN of those that went nowhere."""
    merged = np.full(len(where), np.nan)
    for own, each in zip(_shares(where, len(values)), values, strict=True):
        merged[own] = each
    return merged


def _most(tokens: Floats, start: Floats, end: Floats) -> float:
    """The most tokens held at once, each from its start (never, where that is NaN) to its end (for ever)."""
    begun = np.isfinite(start)
    if not begun.any():
        return 0.0
    last = np.where(np.isfinite(end[begun]), end[begun], math.inf)
    moments, changes = np.concatenate([last, start[begun]]), np.concatenate([-tokens[begun], tokens[begun]])
    return float(np.cumsum(changes[np.argsort(moments, kind="stable")]).max())
