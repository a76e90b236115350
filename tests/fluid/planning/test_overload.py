"""Whom to admit: the knapsack of one half-space, fairness by hand, certificates."""

from __future__ import annotations

import numpy as np
import pytest

from fluid import InputError, IterationTime, PromptType, Replica, Workload, stability_region
from fluid.planning import Kind, admit, most_demand

REPLICA = Replica(60_000, IterationTime(0.012, 4e-7, 5e-5, 5e-5))
KINDS = [Kind("big", Replica(500_000, IterationTime(0.009, 1.5e-7, 2e-5, 2e-5)), 4.0), Kind("small", REPLICA, 1.2)]
MIX = Workload([PromptType(200, 1000, 20.0, "chat"), PromptType(8000, 50, 10.0, "document"),
                PromptType(50, 50, 300.0, "short")])
ALL = ("requests", "tokens", "max-min", "proportional")


def knapsack(values: np.ndarray, work: np.ndarray, rates: np.ndarray, room: float) -> np.ndarray:
    """The rates admitted by value over work, the last in part."""
    admitted = np.zeros(len(rates))
    for j in np.argsort(-values / work):
        admitted[j] = min(rates[j], room / work[j])
        room -= admitted[j] * work[j]
    return admitted


@pytest.mark.parametrize("values", [None, [1.0, 1.0, 1.0], [30.0, 5.0, 0.1], [0.5, 300.0, 1.0]])
@pytest.mark.parametrize("objective", ["requests", "tokens"])
def test_with_one_half_space_it_is_a_fractional_knapsack(objective: str, values: list[float] | None) -> None:
    """One line, memory above all: types by value over load, the last in part."""
    h = stability_region(MIX, REPLICA).half_spaces[0]
    worth = np.ones(3) if values is None else np.array(values)
    u = worth * MIX.output_tokens if objective == "tokens" else worth
    found = admit(MIX, [KINDS[1]], [2], objective, values)
    assert found.admitted == pytest.approx(knapsack(u, h, MIX.rates, 2.0), rel=1e-6, abs=1e-9)
    assert found.check().holds(1e-9)


def test_with_one_half_space_proportional_shares_fall_with_the_work() -> None:
    """s_j = min(1, v_j / (mu lambda_j h_j)) with mu such that all of the replica is used: found by bisection."""
    h, values = stability_region(MIX, REPLICA).half_spaces[0], np.array([1.0, 2.0, 1.0])
    loads, low, high = MIX.rates * h, 1e-6, 1e6
    for _ in range(200):
        toll = np.sqrt(low * high)
        low, high = (toll, high) if np.minimum(1, values / (toll * loads)) @ loads > 1 else (low, toll)
    found = admit(MIX, [KINDS[1]], [1], "proportional", values)
    assert found.shares == pytest.approx(np.minimum(1, values / (low * loads)), rel=1e-3)
    assert found.check().holds()


def test_max_min_gives_every_type_the_share_that_is_carried() -> None:
    """With equal values, and every type needing every kind, all shares are the largest factor."""
    for counts in ([1, 0], [1, 2]):
        found = admit(MIX, KINDS, counts, "max-min")
        assert found.shares == pytest.approx(np.full(3, most_demand(MIX, KINDS, counts).factor), rel=1e-6)


def test_max_min_raises_those_that_can_have_more() -> None:
    """Long prompts fit the big kind only; short ones are no worse off for it, and have all that is left."""
    mix = Workload([PromptType(100_000, 10, 40.0, "long"), PromptType(100, 100, 40.0, "short")])
    found = admit(mix, KINDS, [1, 10], "max-min")
    alone = Workload([PromptType(100_000, 10, 40.0, "long")])
    assert found.shares[0] == pytest.approx(most_demand(alone, KINDS, [1, 0]).factor, rel=1e-6)
    assert found.shares[1] == pytest.approx(1.0, rel=1e-6)
    assert found.check().holds()


@pytest.mark.parametrize("objective", ALL)
@pytest.mark.parametrize("counts", [[1, 0], [0, 1], [1, 2], [20, 20]])
def test_every_admission_has_a_certificate(objective: str, counts: list[int]) -> None:
    """Feasible to rounding, value and bound alike; where all fit, all are admitted."""
    found = admit(MIX, KINDS, counts, objective, [3.0, 1.0, 2.0] if objective in ALL[:2] else None)
    assert found.check().holds()
    if counts[0] == 20:
        assert found.shares == pytest.approx(np.ones(3), rel=1e-6)


def test_a_type_that_fits_nowhere_is_not_admitted_and_hinders_nobody() -> None:
    """With every objective, a share of 0 and a certificate for the others; alone, nothing is admitted."""
    mix = Workload([PromptType(90_000, 10, 5.0), PromptType(100, 100, 4.0)])
    for objective in ALL:
        found = admit(mix, [KINDS[1]], [1], objective)
        assert found.shares == pytest.approx([0.0, 1.0], rel=1e-6)
        assert found.check().holds()
    alone = admit(Workload([PromptType(90_000, 10, 5.0)]), [KINDS[1]], [1])
    assert (alone.value, alone.bound) == (0.0, 0.0)


def test_a_type_is_worth_what_it_brings_less_its_toll() -> None:
    """More of a type that is admitted whole raises the value by u - mu; of one in part or not at all, by nothing."""
    found = admit(MIX, KINDS, [1, 0])
    for j in range(3):
        step = np.zeros(3)
        step[j] = 1e-3 * MIX.rates[j]
        up, down = (admit(MIX.at_rates(MIX.rates + sign * step), KINDS, [1, 0]).value for sign in (1, -1))
        assert found.worth[j] == pytest.approx((up - down) / (2 * step[j]), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("objective", "counts", "values"), [
    ("profit", [1, 1], None), ("requests", [0, 0], None), ("requests", [1, 1], [1.0, 2.0]),
    ("requests", [1, 1], [1.0, 0.0, 1.0]), ("tokens", [1, 1], [1.0, np.inf, 1.0])])
def test_bad_questions_are_refused(objective: str, counts: list[int], values: list[float] | None) -> None:
    """An unknown objective, no replica, values that are missing, zero or infinite."""
    with pytest.raises(InputError):
        admit(MIX, KINDS, counts, objective, values)
