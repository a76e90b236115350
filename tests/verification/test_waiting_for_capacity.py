"""The fluid backlog beside runs: how long requests wait where a window brings more than a replica can serve."""

from __future__ import annotations

import numpy as np

from fluid import IterationTime, PromptType, Replica, Workload
from fluid.planning import Kind
from fluid.scheduling import backlog
from fluid.varying_rates import Schedule
from verification import Greedy, Scheduled, simulate

ONE_SERVER = Replica(10, IterationTime(0.01, 0.0), max_num_seqs=1, first_token="prefill")  # 100 requests/s
MIX = Workload([PromptType(5, 1, 100.0)])
DAY = Schedule([200.0, 400.0], [1.5, 0.5])


def test_requests_wait_as_long_as_the_fluid_says() -> None:
    """By hand: 100 s of work pile up in 200 s and are gone 200 s later, so that those who come in the first 400 s wait
    50 s in the mean, the others not; over all, 400 of 500 units of traffic, 40 s. Of 16 runs means within 4 standard
    errors, and a tenth of a second for queues that noise makes."""
    found = backlog(MIX, [Kind("one", ONE_SERVER)], DAY, [0.0, 600.0], [[1]])
    assert (round(found.largest, 6), found.worst, round(found.drained, 6)) == (100.0, 200.0, 400.0)
    over_all, late = [], []
    for replication in range(16):
        run = simulate(Greedy(), MIX, ONE_SERVER, horizon=1200.0, traffic=Scheduled(DAY), seed=3,
                       replication=replication)
        times, waits = run.arrivals.times, run.latency - 0.01
        over_all.append(waits[times < 600].mean())
        late.append(waits[(times > 198) & (times < 200)].mean())
    for measured, fluid in ((over_all, 40.0), (late, 99.5)):
        error = np.std(measured, ddof=1) / np.sqrt(len(measured))
        assert abs(np.mean(measured) - fluid) < 4 * error + 0.1
