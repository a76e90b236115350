"""What the literal simulator simulates: requests one by one, and everything there is at one moment.

Nothing is shared with the engine but the stage profile of each type and the lines of the iteration time: a list of
waiting requests, residents with their stage, KV summed anew at each iteration. KV is in tokens, exact: whole numbers,
or fractions where windowed and global layers mix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from fluid import Replica, StageProfile
from fluid.replica import Line
from verification.traffic.arrivals import Arrivals
from verification.traffic.closed import Returning


@dataclass
class Request:
    """A request, the type it is seen as, and where it stands.

    Under a token budget `done` tokens are prefilled and `part` come next. One that was evicted and keeps the tokens it
    has made prefills `again` tokens, in parts as well, before it goes on with its stage. A rule that looks ahead takes
    it for a `kind`, with so many stages (`bound`, 0 until it is known).
    """

    number: int
    arrival: float
    type: int
    seen: int
    stage: int = 0
    done: int = 0
    part: int | None = None
    again: int = 0
    turn: int = 0
    kind: int = 0
    bound: int = 0
    admitted: float = math.nan
    first_token: float = math.nan
    made: int = -1  # the stage of its last token
    tokens: list[float] = field(default_factory=list)  # when each was made
    finished: float = math.nan


@dataclass
class System:
    """Everything there is at one moment."""

    arrivals: Arrivals
    profile: StageProfile
    replica: Replica
    horizon: float
    requests: list[Request] = field(default_factory=list)
    waiting: list[Request] = field(default_factory=list)
    residents: list[Request] = field(default_factory=list)  # in order of admission
    ended: list[Request] = field(default_factory=list)  # in the last iteration
    now: float = 0.0
    before: float = 0.0  # when the last iteration began; now, if there was none since the server rested
    origin: float = 0.0
    totals: list[list[int]] = field(default_factory=list)  # since the origin, by line of the iteration time
    arrived: int = 0
    sent: int = 0  # requests whose moment is known: all, but in a closed loop
    busy: float = 0.0
    entered: int = 0
    iterations: int = 0
    evictions: int = 0
    overflows: int = 0
    kv_peak: int | Fraction = 0
    fruitless: int = 0  # clearings since somebody completed, once all have come
    entries: list[tuple[int, int]] = field(default_factory=list)  # (iteration, lane), under paced WAIT
    rows: list[tuple[float, float, int | Fraction, int, int]] = field(default_factory=list)  # of the timeline

    def __post_init__(self) -> None:
        kinds = range(len(self.profile.stages))
        self.totals = [[0, 0, 0, 0] for _ in self.replica.iteration_time.pieces]
        self.kv = [self.in_tokens(self.profile.units_held(j)) for j in kinds]
        self.read = [self.in_tokens(self.profile.units_read(j)) for j in kinds]
        self.prefill: list[list[int]] = [self.profile.stage_prefill(j).tolist() for j in kinds]
        columns = (self.arrivals.times, self.arrivals.types, self.arrivals.seen)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        self.requests = [Request(number, *row) for number, row in enumerate(rows)]
        self.sent = self.arrivals.first if isinstance(self.arrivals, Returning) else len(self.requests)
        for r in self.requests:
            if self.profile.first_token_stage[r.type] < 0 and self.served(r):
                r.first_token = r.arrival  # made where it was prefilled
                r.tokens = [r.arrival]

    def send_the_next(self) -> None:
        """A request is answered: whoever waited for it thinks, and sends another when it is planned, or later."""
        loop = self.arrivals
        if not isinstance(loop, Returning) or self.sent == len(self.requests):
            return
        moment = max(float(loop.planned[self.sent]), self.now + float(loop.thinks[self.sent]))
        to_come = self.requests[self.arrived:self.sent + 1]
        for r, arrival in zip(to_come, sorted([*(r.arrival for r in to_come[:-1]), moment]), strict=True):
            r.arrival = arrival
        self.sent += 1

    def in_tokens(self, units: np.ndarray) -> list[int | Fraction]:
        """Units of KV as tokens."""
        unit = self.profile.layout.unit
        return [each if unit == 1 else Fraction(each, unit) for each in units.tolist()]

    def take_arrivals(self, until: float) -> None:
        while self.arrived < len(self.requests) and self.requests[self.arrived].arrival <= until:
            request = self.requests[self.arrived]
            self.arrived += 1
            if self.served(request):
                self.waiting.append(request)

    def served(self, r: Request) -> bool:
        """Whether a request can ever be; the others are rejected on arrival."""
        return max(self.kv[r.type]) <= self.replica.kv_capacity

    def held(self) -> int | Fraction:
        return sum(self.held_by(r) for r in self.residents) + sum(self.kv[r.type][-1] for r in self.ended)

    def held_by(self, r: Request) -> int | Fraction:
        return self.kv[r.type][r.stage] if r.part is None else self.kv_of(r.done + r.part, self.replica.block)

    def read_by(self, r: Request) -> int | Fraction:
        if r.part is None:
            return self.read[r.type][r.stage]
        return self.kv_of(int(self.profile.prefix[r.type]) + r.done + r.part, 1)

    def kv_of(self, tokens: int, block: int) -> int | Fraction:
        """KV of so many tokens in whole blocks, of which those beyond an attention window take none, and of the state.
        """
        window = self.replica.attention_window or tokens
        windowed, layers = self.replica.windowed_layers or (1, 1)
        near, every = (math.ceil(x / block) * block for x in (min(tokens, window), tokens))
        if near == every or windowed == layers:
            return near + self.replica.state
        return Fraction(windowed * near + (layers - windowed) * every, layers) + self.replica.state

    def in_prefill(self, r: Request) -> bool:
        return self.to_prefill(r) > 0

    def to_prefill(self, r: Request) -> int:
        """Tokens of its whole prompt, or of what it kept, that a request has still to prefill; 0 once it decodes."""
        if r.again > 0:
            return r.again - r.done
        return sum(self.prefill[r.type][r.stage:]) - r.done

    def prefill_next(self, r: Request) -> int:
        """Prompt tokens that a request prefills, and pays for, in its next iteration."""
        if r.part is None:
            return self.prefill[r.type][r.stage]
        inside = r.done < self.prompt_of(r) or r.part > 1  # one token behind the prompt is computed as a decode is
        return r.part if inside else 0

    def tokens_of(self, r: Request) -> int:
        """Tokens computed for a request in its next iteration."""
        return max(self.prefill[r.type][r.stage], 1) if r.part is None else r.part

    def tokens_left(self) -> float:
        """How many more tokens an iteration of all residents takes."""
        return self.replica.most_tokens - sum(self.tokens_of(r) for r in self.residents)

    def prompt_of(self, r: Request) -> int:
        """The tokens of its prompt that are not in the cache already."""
        return int(self.profile.prompt[r.type])

    def places(self) -> int:
        """How many more sequences a batch takes if every resident is in it."""
        cap = self.replica.max_num_seqs
        return (len(self.requests) if cap is None else cap) - len(self.residents)

    def serve(self, batch: list[Request]) -> None:
        """One iteration of the batch; the other residents stand still."""
        read = sum(self.read_by(r) for r in batch)
        prefill = sum(self.prefill_next(r) for r in batch)
        self.kv_peak = max(self.kv_peak, self.held())
        self.overflows += (self.held() > self.replica.kv_capacity or len(batch) > self.replica.most_sequences
                           or sum(self.tokens_of(r) for r in batch) > self.replica.most_tokens)
        held = self.held()
        self.ended.clear()
        start = self.now
        self.spend(read, prefill, len(batch))
        self.before = start
        self.iterations += 1
        decoding = any(not self.in_prefill(r) for r in batch)
        self.rows.append((start, self.now, held, len(batch), int(decoding)))
        for r in batch:
            self.finish_stage(r)

    def wait_for_the_iteration_before(self) -> None:
        """Nobody is served in an iteration that was decided early: what has ended by now is seen."""
        self.ended.clear()
        self.before = self.now

    def spend(self, read: int | Fraction, prefill: int, size: int) -> None:
        """The time goes on by one iteration, in whole numbers as in `verification.engine.clock`: bits agree."""
        unit = self.profile.layout.unit
        lines = [line._replace(per_kv_token=line.per_kv_token / unit) for line in self.replica.iteration_time.pieces]
        units = int(read * unit)
        longest = max(range(len(lines)), key=lambda i: _time([lines[i]], [[1, units, prefill, size]]))
        for column, amount in enumerate((1, units, prefill, size)):
            self.totals[longest][column] += amount
        self.now = _time(lines, self.totals, self.origin)
        if self.totals[longest][1] > 2**53:
            self.rest(self.now)

    def rest(self, until: float) -> None:
        """The server stops and goes on at a later moment."""
        self.busy += max(min(self.now, self.horizon) - self.origin, 0.0)
        self.now = self.before = self.origin = until
        self.totals = [[0, 0, 0, 0] for _ in self.totals]

    def finish_stage(self, r: Request) -> None:
        if r.part is not None:
            r.done, r.part = r.done + r.part, None
            if self.in_prefill(r):
                return
            r.done = r.again = 0
        first = r.stage == self.profile.first_token_stage[r.type] and math.isnan(r.first_token)
        if first and self.now <= self.horizon:
            r.first_token = self.now
        if self.now <= self.horizon and r.stage > r.made and r.stage >= self.profile.first_token_stage[r.type]:
            r.made = r.stage
            r.tokens.append(self.now)
        r.stage += 1
        if r.stage == len(self.kv[r.type]):
            self.residents.remove(r)
            self.ended.append(r)
            self.fruitless = 0
            if self.now <= self.horizon:
                r.finished = self.now
                self.send_the_next()

    def enter(self, r: Request) -> None:
        self.waiting.remove(r)
        self.residents.append(r)
        self.entered += 1
        r.admitted, r.turn = self.now, self.entered

    def leave(self, r: Request, keep: bool = False) -> None:
        """Evict a request: it loses all progress, or it keeps the tokens that it has made."""
        self.evictions += 1
        self.residents.remove(r)
        r.done, r.part, r.admitted = 0, None, math.nan
        if keep:
            self._keep_tokens(r)
            return
        r.stage, r.made = 0, -1
        del r.tokens[int(self.profile.first_token_stage[r.type] < 0):]
        if self.profile.first_token_stage[r.type] >= 0:
            r.first_token = math.nan

    def _keep_tokens(self, r: Request) -> None:
        """It must prefill its prompt and the tokens made; where prefills make a token, that makes the next one."""
        if r.again > 0:
            return  # evicted once more before it had them
        prompt_stages, makes_first = int(self.profile.prefill_stages[r.type]), self.profile.first_token_stage[r.type]
        decodes = r.stage - prompt_stages  # that are over
        if makes_first < prompt_stages and decodes >= 0:
            r.again = self.prompt_of(r) + 1 + decodes
        elif makes_first == prompt_stages and decodes > 0:
            r.again = self.prompt_of(r) + decodes
            r.stage -= 1
        else:
            r.stage = 0

    def times(self, name: str) -> np.ndarray:
        return np.array([getattr(r, name) for r in self.requests], dtype=np.float64)


def _time(lines: Sequence[Line], totals: list[list[int]], origin: float = 0.0) -> float:
    """origin + sum_i (d0_i I_i + d1_i R_i) + (d2_i P_i + d3_i Z_i), R_i and d1_i of units of KV."""
    now = origin
    for (d0, d1, d2, d3), (iterations, read, prefill, size) in zip(lines, totals, strict=True):
        now += (d0 * iterations + d1 * read) + (d2 * prefill + d3 * size)
    return now
