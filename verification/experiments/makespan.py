r"""How long a batch of requests takes: the makespan, and a time that no policy can be faster than.

All requests are there at time 0, their types drawn with the shares of the rates, independently in each replication. The
makespan is the moment of the last completion. With counts n_j of the types drawn, an iteration holds at most C tokens
of KV, takes at most B sequences and computes at most q tokens, so that at least
I = max(sum n_j w_j / C, sum n_j S_j / B, sum n_j t_j / q) iterations are run, and on every line of the iteration time
they take

    makespan >= max_i ( d0_i I + sum_j n_j c_ij )

which is 1 over the edge of the region for arrival rates n_j. It counts no ramp: batches are not full at the end.
Source: mathematics, section 15.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluid import Replica, Workload, solve
from fluid.arrays import Floats, Ints
from fluid.progress import Progress
from fluid.tables import Tabular, duration, figure, plain
from verification.experiments.machine import room, threads
from verification.experiments.replications import MOST_KEPT, checked, told
from verification.experiments.threads import in_order
from verification.policies import Policy
from verification.run import Run
from verification.simulation import simulate
from verification.statistics.intervals import Interval, positive_interval
from verification.traffic.arrivals import Arrivals
from verification.traffic.batch import Batch
from verification.traffic.predicted_lengths import Predictor
from verification.traffic.processes import Predicted


@dataclass(frozen=True, eq=False)
class Makespan(Tabular):
    """What replications of a batch measured; as a table, a row for each of them. Seconds, output tokens/s.

    `seconds` is the makespan of each, `least` the time that no policy beats, `throughput` the output tokens of
    completed requests over the makespan, `latency` the mean over them, `unfinished` those that never completed:
    rejected, or left waiting for a cohort. Arrays have shape (replications,).
    """

    policy: Policy
    requests: int
    seed: int
    seconds: Floats
    least: Floats
    throughput: Floats
    latency: Floats
    evictions: Ints
    unfinished: Ints

    def __repr__(self) -> str:
        return f"Makespan({self.caption()})"

    def columns(self) -> dict[str, Sequence[object] | Floats | Ints]:
        """The replications."""
        return {"makespan, s": self.seconds, "at least, s": self.least, "tokens/s": self.throughput,
                "latency, s": self.latency, "evictions": self.evictions, "unfinished": self.unfinished}

    def caption(self) -> str:
        """The mean makespan, and how near the bound it is."""
        return (f"{getattr(self.policy, 'name', type(self.policy).__name__)}: {self.requests:,} requests in "
                f"{duration(float(self.seconds.mean()))}, {figure(self.ratio)} times what nobody can beat")

    def to_dict(self) -> dict[str, Any]:
        """Return means with their intervals at 95% (without a width for one replication), and counts, in plain values.
        """
        each = {name: self.interval(name)._asdict() for name in ("seconds", "throughput", "latency", "evictions")}
        return plain({  # type: ignore[no-any-return]
            "policy": getattr(self.policy, "name", type(self.policy).__name__), "requests": self.requests,
            "replications": len(self.seconds), "seed": self.seed, "makespan": each.pop("seconds"), **each,
            "least_makespan": float(self.least.mean()), "ratio": self.ratio, "unfinished": int(self.unfinished.sum())})

    def interval(self, measure: str) -> Interval:
        """Return the mean of a column over the replications with its interval at 95%."""
        return positive_interval(np.asarray(getattr(self, measure), dtype=np.float64))

    @property
    def ratio(self) -> float:
        """The mean makespan over the mean of what no policy can beat; at least 1 where all requests are done."""
        return float(self.seconds.mean() / self.least.mean())

    @property
    def done(self) -> bool:
        """Whether every request completed in every replication."""
        return not self.unfinished.any()


def makespan(policy: Policy, workload: Workload, replica: Replica, requests: int, *, replications: int = 10,
             seed: int = 0, workers: int = -1, predictor: Predictor | None = None,
             progress: Progress | None = None) -> Makespan:
    """Simulate so many requests that are all there at time 0, types drawn with the shares of the rates, to the end.

    `predictor` is the model of the error of predicted output lengths, None where they are known. Raises InputError as
    `simulate` does.

    >>> from fluid import IterationTime, PromptType
    >>> from verification import Greedy
    >>> replica = Replica(10_000, IterationTime(1.0, 0.0), max_num_seqs=2)
    >>> found = makespan(Greedy(0.0), Workload([PromptType(5, 4, 1.0)]), replica, 6, replications=2)
    >>> found.seconds.tolist(), found.least.tolist()                    # three batches of two, 1 + 4 iterations each
    ([15.0, 15.0], [15.0, 15.0])
    """
    traffic = Batch(requests) if predictor is None else Predicted(predictor, Batch(requests))

    def one(replication: int) -> tuple[float, ...]:
        arrivals = traffic.draw(workload, 0.0, seed, replication)
        run = simulate(policy, workload, replica, arrivals=arrivals)
        return (run.end_time, least_makespan(arrivals, workload, replica), run.throughput, _mean_latency(run),
                run.evictions, len(arrivals) - run.completed)

    fit = max(1, int(room(MOST_KEPT).items / requests))
    found = told(in_order(one, range(checked(replications)), min(threads(workers), fit)), progress, 0, replications)
    seconds, least, tokens, latency, evictions, unfinished = np.array(found, dtype=np.float64).T
    return Makespan(policy, requests, seed, seconds, least, tokens, latency, evictions.astype(np.int64),
                    unfinished.astype(np.int64))


def least_makespan(arrivals: Arrivals, workload: Workload, replica: Replica) -> float:
    """Return the seconds that no policy can be faster than with these requests, wherever they come from."""
    counts = np.bincount(arrivals.types, minlength=len(workload))
    edge = solve(workload.some(counts > 0, counts), replica).max_rate_scale
    return 1 / edge if edge > 0 else float("inf")


def _mean_latency(run: Run) -> float:
    done = run.latency[np.isfinite(run.latency)]
    return float(done.mean()) if done.size else float("nan")
