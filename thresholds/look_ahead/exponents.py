r"""Look-ahead admission: whom to let in when output lengths are unknown, and why the KV cache then hardly overflows.

First come, first served, and residents never pause. The head of the queue enters iteration t if, with it among the
residents, in every block of coming iterations [h, h') some theta of a fixed list passes

    sum_i max_{h <= u < h'} ln E[ exp(theta y_i(u)) | age a_i ]  <=  theta C + ln eps_b                           (*)

where y_i(u) is the KV resident i holds u iterations from now, 0 if it is over by then, and eps_b the chance allowed to
each iteration of block b; or if the most the residents can hold in the block is at most C. It also enters where nobody
is resident. With the law of lives of `thresholds.look_ahead.lives`, and k(l, a) what a prompt of l tokens holds in age
a, the mean is explicit:

    E[ exp(theta y_i(u)) | age a ] = 1 + (exp(theta k(l, a + u)) - 1) G(a + u) / G(a)

**Theorem.** Let the lives of the residents be independent given their prompts, with these laws, and the order of entry
read no output length. Then P(KV > C at some of n iterations) <= n sum_b (h' - h) eps_b, which is delta by the choice of
eps_b. Proof. Let KV > C in iteration T, and let t <= T be the last iteration up to T in which somebody was admitted.
Nobody was admitted after t, so KV in T is the sum of y_i(T - t) over those who were resident in t after its admissions.
What happened up to t (arrivals, prompts, who completed, how long iterations took) is a function of prompts, of
lives that are over and of the ages that the others have reached: given it the remaining lives are independent, each by
the law given its age. The last to be admitted in t passed: for the block that holds T - t either KV <= C with
certainty, or by Chernoff's bound with that theta, which was chosen by the past, P(KV in T > C | past of t) <= eps_b.
(Where the last one entered an empty server KV <= C, as every request that is served fits.) Add over the n iterations t
and all T - t.

So nothing is paid for entries that bunch: the test sees the residents as they are. Windows (`thresholds.paced_wait`)
must hold for the worst of bunching, and for every age of everybody.

**Few numbers.** The maximum over u costs little where blocks are short near h = 0, and the last may be endless. The
left side is convex in l for every theta (a maximum of logarithms of sums of exponentials), so that between the least
and the most prompt of a class the chord is above it: two rows of numbers for each class serve all its prompts. That
asks for KV that is affine in l: blocks of b tokens are counted as b - 1 tokens more, unless a class has a single prompt
length; with an attention window, beyond which KV is concave, prompts count as the most of their class. Divided by the
right side of (*) a test is "the sum is at most 1", for each block and theta, and the most that can be held over C is
one more such column.

**In steps** of s iterations G is known at multiples of s: ages are rounded so that the bound grows,

    G(v) <= G(s floor(v/s)),    G(a) >= G(s (floor(a/s) + 1)) for s > 1,    k at the last age of a row,

with the quotient taken for at most 1. A resident that outlives its class counts as at the last age that is known.

Source: derived here; mathematics, sections 13.2 and 13.3.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter1d

from fluid.arrays import Floats, Ints
from fluid.replica import UNLIMITED, KVLayout
from thresholds.policies import LookAheadPolicy

NEVER = 1e9  # a column that no batch passes


def shares_ahead(policy: LookAheadPolicy, layout: KVLayout, capacity: float, first: int, lead: int) -> Floats:
    """Return the shares of (*) that a resident takes: shape (classes, 2, lead + rows, blocks, thetas + 1).

    A batch passes a block where in some column the shares of its residents add up to at most 1; one of l tokens between
    the least l0 and the most l1 of its class takes (l - l0)/(l1 - l0) of the second row and the rest of the first. Row
    `lead` + i is for ages i s to (i + 1) s - 1; the last column is the most that may be held. `capacity` C in tokens;
    `first` is what a prompt holds at age 0 beyond itself, tokens; `lead` the rows before age 0.
    """
    survival = np.array(policy.survival)
    held = _held(policy, layout, first, lead, survival.shape[1])
    alive = np.concatenate([np.ones((len(survival), lead)), survival], axis=1)[:, None]
    thetas = np.array(policy.thetas)
    room = thetas * capacity + np.array(policy.log_chances)[:, None]
    columns = []
    for b in range(len(policy.points)):
        with np.errstate(over="ignore"):
            grown = [np.where(alive > 0, np.expm1(theta * held), 0.0) for theta in thetas]
        exponents = [np.log1p(_given_age(policy, b, each, alive)) for each in grown]
        shares = [np.minimum(exponent / free, NEVER) if free > 0 else np.full_like(exponent, NEVER)
                  for exponent, free in zip(exponents, room[b], strict=True)]
        columns.append(np.stack([*shares, _most(policy, b, held * (alive > 0)) / capacity], axis=-1))
    table = np.stack(columns, axis=-2)
    last = lead + (survival > 0).sum(axis=1) - 1
    rows = np.minimum(np.arange(table.shape[2]), last[:, None])
    found: Floats = np.take_along_axis(table, rows[:, None, :, None, None], axis=2)
    return found


def _held(policy: LookAheadPolicy, layout: KVLayout, first: int, lead: int, rows: int) -> Floats:
    """k at the last age of each row, or more where it must be affine in the prompt: (classes, 2, lead + rows), tokens.
    """
    ages = np.maximum(np.arange(-lead, rows) * policy.step + policy.step - 1, 0)
    prompts = np.array(policy.prompts, dtype=np.int64)
    windowed = layout.window < UNLIMITED
    if windowed:
        prompts = np.repeat(prompts[:, 1:], 2, axis=1)
    context: Ints = prompts[:, :, None] + first + ages
    exact = layout.held(context) / layout.unit
    several = (prompts[:, 0] < prompts[:, 1])[:, None, None]
    return np.where(several, context + (layout.block - 1.0) + layout.state, exact)


def _given_age(policy: LookAheadPolicy, b: int, grown: Floats, alive: Floats) -> Floats:
    """max over the block of (exp(theta k) - 1) G(a + u)/G(a)."""
    highest = _most(policy, b, grown * alive)
    if policy.step == 1:
        with np.errstate(over="ignore"):
            given: Floats = np.divide(highest, alive, out=np.zeros_like(highest), where=alive > 0)
        return given
    later = np.append(alive[..., 1:], np.zeros((*alive.shape[:-1], 1)), axis=-1)
    certain = _most(policy, b, grown)
    with np.errstate(over="ignore"):
        at_most: Floats = np.divide(highest, later, out=certain.copy(), where=later > 0)
    return np.minimum(at_most, certain)


def _most(policy: LookAheadPolicy, b: int, values: Floats) -> Floats:
    """The largest value over the rows that a block reaches from each row."""
    begin, rows = policy.points[b] // policy.step, values.shape[-1]
    end = rows  # of the reach, beyond `begin`, where the block is the last
    if b + 1 < len(policy.points):
        end = min((policy.points[b + 1] + policy.step - 2) // policy.step - begin + 1, rows)
    ahead = np.zeros((*values.shape[:-1], 2 * rows))
    ahead[..., : max(rows - begin, 0)] = values[..., min(begin, rows):]
    most: Floats = maximum_filter1d(ahead, end, axis=-1, origin=-(end // 2), mode="constant")[..., :rows]
    return most
