"""Layers with and without an attention window, and constant states: held(x) and read(x) against direct sums."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LONGEST, Instance, instances, replicas, sampled, workloads

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve, stage_profile
from fluid.symbolic import derive

LINE = IterationTime(0.01, 1e-6, 1e-5, 1e-4)


@st.composite
def mixtures(draw: Any) -> dict[str, Any]:
    """The fields of a replica whose layers mix, with a state or without."""
    layers = draw(st.integers(2, 64))
    return {"attention_window": draw(st.integers(1, 2 * LONGEST)), "state": draw(st.sampled_from([0, 0, 1, 7, 1000])),
            "windowed_layers": (draw(st.integers(0, layers)), layers)}


def held_by(context: int, replica: Replica, block: int) -> Fraction:
    """[ a_w ceil_b(min(x, z)) + a_g ceil_b(x) ] / a + s, word for word."""
    windowed, layers = replica.windowed_layers or (1, 1)
    window = replica.attention_window or context
    near, every = (math.ceil(x / block) * block for x in (min(context, window), context))
    return Fraction(windowed * near + (layers - windowed) * every, layers) + replica.state


@sampled
@given(workloads(least=2), replicas(), mixtures())
def test_every_stage_holds_and_reads_the_mean_over_the_layers_and_the_state(
        mix: Workload, plain: Replica, mixture: dict[str, Any]) -> None:
    """Stage by stage the exact fraction; the closed forms are the sums; the peak is the last stage, rounded up."""
    replica = replace(plain, **mixture)
    free, profile = stage_profile(mix, plain), stage_profile(mix, replica)
    for j in range(len(mix)):
        contexts = free.stage_read(j).tolist()
        held, read = ([held_by(x, replica, block) for x in contexts] for block in (replica.block, 1))
        unit = profile.layout.unit
        assert [Fraction(x, unit) for x in profile.units_held(j).tolist()] == held
        assert [Fraction(x, unit) for x in profile.units_read(j).tolist()] == read
        assert profile.stage_kv(j).tolist() == [float(x) for x in held]
        assert Fraction(int(profile.kv_units[j]), unit) == sum(held)
        assert (profile.kv_work[j], profile.kv_read[j]) == (float(sum(held)), float(sum(read)))
        assert profile.peak[j] == math.ceil(max(held))
        assert np.array_equal(profile.stage_prefill(j), free.stage_prefill(j))


def test_a_prompt_by_hand() -> None:
    """10 + 4 tokens, z = 12 in 2 of 3 layers, a state of 5: contexts 10..14 hold 15, 16, 17, 17 1/3, 17 2/3; 83 in all.

    In blocks of 8 the global layer has 16 throughout and the windowed ones too (12 takes two blocks): 21 each, 105.
    """
    mix = Workload([PromptType(10, 4, 1.0)])
    replica = Replica(99, LINE, attention_window=12, windowed_layers=(52, 78), state=5)
    assert replica.windowed_layers == (2, 3)
    profile = stage_profile(mix, replica)
    assert profile.units_held(0).tolist() == [45, 48, 51, 52, 53]
    assert (profile.kv_work.tolist(), profile.peak.tolist()) == ([83.0], [18])
    assert stage_profile(mix, replace(replica, block=8)).kv_work.tolist() == [105.0]


@sampled
@given(instances(), st.integers(1, 2 * LONGEST), st.integers(1, 64))
def test_the_limits_are_no_window_and_the_window_of_every_layer(instance: Instance, window: int, layers: int) -> None:
    """a_w = 0 is no window, a_w = a that of every layer, a window never filled none: to the last bit."""
    mix, replica = instance
    windowed = replace(replica, attention_window=window)

    def needs(some: Replica) -> tuple[Any, ...]:
        found = solve(mix, some)
        return found.kv_required, found.iteration_time, found.region.half_spaces.tolist(), found.profile.peak.tolist()

    assert needs(replace(windowed, windowed_layers=(0, layers))) == needs(replica)
    assert needs(replace(windowed, windowed_layers=(layers, layers))) == needs(windowed)
    longest = replace(replica, attention_window=2 * LONGEST, windowed_layers=(1, layers))
    assert needs(longest)[0] == pytest.approx(needs(replica)[0], rel=1e-12)


@sampled
@given(instances(), st.integers(1, LONGEST), st.integers(2, 64), st.data())
def test_more_windowed_layers_need_less_and_a_larger_state_more(instance: Instance, window: int, layers: int,
                                                                data: st.DataObject) -> None:
    mix, replica = instance
    fewer = data.draw(st.integers(0, layers - 1))
    some = [replace(replica, attention_window=window, windowed_layers=(a, layers)) for a in (fewer, fewer + 1)]
    less = [solve(mix, each) for each in some]
    assert less[1].max_rate_scale >= less[0].max_rate_scale * (1 - 1e-12)
    more = solve(mix, replace(some[0], state=data.draw(st.integers(1, 50))))
    assert more.max_rate_scale <= less[0].max_rate_scale * (1 + 1e-12)


def test_a_state_is_held_and_read_in_every_stage() -> None:
    """w and the reads grow by s in each of S = 5 stages: 57 + 5 x 100 tokens, and d1 x 500 of time."""
    mix, line = Workload([PromptType(9, 4, 1.0)]), IterationTime(1.0, 1e-3)
    free, stateful = (stage_profile(mix, Replica(999, line, state=s)) for s in (0, 100))
    assert (stateful.kv_work - free.kv_work).tolist() == [500]
    assert (stateful.time_work(line) - free.time_work(line))[0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize(("layers", "message"), [
    ((3, 2), r"windowed_layers.windowed must be a whole number of layers from 0 to 2 \(got 3\) in replica"),
    ((-1, 2), r"windowed_layers.windowed must be a whole number of layers from 0 to 2"),
    ((1, 0), "windowed_layers.layers must be a whole number of layers from 1 to 1000"),
    ((0.5, 2), "windowed_layers.windowed must be a whole number"),
    (3, "windowed_layers must be two numbers, windowed layers and all layers"),
    ((1, 2, 3), "windowed_layers must be two numbers")])
def test_layers_that_are_no_counts_are_refused(layers: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Replica(100, LINE, attention_window=4, windowed_layers=layers)


def test_windowed_layers_without_a_window_are_refused() -> None:
    with pytest.raises(InputError, match="windowed_layers must be absent where no attention_window is given"):
        Replica(100, LINE, windowed_layers=(1, 2))


@pytest.mark.parametrize("state", [-1, 0.5, "big", True])
def test_a_state_that_is_no_count_is_refused(state: Any) -> None:
    with pytest.raises(InputError, match=r"state must be a whole number of tokens from 0 to .* in replica"):
        Replica(100, LINE, state=state)


def test_the_symbolic_model_has_no_state() -> None:
    symbolic = derive()
    with pytest.raises(InputError, match="state must be 0 tokens"):
        symbolic.numeric(symbolic.load, PromptType(2, 3, 0.1), Replica(99, LINE, state=1))
