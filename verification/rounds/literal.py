"""The literal twin of the engine: the rules of every policy in plain words, one request after the other, slowly.

Nothing of the engine is used here. `fits` is the form of the test ahead (`verification.rounds.feasibility`): in every
round, at completions, or sorted. Random draws are made in the same order, so that schedules agree run by run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor

import numpy as np

from fluid.errors import InputError
from verification.rounds.a_min import AMin
from verification.rounds.feasibility import fits_every_round
from verification.rounds.instance import Instance
from verification.rounds.mc_sf import MCSF, MCBenchmark
from verification.rounds.protection import Clearing, Protected
from verification.rounds.schedule import Schedule
from verification.rounds.sorted_f import SortedF, batches
from verification.rounds.state import RoundPolicy

Fits = Callable[[list[int], list[int], int], bool]


@dataclass
class Request:
    """A request as a policy sees it, and its true output length, which only the server reads."""

    index: int
    prompt: int
    output: int
    believed: int
    made: int = 0
    since: int = 0

    @property
    def held(self) -> int:
        return self.prompt + self.made

    @property
    def to_go(self) -> int:
        return max(self.believed - self.made, 1)


class Rounds:
    """Who waits and who runs, in order of start, and the runs that ended."""

    def __init__(self, instance: Instance, policy: RoundPolicy, seed: int, fits: Fits) -> None:
        self.instance, self.policy, self.fits = instance, policy, fits
        self.generator = np.random.default_rng(seed)
        self.requests = [Request(i, int(s), int(o), int(p)) for i, (s, o, p) in enumerate(
            zip(instance.prompts, instance.outputs, instance.predicted, strict=True))]
        self.coming, self.waiting, self.running = list(self.requests), list[Request](), list[Request]()
        self.moment, self.clearings, self.rescues, self.fruitless = 0, 0, 0, 0
        self.kept: Request | None = None
        self.queue_changed, self.runs = False, list[tuple[int, int, int, int]]()
        self.starts = dict[int, int]()

    def too_much(self) -> bool:
        """Whether the coming round needs more than M."""
        return sum(r.held + 1 for r in self.running) > self.instance.memory

    def clear(self, r: Request) -> None:
        """Request r loses its tokens and waits again."""
        self._end_run(r)
        r.made = 0
        self._wait(r)

    def _wait(self, r: Request) -> None:
        self.waiting.append(r)
        self.queue_changed = True

    def _end_run(self, r: Request) -> None:
        self.running.remove(r)
        self.runs.append((self.starts[r.index], r.index, r.since, self.moment))

    def start(self, r: Request) -> None:
        """Request r starts at this moment."""
        self.waiting.remove(r)
        self.running.append(r)
        r.since, self.starts[r.index] = self.moment, len(self.runs) + len(self.running)

    def one_round(self) -> None:
        """Steps 1 to 4 of `verification.rounds.engine`."""
        while self.coming and self.instance.arrivals[self.coming[0].index] <= self.moment:
            self._wait(self.coming.pop(0))
        if self.too_much():
            self.clearings += 1
            CLEARED[type(self.policy)](self)
        order = ORDERED[type(self.policy)](self)
        while order and (not self.running or self.passes(order[0])):
            self.start(order.pop(0))
        self.moment += 1
        for r in list(self.running):
            r.made += 1
            if r.made == r.output:
                self._end_run(r)
                self.fruitless, self.kept = 0, None

    def passes(self, r: Request) -> bool:
        """Whether r may start beside those that run."""
        policy, memory, all_of_them = self.policy, self.instance.memory, [*self.running, r]
        protection = getattr(policy, "protection", 0.0)
        free = floor((1 - protection) * memory + 1e-9 * memory)
        if isinstance(policy, Protected | Clearing):
            return sum(each.held + 1 for each in all_of_them) <= free
        return self.fits([each.held for each in all_of_them], [each.to_go for each in all_of_them], free)


def _by_length(rounds: Rounds) -> list[Request]:
    return sorted(rounds.waiting, key=lambda r: (r.believed, r.index))


def _by_arrival(rounds: Rounds) -> list[Request]:
    return sorted(rounds.waiting, key=lambda r: r.index)


def _by_batches(rounds: Rounds) -> list[Request]:
    """Ordered anew when requests came or came back; else the order stays."""
    policy = rounds.policy
    if rounds.queue_changed and isinstance(policy, SortedF):
        waiting = _by_arrival(rounds)
        prompts, lengths = (np.array([(r.prompt, r.believed)[k] for r in waiting], dtype=np.int64) for k in (0, 1))
        found = batches(prompts, lengths, rounds.instance.memory, policy.search)
        rounds.waiting = [waiting[k] for batch in found for k in batch]
    rounds.queue_changed = False
    return list(rounds.waiting)


def _newest_goes(rounds: Rounds) -> None:
    while rounds.too_much():
        rounds.clear(rounds.running[-1])


def _least_bound_goes(rounds: Rounds) -> None:
    for r in rounds.running:
        r.believed = max(r.believed, r.made)
    while rounds.too_much():
        rounds.clear(min(rounds.running, key=lambda r: (r.believed, -r.index)))


def _chance_decides(rounds: Rounds) -> None:
    chance = rounds.policy.chance if isinstance(rounds.policy, Clearing) else 1.0
    if rounds.fruitless >= (1 if chance == 1 else 100):
        rounds.kept = rounds.kept or rounds.running[0]
        rounds.rescues += 1
    while rounds.too_much():
        for r in sorted(rounds.running, key=lambda r: r.index):
            if r is not rounds.kept and rounds.generator.random() < chance:
                rounds.clear(r)
    if not rounds.coming:
        rounds.fruitless += 1


ORDERED: dict[type, Callable[[Rounds], list[Request]]] = {
    MCSF: _by_length, MCBenchmark: _by_arrival, Protected: _by_arrival, Clearing: _by_arrival, SortedF: _by_batches,
    AMin: _by_length,
}
CLEARED: dict[type, Callable[[Rounds], None]] = {
    MCSF: _newest_goes, MCBenchmark: _newest_goes, Protected: _chance_decides, Clearing: _chance_decides,
    SortedF: _newest_goes, AMin: _least_bound_goes,
}


def play_literally(policy: RoundPolicy, instance: Instance, seed: int = 0, fits: Fits = fits_every_round) -> Schedule:
    """Return the schedule of `policy` on `instance`, as `play` does, with any form of the test ahead.

    Raises InputError for a policy without a twin.

    >>> play_literally(MCSF(), Instance([0, 0, 0], [1, 1, 1], [1, 2, 2], memory=6)).finished.tolist()
    [1, 2, 2]
    """
    if type(policy) not in ORDERED:
        raise InputError("policy", "one that has a twin in verification.rounds.literal", policy, "play_literally")
    rounds = Rounds(instance, policy, seed, fits)
    while rounds.coming or rounds.waiting or rounds.running:
        rounds.one_round()
    _, requests, starts, ends = np.array(sorted(rounds.runs), dtype=np.int64).reshape(-1, 4).T
    return Schedule(instance, requests, starts, ends, rounds.clearings, rounds.rescues)
