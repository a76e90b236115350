r"""The chance that the KV cache overflows behind one window, and the largest window that keeps it small.

**The union.** A horizon T has at most n = 1 + T/d0 iterations, d0 the largest overhead of a line. When nothing is
resident the count of iterations starts anew; write g - 1 empty iterations there and "at most N entries in any g" holds
across. So at most g n iterations are to be added up. Between two resets somebody stays for at least S_min = min S, so
n (1 + (g - 1)/S_min) are enough, and windows of k iterations need one term for each k of them. Two bounds on
P(KV > C at some iteration of the horizon), both for entries however bunched and however well informed of the past:

    theorem   g n exp(-theta C + N sum_b max_{a in b} ln E exp(theta x(a)))                 (mathematics, section 4.7)
    tight     the least of the theorem, the same over windows of k iterations, and their convolution

with k doubled as long as the tokens needed fall. The design installs the largest N/g with a tight bound of delta.

**Sequences.** An engine that runs at most B sequences together makes prompts wait, which the bounds allow: whether one
enters may depend on all others. A full window has (N/g) E[S] in a batch on average, which is kept at B or less: behind
a wider one the cap would be the limit. It is a mean: chance fills the batch now and then, and prompts wait then.

**The largest window.** At most N in any g + 1 iterations is at most N in any g, so the true probability falls with g,
and it rises with N. The search goes through g = 1, 2, ... and looks only at pairs with a larger N/g than the best so
far. The least such N stays the same over a stretch of g, which is settled by a look at its last g and, where the bound
holds there, by bisection for the first. It starts from N = 1, g = A, one prompt at a time, which is always possible;
the one for the tight bound starts from the theorem's pair.

It ends where bunching, which costs more as g grows, has taken 5%, or where the cap on sequences is met within 0.1%, and
convolutions are tried where Chernoff's bound misses by less than exp(4): these could only miss a slightly larger
window; the guarantee stands, because the pair returned has passed the bound itself.

**Long outputs.** Beyond `MOST_STEPS` ages are looked at in steps of r iterations, as `random_prompt` says, and widths
g = h r are searched. "At most N in any g" holds wherever at most N/d enter in any g/d, so what is installed is the pair
divided by what N and r have in common. Convolutions of more than `MOST_BLOCKS` blocks take several together as one, by
the same words, and the search ends its tries of them after `MOST_TRANSFORMS` transforms.

Source: mathematics, sections 4.7 and 4.8; the proofs are in `thresholds.paced_wait.tail_bounds`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial

from fluid import Equilibrium
from fluid.errors import probability, real
from thresholds.guarantees import beside_a_prefill
from thresholds.paced_wait.random_prompt import LengthMix
from thresholds.paced_wait.tail_bounds import WIDEST, BlockChernoff, Convolution

BUNCHING, ENOUGH = 0.95, 0.999  # shares of N/g, and of the cap's, at which the search ends
MOST_STEPS = 4096  # in a life
MOST_BLOCKS, MOST_TRANSFORMS = 512, 2**14  # of a convolution, and of all that one search tries
CONVOLUTION_GAIN = 4.0  # ln of the factor by which a convolution may improve on Chernoff's bound
WHOLE_ROUNDING = 1e-12  # an N that should be whole may come out below

Fits = Callable[[int, int], bool]
Tail = Callable[[int], Callable[[float], float]]


@dataclass(frozen=True)
class OverflowBound:
    """An upper bound on P(KV > C at some iteration of the horizon), for one window (N, g).

    `method` is what proves it, `window` k the iterations each term of the union covers, `kv_required` the level in
    tokens whose bound is delta.
    """

    method: str
    window: int
    overflow_probability: float
    kv_required: float

    @property
    def guarantee(self) -> str:
        """What the bound says, in words."""
        terms = "every iteration" if self.window == 1 else f"windows of {self.window} iterations"
        return (f"however entries bunch, KV exceeds the capacity within the horizon with probability at most "
                f"{self.overflow_probability:.2g} ({self.method}, union over {terms})")


@dataclass(frozen=True, eq=False)
class OverflowProblem:
    """What a window must keep: P(KV > C at some of n `iterations`) <= delta, for prompts of a mix, and N/g <= `rate`.

    `capacity` C is in the units of the mix, like everything inside; the bounds that come out are in tokens. `rate` is
    what a batch takes in per iteration: B/E[S] with at most B sequences, q/E[l + o] with at most q tokens.
    """

    mix: LengthMix
    capacity: int
    iterations: float
    probability: float
    rate: float = math.inf

    def theorem(self, entries: int, g: int) -> OverflowBound:
        """The block Chernoff bound at every iteration, added up over g n of them."""
        return self._bound("block Chernoff", self._every, *self._in_steps(entries, g), g * self.iterations)

    def tight(self, entries: int, g: int) -> OverflowBound:
        """The least bound that is proved."""
        return min((self.theorem(entries, g), *self._sharper(entries, g)),
                   key=lambda bound: (bound.overflow_probability, bound.kv_required))

    @cached_property
    def theorem_pair(self) -> tuple[int, int]:
        """The largest N/g whose theorem bound is at most delta."""
        return self._in_iterations(*self._theorem_pair)

    @cached_property
    def tight_pair(self) -> tuple[int, int]:
        """The largest N/g whose tight bound is at most delta."""
        chernoff, tails = self._windows, dict[int, Tail]()

        def hopeful(h: int) -> float:
            share = self._log_window_share(h * self.mix.step) + CONVOLUTION_GAIN
            return min(chernoff.most_entries(h, self.capacity, share), h * self._step_rate)

        def fits(entries: int, h: int) -> bool:
            share = self._log_window_share(h * self.mix.step)
            if chernoff.log_tail(entries, h, self.capacity) <= share:
                return True
            if h not in tails and sum(map(self._transforms, tails)) < MOST_TRANSFORMS:
                tails[h] = self._convolved(h)
            return h in tails and tails[h](entries)(self.capacity) <= share

        return self._in_iterations(
            *_largest_window(self._theorem_pair, self.mix.steps, cache(hopeful), fits, self._step_rate))

    @cached_property
    def _theorem_pair(self) -> tuple[int, int]:
        """The pair of the theorem, its width in steps."""
        def most(h: int) -> float:
            share = self._log_share(h * self.mix.step * self.iterations)
            return min(self._near.most_entries(h, self.capacity, share), h * self._step_rate)

        alone = (max(1, int(most(self.mix.steps) * (1 + WHOLE_ROUNDING))), self.mix.steps)
        return _largest_window(alone, self.mix.steps, cache(most), lambda entries, h: True, self._step_rate)

    def _in_steps(self, entries: int, g: int) -> tuple[int, int]:
        """A pair of whole steps that a pair implies."""
        times = self.mix.step // math.gcd(g, self.mix.step)
        return times * entries, times * g // self.mix.step

    def _in_iterations(self, entries: int, steps: int) -> tuple[int, int]:
        """The narrowest pair found by division from which `_in_steps` comes back to this one."""
        common = math.gcd(entries, self.mix.step)
        while (shared := math.gcd(common, steps)) > 1:
            common //= shared
        return entries // common, steps * self.mix.step // common

    @property
    def _step_rate(self) -> float:
        return self.rate * self.mix.step

    @cached_property
    def _every(self) -> BlockChernoff:
        return BlockChernoff.of(self.mix, self.capacity)

    @cached_property
    def _near(self) -> BlockChernoff:
        theta, _ = self._every.best(1, self.capacity, self._log_share(self.iterations))
        return self._every.near(theta)

    @cached_property
    def _windows(self) -> BlockChernoff:
        """Chernoff's bound over windows of the k that needs the fewest tokens."""
        entries, h = self._theorem_pair
        g = h * self.mix.step
        theta, _ = self._near.best(h, self.capacity, self._log_share(g * self.iterations))

        def level(chernoff: BlockChernoff) -> float:
            return chernoff.level(entries, h, self._log_share(self._terms(g, chernoff.window)))

        best = self._near
        while best.window < WIDEST:
            wider = self._every.near(theta, 2 * best.window)
            if level(wider) >= level(best):
                break
            best = wider
        return best

    def _terms(self, g: int, window: int) -> int:
        return math.ceil(self.iterations * (1 + (g - 1) / int(self.mix.stages[0])) / window)

    def _log_share(self, terms: float) -> float:
        return math.log(self.probability) - math.log(terms)

    def _log_window_share(self, g: int) -> float:
        return self._log_share(self._terms(g, self._windows.window))

    def _sharper(self, entries: int, g: int) -> Iterator[OverflowBound]:
        chernoff, share = self._windows, self._log_window_share(g)
        terms = self._terms(g, chernoff.window)
        entries, h = self._in_steps(entries, g)
        bound = self._bound("windowed Chernoff", chernoff, entries, h, terms)
        yield bound
        tail = self._convolved(h)(entries)
        level = _first(0, math.ceil(bound.kv_required * self._unit), lambda units: tail(units) <= share)
        yield OverflowBound("convolution", chernoff.window, _added_up(tail(self.capacity), terms), self._tokens(level))

    def _bound(self, method: str, chernoff: BlockChernoff, entries: int, h: int, terms: float) -> OverflowBound:
        return OverflowBound(method, chernoff.window,
                             _added_up(chernoff.log_tail(entries, h, self.capacity), terms),
                             self._tokens(chernoff.level(entries, h, self._log_share(terms))))

    @property
    def _unit(self) -> int:
        return self.mix.layout.unit

    def _tokens(self, units: float) -> float:
        return units if self._unit == 1 else units / self._unit

    def _convolved(self, h: int) -> Tail:
        """The map from entries in any h steps to the tail of their convolution, several blocks taken as one."""
        together = -(-self.mix.steps // (h * MOST_BLOCKS))
        theta, start = self._windows.best(h * together, self.capacity, self._log_window_share(h * self.mix.step))
        convolution = Convolution.of(self._windows, h * together, theta, start, self.capacity)
        return lambda entries: convolution.tail(entries * together)

    def _transforms(self, h: int) -> int:
        return min(-(-self.mix.steps // h), MOST_BLOCKS)


def overflow_problem(equilibrium: Equilibrium, *, horizon: float, overflow_probability: float) -> OverflowProblem:
    """Return the problem behind `paced_unknown`: the mix of lengths, C, n = 1 + T/d0 and delta."""
    replica = equilibrium.replica
    chance = probability("overflow_probability", overflow_probability, "paced_unknown")
    seconds = real("horizon", horizon, "paced_unknown", unit="seconds")
    iterations = 1 + seconds / float(replica.iteration_time.overheads.max())
    mix = LengthMix.of(equilibrium.profile, equilibrium.workload.rates, MOST_STEPS)
    share = equilibrium.workload.rates / equilibrium.workload.rates.max()
    sequences = min(replica.most_sequences, beside_a_prefill(equilibrium))
    most = min(sequences / float(mix.stages @ mix.probability),
               replica.most_tokens / float(equilibrium.profile.tokens @ share / share.sum()))
    return OverflowProblem(mix, mix.layout.unit * replica.kv_capacity, iterations, chance, most)


def _largest_window(best: tuple[int, int], ages: int, most: Callable[[int], float], fits: Fits,
                    rate: float) -> tuple[int, int]:
    """Climb from a pair to the largest N/g with N <= most(g) and fits(N, g), g <= ages; nearly `rate` is enough.

    Invariant: no good pair with g <= `done` has a larger N/g than `best`, which is good, or the pair given.
    """

    def good(entries: int, g: int) -> bool:
        return entries <= most(g) * (1 + WHOLE_ROUNDING) and fits(entries, g)

    def fails(g: int, entries: int) -> bool:
        return not good(entries, g)

    done = 0
    while done < ages and best[0] < ENOUGH * rate * best[1]:
        entries = best[0] * (done + 1) // best[1] + 1  # the least N that improves on `best` at the next g
        g = min((entries * best[1] - 1) // best[0], ages)  # and the last g at which that N improves
        if most(g) * (1 / g + 1 / ages) < BUNCHING * best[0] / best[1]:
            break
        if good(entries, g):
            g = _first(0, g, partial(good, entries))
            above = int(most(g) * (1 + WHOLE_ROUNDING)) + 1
            best = _first(entries, above, partial(fails, g)) - 1, g
        done = g
    return best


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The least integer in (low, high] for which a monotone condition holds, taking `high` for granted."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _added_up(log_tail: float, terms: float) -> float:
    """The union bound over `terms` events, at most 1."""
    return math.exp(min(0.0, log_tail + math.log(terms)))
