"""The shares of a resident: certain cases by hand, and a bound whatever the prompt, the age and the moment."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from fluid.replica import KVLayout
from thresholds import LookAheadPolicy
from thresholds.look_ahead.exponents import NEVER, shares_ahead

sampled = examples(100)


def rule(prompts: tuple[int, int], survival: tuple[float, ...], points: tuple[int, ...], theta: float, step: int = 1,
         log_chance: float = -1.0) -> LookAheadPolicy:
    """One class, one theta."""
    return LookAheadPolicy((prompts,), step, (survival,), points, (theta,), (log_chance,) * len(points))


def test_a_share_is_the_exponent_over_what_is_free() -> None:
    """A prompt of 10 tokens lives in age 1 with probability 1/4: ln(1 + (exp(11 theta) - 1)/4)/(theta C - 1) ahead.

    In the coming iteration it holds 10 tokens at age 0 and 11 at age 1 for sure; at most 11 of 40 are ever held.
    """
    shares = shares_ahead(rule((10, 10), (1.0, 0.25), (0, 1), 0.1), KVLayout(), 40.0, 0, 0)[0, 0]
    free = 0.1 * 40 - 1
    assert shares[0, 0] == pytest.approx([1.0 / free, 10 / 40])
    assert shares[0, 1] == pytest.approx([math.log(1 + (math.exp(1.1) - 1) / 4) / free, 11 / 40])
    assert shares[1, 0] == pytest.approx([1.1 / free, 11 / 40])
    assert shares[1, 1] == pytest.approx([0.0, 0.0])


def test_a_theta_too_small_for_the_chance_is_never_passed() -> None:
    """theta C <= -ln eps: no batch, an empty one neither, is improbable enough by that theta."""
    shares = shares_ahead(rule((10, 10), (1.0,), (0,), 0.01, log_chance=-2.0), KVLayout(), 100.0, 0, 0)
    assert shares[0, 0, 0, 0].tolist() == [NEVER, 0.1]


@st.composite
def laws(draw: st.DrawFn) -> tuple[LookAheadPolicy, KVLayout, list[float]]:
    """A class of prompts with any law of lives, age by age, and the rule in rows of so many ages."""
    step = draw(st.sampled_from([1, 2, 3]))
    rows = draw(st.integers(1, 5))
    falls = draw(st.lists(st.floats(0.0, 1.0), min_size=step * rows - 1, max_size=step * rows - 1))
    alive = [1.0, *sorted(falls, reverse=True)]
    least = draw(st.integers(1, 40))
    points = (0, *(step * point for point in sorted(draw(st.sets(st.integers(1, 6), max_size=2)))))
    layout = KVLayout(draw(st.sampled_from([1, 4])), *draw(st.sampled_from([(2**62, 1, 0), (20, 1, 0), (20, 2, 1)])))
    return (rule((least, least + draw(st.integers(0, 30))), tuple(alive[::step]), points, draw(st.floats(0.001, 0.3)),
                 step), layout, alive)


@sampled
@given(laws(), st.floats(0.0, 1.0))
def test_the_chord_is_above_the_exponent_of_every_prompt_age_and_moment(
        law: tuple[LookAheadPolicy, KVLayout, list[float]], place: float) -> None:
    """ln E[exp(theta y) | age] from the law age by age, in windows of attention, blocks of tokens and steps of ages."""
    policy, layout, alive = law
    (least, most), theta = policy.prompts[0], policy.thetas[0]
    prompt = least + round(place * (most - least))
    capacity = 1000 / theta
    shares = shares_ahead(policy, layout, capacity, 0, 0)[0]
    high = (prompt - least) / max(most - least, 1)
    ends = [*policy.points[1:], 100]
    for age in range(len(alive)):
        if alive[age] == 0:
            continue
        for b, (begin, end) in enumerate(zip(policy.points, ends, strict=True)):
            ahead = list(range(age + begin, min(age + end, len(alive))))
            held = [float(layout.held(np.array(prompt + u))) / layout.unit for u in ahead]
            exponent = max((math.log1p(math.expm1(theta * k) * alive[u] / alive[age])
                            for k, u in zip(held, ahead, strict=True)), default=0.0)
            certain = max((k for k, u in zip(held, ahead, strict=True) if alive[u] > 0), default=0.0)
            row = (1 - high) * shares[0, age // policy.step, b] + high * shares[1, age // policy.step, b]
            assert row[0] * (1000 - 1.0) >= exponent - 1e-9
            assert row[1] * capacity >= certain - 1e-9


@pytest.mark.parametrize("step", [1, 4])
def test_a_batch_that_just_passes_overflows_no_more_often_than_allowed(step: int) -> None:
    """The most prompts of 20 tokens that pass at age 0 with eps = 0.2, lives geometric: in each iteration ahead the
    share of 4,000 batches above C is at most 0.2 (by 4 standard errors), and half as many again pass C for sure.
    """
    alive = 0.97 ** np.arange(160)
    policy = LookAheadPolicy(((20, 20),), step, (tuple(alive[::step].tolist()),), (0, 8, 40),
                             tuple((0.0005 * 2.0 ** np.arange(5)).tolist()), (math.log(0.2),) * 3)
    shares = shares_ahead(policy, KVLayout(), 6_000.0, 0, 0)[0, 0, 0]
    most = int((1 / shares.min(axis=-1)).min())
    lives = np.minimum(np.random.default_rng(1).geometric(0.03, (4_000, 3 * most // 2)), 160)

    def above(count: int, ahead: int) -> float:
        return float(np.mean((lives[:, :count] > ahead).sum(axis=1) * (20 + ahead) > 6_000))

    assert max(above(most, ahead) for ahead in range(0, 60, 5)) <= 0.2 + 4 * math.sqrt(0.2 * 0.8 / 4_000)
    assert max(above(3 * most // 2, ahead) for ahead in range(0, 60, 5)) > 0.9
