"""Instances, the laws they are drawn from, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fluid import InputError
from verification.rounds import Instance, all_at_once, over_time, overestimated, two_sided, underestimated


def test_a_request_that_never_fits_is_refused() -> None:
    """s + o is a request's largest KV: above M nothing can serve it."""
    with pytest.raises(InputError, match=r"prompts \+ outputs must be at most the memory of 6 tokens \(got '4 \+ 3'\)"):
        Instance([0, 0], [1, 4], [2, 3], memory=6)


@pytest.mark.parametrize(("field", "change"), [
    ("arrivals", {"arrivals": [1, 0]}), ("arrivals", {"arrivals": [-1, 0]}), ("arrivals", {"arrivals": [0.5, 1]}),
    ("prompts", {"prompts": [-1, 1]}), ("outputs", {"outputs": [0, 1]}), ("predicted", {"predicted": [0, 1]}),
    ("prompts", {"prompts": [[1, 1]]}), ("outputs", {"outputs": ["a", "b"]}), ("memory", {"memory": 0}),
    ("arrivals, prompts, outputs and predicted", {"outputs": [1]}), ("prompts", {"prompts": [np.nan, 1]}),
])
def test_what_is_no_instance_is_refused_by_name(field: str, change: dict[str, object]) -> None:
    """Every message names the field."""
    given = {"arrivals": [0, 1], "prompts": [1, 1], "outputs": [1, 1], "memory": 5, **change}
    with pytest.raises(InputError) as error:
        Instance(**given)
    assert error.value.field == field


def test_an_instance_cannot_be_changed() -> None:
    """Neither through its arrays nor through those it was made of."""
    arrivals = np.array([0, 1])
    instance = Instance(arrivals, [1, 1], [1, 1], memory=5)
    arrivals[0] = 1
    assert instance.arrivals.tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        instance.outputs[0] = 2


def test_no_request_at_all_is_an_instance() -> None:
    """Its horizon is 0."""
    assert Instance([], [], [], memory=5).horizon == 0


@pytest.mark.parametrize("draw", [all_at_once, over_time])
def test_instances_are_drawn_within_their_ranges(draw) -> None:
    """M in 30..50, s in 1..5, o in 1..M - s; every value occurs among 300 instances; a seed says it all."""
    drawn = [draw(seed) for seed in range(300)]
    assert {i.memory for i in drawn} == set(range(30, 51))
    assert set(np.concatenate([i.prompts for i in drawn]).tolist()) == set(range(1, 6))
    assert all(i.outputs.min() >= 1 and (i.prompts + i.outputs).max() <= i.memory for i in drawn)
    assert all(np.array_equal(draw(seed).outputs, drawn[seed].outputs) for seed in range(5))


def test_arrivals_are_those_of_the_two_models() -> None:
    """40 to 60 at once; over time a request a round on average (the mean of the rates), in 40 to 60 rounds.

    The number of requests of the second model has mean E T E lambda = 50 and variance E(T lambda) + Var(T lambda),
    which is 50 + (E T^2 E lambda^2 - 2500) = 50 + (2500 + 440/12)(1 + 1/12) - 2500 = 298.1.
    """
    assert {len(all_at_once(seed)) for seed in range(400)} == set(range(40, 61))
    drawn = [over_time(seed) for seed in range(400)]
    assert np.mean([len(i) for i in drawn]) == pytest.approx(50, abs=4 * np.sqrt(298.1 / 400))
    assert max(i.arrivals.max() for i in drawn) <= 59


def test_equal_prompts_are_equal() -> None:
    """One s for all requests of an instance, not the same in all instances."""
    found = [set(all_at_once(seed, equal_prompts=True).prompts.tolist()) for seed in range(40)]
    assert {len(each) for each in found} == {1}
    assert set.union(*found) == set(range(1, 6))


def test_predictions_keep_to_their_side() -> None:
    """o..2 o, o/3..o and 0.4 o..1.6 o, all between 1 and M - s."""
    for seed in range(100):
        instance = all_at_once(seed)
        o, room = instance.outputs, instance.memory - instance.prompts
        above, below = overestimated(instance, 2.0, seed).predicted, underestimated(instance, 3.0, seed).predicted
        around = two_sided(instance, 0.6, seed).predicted
        assert np.all((o <= above) & (above <= np.minimum(2 * o, room)))
        assert np.all((o <= 3 * below) & (below <= o))
        assert np.all((5 * around >= 2 * o) & (5 * around <= 8 * o) & (around <= room) & (around >= 1))


def test_products_that_should_be_whole_are_whole() -> None:
    """1.15 * 20 comes out as 22.999...: 23 must occur among the predictions of 20 with epsilon = 0.15, as 17 does."""
    many = Instance(np.zeros(2000), np.zeros(2000), np.full(2000, 20), memory=100)
    assert set(two_sided(many, 0.15, 0).predicted.tolist()) == set(range(17, 24))


@pytest.mark.parametrize("call", [lambda i: overestimated(i, 0.9, 0), lambda i: underestimated(i, 0.5, 0),
                                  lambda i: two_sided(i, 1.0, 0), lambda i: two_sided(i, -0.1, 0)])
def test_errors_outside_their_range_are_refused(call) -> None:
    """A ratio is at least 1, a relative error in [0, 1)."""
    with pytest.raises(InputError):
        call(all_at_once(0))
