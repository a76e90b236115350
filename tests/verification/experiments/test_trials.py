"""Short trials: regret by hand, the same arrivals for all, and who wins where it is known who does."""

from __future__ import annotations

import math

import pytest

from fluid import IterationTime, PromptType, Replica, Workload, solve
from thresholds import PacedPolicy, paced
from verification import Greedy, Interval, Trial, Trials, VllmV1, try_out
from verification.experiments.trials import flags, watermarks

COSTLY = Replica(137_000, IterationTime(0.0106, 4.013e-7, 58.5e-6), block=16, first_token="prefill", max_num_seqs=256)
LONG = Workload([PromptType(512, 1000, 1.0)])
QUICK = {"horizon": 60.0, "replications": 2}


def trial(latency: float, tail: float) -> Trial:
    """A trial with these delays."""
    delays = {"latency": latency, "latency_p99": tail, "ttft": 0.1}
    known = {name: Interval(value, value, value) for name, value in delays.items()}
    return Trial(Greedy(), Interval(1.0, 1.0, 1.0), known, Interval(0.0, 0.0, 0.0))


def test_regret_is_the_larger_share_of_what_is_tolerated() -> None:
    """1% in the mean is half of what is, 10% in the tail twice as much."""
    found = Trials((trial(1.01, 2.2), trial(1.0, 2.0)))
    assert found.regret(found.all[0]) == pytest.approx(2.0)
    assert found.regret(found.all[1]) == 0.0
    assert found.best is found.all[1]


@pytest.mark.parametrize(("delays", "best"), [
    ([(1.019, 2.09), (1.0, 2.0)], 0),  # tolerable: nothing is changed
    ([(1.03, 2.0), (1.01, 2.0), (1.0, 2.0)], 1),  # the first that is
    ([(1.0, 2.32), (1.06, 2.0), (1.05, 2.2)], 1),  # regrets 3.2, 3, 2.5: 3 is within a quarter of the least, 3.2 not
])
def test_the_first_that_is_hardly_beaten_is_taken(delays: list[tuple[float, float]], best: int) -> None:
    found = Trials(tuple(trial(*each) for each in delays))
    assert found.best is found.all[best]


def test_where_nothing_was_measured_nothing_is_changed() -> None:
    found = Trials((trial(math.nan, math.nan), trial(math.nan, math.nan)))
    assert found.best is found.engine


def test_all_see_the_same_arrivals_and_none_is_tried_twice() -> None:
    """Two policies that are one in effect measure the same; budgets go down to the cap."""
    mix = Workload([PromptType(60, 20, 5.0)])
    found = try_out([PacedPolicy((100,), (1,))], mix, COSTLY, also=[VllmV1(), PacedPolicy((200,), (1,))], **QUICK)
    assert [type(each.policy) for each in found.all].count(VllmV1) == 8
    assert found.all[-1].latency == found.all[-2].latency
    assert all(each.policy.max_num_batched_tokens >= 256 for each in found.all if isinstance(each.policy, VllmV1))


def test_long_outputs_near_the_edge_want_windows() -> None:
    """512 + 1000 with prefills that cost time: at 60% there is nothing to gain, at 98% V1 preempts, windows do not."""
    edge = solve(LONG, COSTLY).max_rate_scale
    calm = try_out([paced(LONG.scaled(0.6 * edge), COSTLY)], LONG.scaled(0.6 * edge), COSTLY, horizon=2000.0)
    assert calm.best is calm.engine
    mix = LONG.scaled(0.98 * edge)
    near = try_out([paced(mix, COSTLY)], mix, COSTLY, horizon=4000.0)
    assert near.best is near.all[-1]
    assert near.best.evictions_per_hour.mean == 0
    assert {each.policy.watermark for each in near.all[:-1]} == {0.0, 0.01, 0.02, 0.05, 0.1, 0.15}
    assert math.isfinite(near.engine.latency_p99.mean)


def test_flags_say_what_is_not_as_it_comes() -> None:
    own = VllmV1(2048)
    assert flags(own, own) == ""
    assert flags(VllmV1(1024, 0.05), own) == "--max-num-batched-tokens 1024 --watermark 0.05"
    assert [each.watermark for each in watermarks(own)][:3] == [0.0, 0.01, 0.02]
    assert flags(PacedPolicy((1,), (1,)), own) == ""
