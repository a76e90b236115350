"""As many replications as a precision takes, and two policies on the same arrivals."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve
from thresholds import WaitPolicy, paced
from verification import Greedy, Interval, Run, Verification, paired, t_interval, verify
from verification.experiments.replications import Experiment
from verification.experiments.verification import MEASURES
from verification.statistics.precision import MOST_REPLICATIONS, hopeless, more, relative

CHAT = Replica(137_000, IterationTime(0.0106, 4.013e-7))
ONE = Workload([PromptType(100, 10, 20.0)])


def verified(policy: Any = None, **options: Any) -> Verification:
    return verify(policy or Greedy(), ONE, CHAT, **({"horizon": 30.0, "replications": 5, "workers": 2} | options))


def test_a_relative_half_width_leaves_room_for_the_error_of_the_mean_itself() -> None:
    """10 +- 1: mu may be 9, and 1/9 is the error in units of that; -10 +- 1 likewise; the worst interval counts."""
    assert relative([Interval(10.0, 9.0, 11.0)]) == pytest.approx(1 / 9, rel=1e-12)
    assert relative([Interval(-10.0, -11.0, -9.0)]) == pytest.approx(1 / 9, rel=1e-12)
    assert relative([Interval(10.0, 9.0, 11.0), Interval(2.0, 1.0, 3.0)]) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("gamma", [0.001, 0.02, 0.3, 0.9])
def test_the_stopping_rule_is_that_of_the_page(gamma: float) -> None:
    """h = gamma/(1 + gamma) m is reached; a thousandth more is not."""
    for factor, reached in ((0.999, True), (1.001, False)):
        half = factor * gamma / (1 + gamma) * 7.0
        assert (relative([Interval(7.0, 7.0 - half, 7.0 + half)]) <= gamma) == reached


def test_what_has_no_relative_precision_is_never_reached_and_a_constant_always() -> None:
    """A half-width beyond the mean, an interval of one value, a mean of 0; a constant, 0 too, is known exactly."""
    unknown = [Interval(1.0, -1.0, 3.0), Interval(1.0, math.nan, math.nan), Interval(0.0, -1.0, 1.0)]
    assert [relative([each]) for each in unknown] == [math.inf] * 3
    assert relative([Interval(0.0, 0.0, 0.0), Interval(5.0, 5.0, 5.0)]) == 0


def test_replications_grow_by_half_until_there_are_enough() -> None:
    assert [more(n) for n in (5, 10, 15, 23, 900, 1000, 5000)] == [8, 15, 23, 35, 1000, 1000, 5000]
    assert hopeless([Interval(1.0, 0.0, 2.0)], MOST_REPLICATIONS)
    assert hopeless([Interval(math.nan, math.nan, math.nan)], 10)
    assert not hopeless([Interval(1.0, math.nan, math.nan)], 1)


def test_a_precision_is_reached_with_no_more_replications_than_its_rule_takes() -> None:
    """At 1% from 5: the half-widths of latency and throughput meet the rule, at the size before they did not."""
    found = verified(precision=0.01)
    assert found.precision is not None
    assert found.precision.reached
    for name in ("latency", "throughput"):
        interval = getattr(found, name)
        assert interval.high - interval.mean <= 0.01 / 1.01 * interval.mean
    sizes = [5]
    while sizes[-1] < found.replications:
        sizes.append(more(sizes[-1]))
    assert sizes[-1] == found.replications > 5
    before = [t_interval(found.values(name)[: sizes[-2]]) for name in ("latency", "throughput")]
    assert relative(before) > 0.01


def test_a_longer_experiment_is_a_shorter_one_continued() -> None:
    """Replication r measures the same whether it was among the first or added later; none is simulated twice."""
    grown = verified(precision=0.01)
    asked = verified(replications=grown.replications)
    for measure in ("evictions", "busy_share"):  # these do not depend on the warm-up, found on the first 5 or 10
        assert np.array_equal(grown.values(measure), asked.values(measure))
    same = verified(replications=5)
    assert same.warm_up == grown.warm_up
    for measure in MEASURES:
        assert np.array_equal(grown.values(measure)[:5], same.values(measure))


def test_no_replication_is_simulated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The replications asked for, round after round, are 0, 1, 2, .. up to the last."""
    asked: list[int] = []
    each = Experiment.each

    def watched(self: Experiment, replications: range, *rest: Any, **options: Any) -> Any:
        asked.extend(replications)
        return each(self, replications, *rest, **options)

    monkeypatch.setattr(Experiment, "each", watched)
    assert asked == []
    found = verified(precision=0.01)
    assert asked == list(range(found.replications))


