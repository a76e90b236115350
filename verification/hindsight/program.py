r"""The integer program of [J] as sparse arrays: who starts when, one variable for each class of twins and each moment.

With y_ct the number of requests of class c that start at moment t (a class: requests of one arrival, prompt and output;
m_c of them, a_c, s_c, o_c theirs),

    min   sum_ct (t + o_c - a_c) y_ct                          y_ct in {0, ..., m_c}
    s.t.  sum_{t >= a_c} y_ct = m_c                                                     every request starts once
          sum_c sum_{t=u-o_c}^{u-1} (s_c + u - t) y_ct <= M                             at every moment u
          sum_c sum_{t: u - f_kc <= t + o_c <= u + b_kc} y_ct <= k                      turns, at every u, k = 1, 2

**Same program.** Requests of one class are alike in every line: the x_it of [J] (mathematics, section 7.4) sum to y,
and from y any assignment of the starts to the members gives back x. So the order among twins, which x would have to
search, is gone. The turns hold in every feasible schedule (`verification.hindsight.turns`): they cut off fractions
only.

**Horizon, and starts that need not be looked at.** U is the cost of a schedule in hand, L(v, w) the bound by prices on
the moments 1..H (`verification.hindsight.prices`), H at least its last finish. A schedule that starts i at t costs at
least L + r_i(t) - min r_i. All costs are whole, so where that exceeds U - 1 no better schedule starts i at t, and y_ct
is left out. For t > H, r_i(t) = r_i(H) + t - H: finitely many starts are left, up to H + U - 1 - L - r_i(H) + min r_i,
whatever horizon one would have assumed. With prices 0 this says: nobody waits U - sum_i o_i rounds or more. Besides
some optimal schedule is done by max a + sum o: take one with the least sum of finishes; after the last arrival it has a
request active in every round until the end, else all that start later could start a round earlier. So no finish beyond
that is looked at. The starts of the schedule in hand are kept, so the program is feasible, and its optimum is the least
total latency: some optimal schedule loses no start by either cut, and where none is better U is the optimum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from fluid.arrays import TOLERANCE, Floats, Ints
from verification.hindsight.prices import Market

Matrix = Any  # scipy's sparse matrices have no types of their own


@dataclass(frozen=True, eq=False)
class Program:
    """Columns (class, start) in order, `costs` (rounds), and rows lower <= matrix y <= upper; y <= `most`.

    `request_class` is the class of each request, shape (N,).
    """

    request_class: Ints
    column_class: Ints
    column_start: Ints
    costs: Floats
    matrix: Matrix
    lower: Floats
    upper: Floats
    most: Floats

    def values(self, starts: Ints) -> Floats:
        """y of a schedule whose starts all have a column, shape (columns,)."""
        width = int(self.column_start.max()) + 1
        columns = self.column_class * width + self.column_start
        found = np.searchsorted(columns, self.request_class * width + starts)
        return np.bincount(found, minlength=len(columns)).astype(np.float64)

    def starts(self, values: Floats) -> Ints:
        """The starts of the requests from y, twins in any order, shape (N,)."""
        found = np.zeros(len(self.request_class), dtype=np.int64)
        members = np.argsort(self.request_class, kind="stable")
        found[members] = np.repeat(self.column_start, np.rint(values).astype(np.int64))
        return found


def program(market: Market, prices: Floats, bound: float, starts: Ints, cost: int) -> Program:
    """Return the program without what no schedule better than `starts`, of cost `cost` = U, can use.

    `prices` are on moments 1..H of the `market`, `bound` is their L; with prices 0 and bound sum_i (o_i) nothing but
    waits that are too long is left out.
    """
    classes, member, count = np.unique(np.stack([market.arrivals, market.pair]), axis=1, return_inverse=True,
                                       return_counts=True)
    member = member.ravel()
    of, t = _worth_a_look(market, classes, prices, bound, cost)
    width = int(max(t.max(initial=0), starts.max())) + 1
    kept = np.unique(np.concatenate([of * width + t, member * width + starts]))  # in order, each once
    of, t = np.divmod(kept, width)
    arrival, pair = classes[:, of]
    finish = t + market.outputs[pair]
    rows = [sparse.csc_array((np.ones(len(t)), (of, np.arange(len(t)))), shape=(len(count), len(t)))]
    rows += _rows(market, pair, t, finish, int(finish.max()))
    height = rows[1].shape[0]
    unlimited = np.full(height * len(market.limits), -np.inf)
    return Program(member, of, t, (finish - arrival).astype(np.float64), sparse.vstack(rows, format="csc"),
                   np.concatenate([count, unlimited]), np.concatenate([count, np.repeat(market.limits, height)]),
                   count[of].astype(np.float64))


def _worth_a_look(market: Market, classes: Ints, prices: Floats, bound: float, cost: int) -> tuple[Ints, Ints]:
    """Class and moment of every start with L + r - min r <= U - 1."""
    (arrival, pair), H = classes, market.horizon
    paid = market.costs(prices)
    least = np.minimum.accumulate(paid[:, ::-1], axis=1)[:, ::-1][pair, arrival]
    spare = cost - 1 - bound + max(1e-6, TOLERANCE * cost)
    late = H + np.maximum(0, np.floor(spare + least - paid[pair, H])).astype(np.int64)
    safe = int(market.arrivals.max() + market.outputs[market.pair].sum())
    last = np.minimum(late, safe - market.outputs[pair])
    of, t = _stretches(arrival, last)
    worth = paid[pair[of], np.minimum(t, H)] + np.maximum(t - H, 0) <= spare + least[of]
    return of[worth], t[worth]


def _rows(market: Market, pair: Ints, t: Ints, finish: Ints, height: int) -> Iterator[Matrix]:
    """Tokens held, then claims of each family, at moments 1..height: a matrix each."""
    column, u = _stretches(t + 1, finish)
    yield _matrix(market.prompts[pair][column] + u - t[column], u, column, height, len(t))
    for turns in market.turns:
        claims = np.flatnonzero(turns.members[pair])
        first = np.maximum(finish - turns.before[pair], 1)[claims]
        column, u = _stretches(first, np.minimum(finish + turns.after[pair], height)[claims])
        yield _matrix(np.ones(len(u)), u, claims[column], height, len(t))


def _matrix(values: Any, moments: Ints, columns: Ints, height: int, width: int) -> Matrix:
    return sparse.csc_array((values.astype(np.float64), (moments - 1, columns)), shape=(height, width))


def _stretches(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """The whole numbers first..last of each stretch, one after the other, and the stretch that each belongs to."""
    length = np.maximum(last - first + 1, 0)
    of = np.repeat(np.arange(len(first)), length)
    return of, np.arange(len(of)) - (np.cumsum(length) - length)[of] + first[of]
