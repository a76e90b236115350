"""Heavy-traffic experiments: the theorem's slopes, a known queue, and work that is interrupted and goes on."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fluid import IterationTime, PromptType, Replica, Workload
from fluid.errors import FluidwaitError, InputError
from thresholds import WaitPolicy, balanced_rates
from verification import Arrivals, Greedy, simulate
from verification.asymptotics import experiment, observe, scaled, slope
from verification.reference.system import Request, System

UNIT = Replica(1000, IterationTime(1.0, 0.0))  # an iteration takes a second
ONE = WaitPolicy((1,))
FEW = Workload([PromptType(1, 1, 1.0)])
DECADES = np.logspace(2, 4, 9)


def at(load: float) -> Workload:
    """Prompts of two stages at a rate that one a second can serve, or not."""
    return FEW.at_rates([load])


def test_what_is_observed_of_a_run_is_what_its_definition_says() -> None:
    """Batches of two of five prompts at 0, 1, 2, 3, 4 over [0, 6): two enter at 1, two at 3, the last one waits. Its
    wait counts as the 2 s that have passed, and one waiting prompt of 3 tokens is a gap of 3 over 6 s x 1/s x 3.
    """
    mix = Workload([PromptType(1, 3, 1.0)])
    arrivals = Arrivals(np.arange(5.0), [0] * 5)
    run = simulate(WaitPolicy((2,)), mix, UNIT, arrivals=arrivals)
    cut = type(run)(**{**{name: getattr(run, name) for name in run.__dataclass_fields__}, "end_time": 6.0})
    seen = observe(cut, mix, zeta=10.0)
    assert seen.gap == pytest.approx(1 / 6)
    assert seen.wait == pytest.approx(10.0 * (1 + 0 + 1 + 0 + 2) / 5)
    assert seen.evictions == 0


def test_types_that_are_rejected_are_left_out() -> None:
    """Prompts too large for the cache change no measure; where there are no others all measures are 0."""
    small, large = PromptType(1, 3, 1.0), PromptType(2000, 3, 5.0)
    alone = simulate(WaitPolicy((2,)), Workload([small]), UNIT, arrivals=Arrivals(np.arange(5.0), [0] * 5))
    both = simulate(WaitPolicy((2, 2)), Workload([small, large]), UNIT,
                    arrivals=Arrivals([0.0, 1.0, 1.0, 2.0, 3.0, 4.0], [0, 0, 1, 0, 0, 0]))
    assert observe(both, Workload([small, large]), 1.0) == observe(alone, Workload([small]), 1.0)
    none = simulate(WaitPolicy((2,)), Workload([large]), UNIT, arrivals=Arrivals([0.0, 1.0], [0, 0]))
    assert set(observe(none, Workload([large]), 1.0)) == {0.0}


def test_the_slopes_of_the_theorem_at_the_boundary_and_inside() -> None:
    """n = n*: gap -1/2, wait 1/2; with a slack of a quarter -1 and 0: each within 0.05, and known so well."""
    kept = {"gap": (-0.5, -1.0), "wait": (0.5, 0.0)}
    for place, slack in enumerate((0.0, 0.25)):
        rates = balanced_rates(ONE, FEW, UNIT, slack=slack)
        found = experiment(ONE, rates, UNIT, DECADES, 4.0, 60, width=0.05, seed=1)
        for measure, expected in kept.items():
            there = slope(found, measure)
            assert there.half_width <= 0.05
            assert abs(there.value.mean - expected[place]) < 0.05 + there.half_width


def test_the_wait_of_a_known_queue() -> None:
    """n = 1 and a constant iteration time make an M/D/1 queue: wait rho/(2 (1 - rho)) = 1.5 s at load 3/4, whatever
    the scale; four standard errors over 60 replications of 4,000 services at three scales.
    """
    found = experiment(ONE, at(0.75), UNIT, [0.5, 1.0, 7.0], 4000.0, 60, seed=2)
    for row in found.of("wait"):
        assert abs(row.mean() - 1.5) < 4 * row.std(ddof=1) / math.sqrt(len(row)) + 0.005  # it starts empty
    for measure in ("ttft", "latency"):  # the decode follows at the next prompt's start: the time in between is 1/rate
        assert np.all(found.of(measure) > found.of("wait"))


def test_a_point_is_the_same_whatever_other_points_there_are() -> None:
    """Streams belong to (seed, zeta, T), so a grid may grow."""
    alone = experiment(ONE, at(0.9), UNIT, 3.0, 200.0, 4)
    among = experiment(ONE, at(0.9), UNIT, [9.0, 3.0, 1.0], [200.0, 50.0], 4)
    np.testing.assert_array_equal(alone.values[0], among.values[among.points.index(alone.points[0])])
    assert among.sizes.tolist() == sorted(among.sizes.tolist())
    by_hand = simulate(ONE, *scaled(at(0.9), UNIT, 3.0), horizon=200.0, seed=alone.points[0].seed(0), replication=2)
    np.testing.assert_array_equal(alone.values[0, 2], observe(by_hand, at(2.7), 3.0))


def test_the_number_of_workers_changes_nothing() -> None:
    """One thread or two."""
    one, two = (experiment(ONE, at(0.9), UNIT, [1, 2], 100.0, 6, workers=workers) for workers in (1, 2))
    np.testing.assert_array_equal(one.values, two.values)


class Interrupt:
    """Progress that ends the work after some steps, and counts them."""

    def __init__(self, after: int | None = None) -> None:
        self.after, self.totals = after, [0]

    def __call__(self, done: int, total: int) -> None:
        self.totals.append(total)
        if done == self.after:
            raise KeyboardInterrupt


def test_an_interrupted_experiment_goes_on_where_it_was(tmp_path: Path) -> None:
    """Ctrl-C after 17 of 40: they are kept, 23 are missing; then more points and replications add what is missing."""
    plain = experiment(ONE, at(0.9), UNIT, [1, 2, 4, 8], 50.0, 10, seed=4)
    with pytest.raises(KeyboardInterrupt):
        experiment(ONE, at(0.9), UNIT, [1, 2, 4, 8], 50.0, 10, seed=4, folder=tmp_path, progress=Interrupt(17))
    rest = Interrupt()
    again = experiment(ONE, at(0.9), UNIT, [1, 2, 4, 8], 50.0, 10, seed=4, folder=tmp_path, progress=rest)
    assert max(rest.totals) == 23
    np.testing.assert_array_equal(again.values, plain.values)
    more = Interrupt()
    experiment(ONE, at(0.9), UNIT, [1, 2, 4, 8, 16], 50.0, 12, seed=4, folder=tmp_path, progress=more)
    assert max(more.totals) == 4 * 2 + 12
    nothing = Interrupt()
    experiment(ONE, at(0.9), UNIT, [16], 50.0, 12, seed=4, folder=tmp_path, progress=nothing)
    assert max(nothing.totals) == 0


@pytest.mark.parametrize(("policy", "load", "seed", "what"), [
    (ONE, 0.9, 5, "seed 4 there, 5 here"), (ONE, 0.8, 4, "another system"), (Greedy(), 0.9, 4, "policy"),
])
def test_a_folder_answers_one_question(tmp_path: Path, policy: object, load: float, seed: int, what: str) -> None:
    """Another seed, system or policy is refused in one line that says which."""
    experiment(ONE, at(0.9), UNIT, [1, 2], 50.0, 2, seed=4, folder=tmp_path)
    with pytest.raises(FluidwaitError, match=what):
        experiment(policy, at(load), UNIT, [1, 2], 50.0, 2, seed=seed, folder=tmp_path)  # type: ignore[arg-type]


def test_evictions_are_counted_for_each_arrival() -> None:
    """Greedy admission of requests that outgrow the cache evicts; WAIT never does."""
    mix = Workload([PromptType(10, 30, 2.0)])
    found = experiment(Greedy(watermark=0.0), mix, Replica(100, IterationTime(0.1, 0.0)), [1, 2, 4], 100.0, 5)
    assert np.all(found.of("evictions").mean(axis=1) > 0)
    assert not experiment(ONE, at(0.9), UNIT, 1.0, 100.0, 2).of("evictions").any()


def test_a_result_is_a_table() -> None:
    """A row for each point, a mean and its interval for each measure, with units."""
    found = experiment(ONE, at(0.9), UNIT, [1, 2], 50.0, 3)
    frame = found.to_frame()
    assert frame["zeta T (s)"].tolist() == [50.0, 100.0]
    assert frame["wait (s)"][1] == pytest.approx(found.of("wait")[1].mean())
    assert np.all(frame["gap low"] <= frame["gap"])
    assert "WAIT from empty, 3 replications" in found._repr_html_()


@pytest.mark.parametrize(("keywords", "what"), [
    ({"zetas": []}, "zetas"), ({"zetas": [0.0]}, "zetas"), ({"horizons": -1.0}, "horizons"),
    ({"replications": 1}, "replications"),
    ({"zetas": [1, 2, 4], "replications": 9, "width": 0.1}, "replications"),
    ({"width": 0.0}, "width"), ({"width": 0.1}, "width"),
    ({"of": ("speed",)}, "of"), ({"seed": -1}, "seed"), ({"horizons": 1e12}, "horizon"),
])
def test_arguments_that_cannot_be_used_are_refused(keywords: dict[str, object], what: str) -> None:
    """Each by its name."""
    given = {"zetas": [1, 2], "horizons": 50.0, "replications": 10, **keywords}
    if keywords == {"width": 0.0}:
        given["zetas"] = [1, 2, 4]
    with pytest.raises(InputError, match=what):
        experiment(ONE, at(0.9), UNIT, **given)  # type: ignore[arg-type]


def test_a_measure_without_a_slope_asks_for_more_replications() -> None:
    """Rare arrivals leave no gap in 10 replications of a point: more are added, to 1,000 where none ever helps."""
    found = experiment(ONE, at(0.1), UNIT, [1, 2, 4], 2.0, 10, width=50.0, of="gap")
    assert found.replications > 10
    assert np.all(found.of("gap").mean(axis=1) > 0)
    assert experiment(ONE, at(0.01), UNIT, [1, 2, 4], 5.0, 10, width=1.0, of="evictions").replications == 1000


class OneByOne:
    """A rule of one's own, whose name says nothing of its code."""

    by_type = False

    def __repr__(self) -> str:
        return "OneByOne()"

    def batch(self, system: System) -> list[Request]:
        """The residents; when there are none, the next prompt."""
        if system.waiting and not system.residents:
            system.enter(system.waiting[0])
        return list(system.residents)


def test_rows_of_a_rule_of_ones_own_are_not_kept(tmp_path: Path) -> None:
    """Its code may change and its name stay: it runs, and a folder is refused."""
    assert experiment(OneByOne(), at(0.1), UNIT, 1.0, 20.0, 2).replications == 2
    with pytest.raises(InputError, match=r"^folder must be absent"):
        experiment(OneByOne(), at(0.1), UNIT, 1.0, 20.0, 2, folder=tmp_path)