def test_a_precision_out_of_reach_ends_at_the_maximum_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.001% would take 10^6 times the replications of 1%: the answer keeps what was found."""
    monkeypatch.setattr("verification.statistics.precision.MOST_REPLICATIONS", 12)
    found = verified(horizon=5.0, precision=1e-5)
    assert found.precision is not None
    assert (found.replications, found.precision.asked, found.precision.reached) == (12, 1e-5, False)
    assert found.precision.found == relative([found.latency, found.throughput]) > 1e-5


def test_a_precision_that_nothing_can_reach_ends_at_once() -> None:
    """Prompts that never fit have no latency: replications add nothing."""
    found = verify(Greedy(), ONE, replace(CHAT, kv_capacity=105), horizon=10.0, replications=5, precision=0.02)
    assert found.precision is not None
    assert (found.replications, found.precision.reached, math.isinf(found.precision.found)) == (5, False, True)


def test_fewer_than_five_replications_know_no_precision() -> None:
    found = verified(replications=1, precision=0.5)
    assert found.replications >= 5


def test_progress_counts_on_through_the_rounds() -> None:
    told: list[tuple[int, int]] = []
    found = verified(precision=0.01, progress=lambda done, of: told.append((done, of)))
    assert [done for done, _ in told] == list(range(1, found.replications + 1))
    assert [of for _, of in told] == sorted(of for _, of in told)


@pytest.mark.parametrize("precision", [0.0, 1.0, -0.1, math.nan, math.inf])
def test_a_precision_is_a_share(precision: float) -> None:
    with pytest.raises(InputError, match=r"^precision must be a share above 0 and below 1"):
        verified(precision=precision)


def test_runs_are_let_go_once_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 replications at most the 10 whose mean path gives the warm-up, and those in the making, exist at once."""
    alive, most, made = weakref.WeakSet[Run](), [0], [0]
    each = Experiment.each

    def watched(self: Experiment, replications: range, keep: Any, record: bool) -> Any:
        def kept(run: Run) -> Any:
            alive.add(run)
            made[0] += 1
            gc.collect()
            most[0] = max(most[0], len(alive))
            return keep(run)

        return each(self, replications, kept, record)

    monkeypatch.setattr(Experiment, "each", watched)
    gc.freeze()  # what was there before need not be looked through 40 times
    try:
        found = verified(replications=40, horizon=5.0)
    finally:
        gc.unfreeze()
    assert made[0] == len(found.summaries) == 40
    assert most[0] <= 10 + 3


def test_the_difference_of_a_policy_to_itself_is_nothing() -> None:
    found = verified()
    assert all(paired(found, found, measure) == (0.0, 0.0, 0.0) for measure in MEASURES)
    assert not paired(found, found).significant


def test_a_difference_is_the_mean_over_replications_with_its_own_interval() -> None:
    """WAIT, which lets cohorts of 4 gather, is slower; the interval of the differences, worked out here."""
    ours, theirs = verified(), verified(WaitPolicy((4,)))
    gaps = theirs.values("latency") - ours.values("latency")
    found = paired(ours, theirs, "latency")
    half = 2.7764451051977987 * gaps.std(ddof=1) / math.sqrt(5)  # t, 4 degrees, 97.5%
    assert found == pytest.approx((gaps.mean(), gaps.mean() - half, gaps.mean() + half), rel=1e-12)
    assert found.significant
    assert found.mean == pytest.approx(theirs.latency.mean - ours.latency.mean, rel=1e-12)
    assert paired(theirs, ours, "latency").mean == -found.mean


def test_common_arrivals_make_small_differences_visible() -> None:
    """Two policies that admit at once nearly always: var d = var x + var y - 2 cov, so with correlation r of equal
    variances the half-width is sqrt(1 - r) of what independent runs would give; a third takes r = 0.89.
    """
    mix = Workload([PromptType(512, 200, 1.0)])
    mix = mix.scaled(0.85 * solve(mix, CHAT).max_rate_scale)
    one, two = (verify(policy, mix, CHAT, horizon=300.0, replications=8, workers=2)
                for policy in (Greedy(0.01), paced(mix, CHAT)))
    gap = paired(one, two, "latency")
    apart = math.hypot(one.latency.high - one.latency.mean, two.latency.high - two.latency.mean)
    assert gap.high - gap.mean < apart / 3


@pytest.mark.parametrize(("options", "field"), [
    ({"horizon": 31.0}, "horizon"), ({"seed": 1}, "seed"), ({"replications": 6}, "replications")])
def test_policies_on_different_arrivals_are_not_compared(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"^{field} must be the same for both policies"):
        paired(verified(), verified(**options))


def test_policies_on_different_workloads_are_not_compared() -> None:
    other = verify(Greedy(), ONE.scaled(1.5), CHAT, horizon=30.0, replications=5)
    with pytest.raises(InputError, match=r"^arrivals must be the same for both policies"):
        paired(verified(), other)


def test_a_measure_nobody_took_is_refused() -> None:
    with pytest.raises(InputError, match=r"^measure must be "):
        paired(verified(), verified(), "joy")


def test_one_replication_gives_a_difference_and_no_interval() -> None:
    found = paired(verified(replications=1), verified(WaitPolicy((2,)), replications=1))
    assert found.mean > 0
    assert math.isnan(found.low)
    assert not found.significant
