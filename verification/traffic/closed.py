r"""Closed loops: requests that are sent because others were answered.

    ClosedLoop    N users: each thinks for an exponential time of mean Z, sends a request, waits for its answer, and
                  thinks again. A closed network of a delay station and the replica
    Limited       requests of any open traffic, of which at most K are at the replica: the next is sent once it is due
                  and fewer are there, as `vllm bench serve --max-concurrency` and SGLang's benchmark do
                  (`verification.traffic.processes`)

Both are one rule: the k-th request is sent at max(planned_k, end + think_k), `end` being the answer that it waits for
(0 for the first N or K of them). Under ClosedLoop planned_k = 0, under Limited think_k = 0. The times to think belong
to the answers in their order and types to requests in the order in which they are sent, both independent, so that a
path is fixed by its seed. An arrival is the moment at which a request is sent: latency counts from there, as load
generators measure it, not from when it was due.

How many requests a closed loop sends is not known before: there is room for some, and a run that needs more is begun
anew with twice the room. Source: mathematics, section 15.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fluid import ClosedEquilibrium, Replica, StageProfile, Workload, solve_users
from fluid.arrays import Floats, Ints
from fluid.errors import InputError, real, whole
from verification.traffic.arrivals import MOST_REQUESTS, Arrivals, draw_types, stream

MOST_USERS = 1_000_000
LEAST_ROOM = 1024


@dataclass(frozen=True, eq=False, init=False)
class Returning(Arrivals):
    """Requests of which only the `first` know their moments: the k-th of the others is sent at
    max(`planned`[k], end + `thinks`[k]), end being the k-th answer.

    `times` are infinite until they are known. `more` makes the same with twice the room, None where these are all.
    """

    planned: Floats
    thinks: Floats
    first: int
    more: Callable[[], Returning] | None

    @classmethod
    def planning(cls, types: Ints, planned: Floats, thinks: Floats, first: int,
                 more: Callable[[], Returning] | None = None, seen: Ints | None = None) -> Returning:
        """Make requests of arrays of shape (M,) known to be right."""
        self = cls.__new__(cls)
        times = np.full(len(types), np.inf)
        times[:first] = np.sort(np.maximum(planned[:first], thinks[:first]))
        self._keep(times, types, types if seen is None else seen)
        for field, value in (("planned", planned), ("thinks", thinks), ("first", first), ("more", more)):
            object.__setattr__(self, field, value)
        return self

    def seen_as(self, look: Callable[[Ints], Ints]) -> Returning:
        """Return the same requests, each taken for the type that `look` gives it."""
        more = self.more
        return Returning.planning(self.types, self.planned, self.thinks, self.first,
                                  None if more is None else lambda: more().seen_as(look), look(self.types))

    def check_served(self, profile: StageProfile, replica: Replica) -> None:
        """Raise InputError for what would lose users: requests that are rejected, or have a token before they come."""
        if (profile.peak > replica.kv_capacity).any():
            raise InputError("types", f"of at most {replica.kv_capacity:,} KV tokens where arrivals wait for answers",
                             int(profile.peak.max()), "simulate")
        if (profile.first_token_stage < 0).any():
            raise InputError("first_token", '"decode" where prefill is elsewhere and arrivals wait for answers',
                             replica.first_token, "simulate")

    def sent(self, times: Floats, horizon: float) -> Arrivals:
        """Return those that were sent before a horizon, once all times are known that will be."""
        count = int(np.searchsorted(times, horizon))
        return Arrivals.made(times[:count].copy(), self.types[:count], self.seen[:count])


@dataclass(frozen=True)
class ClosedLoop:
    """So many `users` who `think` for an exponential time of that mean (seconds, from 0 on) between their requests.

    The rates of a workload are proportions of its types. Raises InputError for less than one user, and a negative time.

    >>> from fluid import IterationTime, PromptType
    >>> from verification import Greedy, simulate
    >>> replica = Replica(1000, IterationTime(0.5, 0.0), first_token="prefill")     # requests of one iteration
    >>> mix = Workload([PromptType(5, 1, 1.0)])
    >>> run = simulate(Greedy(0.0), mix, replica, horizon=10.0, traffic=ClosedLoop(2, 0.0))
    >>> run.completed, len(run.arrivals)                                            # two every half second
    (40, 40)
    """

    users: int
    think: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "users", whole("users", self.users, unit="users", most=MOST_USERS))
        object.__setattr__(self, "think", real("think", self.think, unit="seconds", zero=True))

    def factor(self) -> float:
        return 1.0

    def balance(self, workload: Workload, replica: Replica) -> ClosedEquilibrium:
        """Return what the fluid model says of these users (`fluid.closed_loop`)."""
        return solve_users(workload, replica, self.users, self.think)

    def draw(self, workload: Workload, horizon: float, seed: int, replication: int) -> Arrivals:
        guess = workload.rate * min(horizon, MOST_REQUESTS / workload.rate)
        return self._with_room(workload, seed, replication,
                               self.users + max(int(1.2 * guess + 10 * math.sqrt(guess)), LEAST_ROOM))

    def _with_room(self, workload: Workload, seed: int, replication: int, room: int) -> Returning:
        if room >= MOST_REQUESTS:
            raise InputError("horizon", f"short enough for fewer than {MOST_REQUESTS} requests", room, "closed loop")
        generator = stream(seed, replication)
        thinks = self.think * generator.standard_exponential(room)
        types = draw_types(workload, room, generator)
        return Returning.planning(types, np.zeros(room), thinks, self.users,
                                  lambda: self._with_room(workload, seed, replication, 2 * room))
