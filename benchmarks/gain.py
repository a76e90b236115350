"""The picture of the README: what windows gain over vLLM V1 as it comes, on one deployment, over a whole run.

    python benchmarks/gain.py [FILE] [--out docs/pictures/gain.png]

FILE is examples/long-outputs.toml unless another is given. Drawn are, on the same arrivals,

    the KV cache       of replication 0, against the capacity C and against the bound of the windows
    preemptions        a minute: those of runs that end a minute apart, subtracted
    latency            mean and 99th percentile of 10 replications with their 95% intervals, as `fluidwait verify`
                       prints them; a "?" where it says that the interval may not hold
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fluid import Workload
from fluid.arrays import Floats
from fluidwait.deployment.deployment import Deployment, load
from fluidwait.figures.page import BLACK, level, page, plain
from fluidwait.figures.style import style
from fluidwait.study.outcomes import Plan, examine
from verification import Arrivals, Run, Verification, simulate
from verification.policies import Policy

FILE = Path(__file__).parent.parent / "examples" / "long-outputs.toml"
PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "gain.png"
WINDOWS, ENGINE = "paced", "vllm-v1"
NAMES = {WINDOWS: "windows", ENGINE: "vLLM V1\nas it comes"}
MINUTE, POINTS = 60.0, 3000


@dataclass(frozen=True)
class SoFar:
    """The arrivals of a longer run, up to the end of a shorter one."""

    arrivals: Arrivals

    def factor(self) -> float:
        return 1.0

    def draw(self, workload: Workload, horizon: float, seed: int, replication: int) -> Arrivals:
        count = int(np.searchsorted(self.arrivals.times, horizon))
        return Arrivals(self.arrivals.times[:count], self.arrivals.types[:count])


def verified(deployment: Deployment, policy: str, replications: int) -> Verification:
    """What `fluidwait verify` finds of the policy."""
    outcome = examine(deployment, policy, Plan(deployment.horizon, replications, seed=0))
    if outcome.found is None:
        raise SystemExit(f"{policy} was not simulated: {outcome.reason}")
    return outcome.found


def preemptions(policy: Policy, deployment: Deployment, run: Run) -> Floats:
    """Preemptions in each minute of a run."""
    ends = np.arange(MINUTE, run.end_time + MINUTE / 2, MINUTE)
    counts = [simulate(policy, deployment.workload, deployment.replica, horizon=end,
                       traffic=SoFar(run.arrivals)).evictions for end in ends]
    return np.diff(np.array([0.0, *counts]))


def draw_kv(axes: Axes, policy: str, run: Run, bound: float | None) -> None:
    """KV tokens over time, under the capacity, and under the bound that is proved, if one is."""
    look, timeline = style(policy), run.timeline
    assert timeline is not None
    at = np.linspace(0.0, run.end_time, POINTS)
    latest = np.maximum(np.searchsorted(timeline.start, at, side="right") - 1, 0)
    axes.fill_between(at, timeline.kv[latest], color=look.colour, alpha=0.18, lw=0)
    axes.plot(at, timeline.kv[latest], color=look.colour, lw=1.0, ls="-")
    level(axes, run.kv_capacity, f"capacity {run.kv_capacity:,}", lw=1.3)
    if bound is not None:
        axes.axhline(bound, color=BLACK, lw=1.0, ls="--")
    proved = "no bound is proved" if bound is None else f"at most {bound:,.0f} (dashed), proved"
    axes.set(ylabel="KV tokens", xlim=(0, run.end_time), ylim=(0, 1.2 * run.kv_capacity),
             title=f"KV cache under {' '.join(NAMES[policy].split())}: {proved}")
    axes.tick_params(labelbottom=False)
    plain(axes.yaxis)


def draw_preemptions(axes: Axes, counts: Floats, others: int) -> None:
    """Bars for those under the engine as it comes, one for each minute; those under windows as a number."""
    axes.bar((np.arange(len(counts)) + 0.5) * MINUTE, counts, width=0.85 * MINUTE, color=style(ENGINE).colour)
    axes.set(ylabel="a minute", xlabel="seconds from an empty replica", title=f"Preemptions under vLLM V1: "
             f"{counts.sum():,.0f}; under windows: {others:,}", xlim=(0, len(counts) * MINUTE))


def draw_latency(axes: Axes, everybody: dict[str, Verification]) -> None:
    """Mean and 99th percentile with intervals, named beside the points."""
    for place, (policy, found) in enumerate(everybody.items()):
        look = style(policy)
        for aside, measure, marker, name in ((-0.06, "latency", "o", "mean"), (0.06, "latency_p99", "^", "p99")):
            value, at = getattr(found, measure), place + aside
            axes.errorbar(at, value.mean, [[value.mean - value.low], [value.high - value.mean]], color=look.colour,
                          marker=marker, capsize=4, lw=1.6, ms=6)
            doubt = "?" if measure in found.doubted else ""
            axes.annotate(f"{name} {value.mean:.0f}\n±{value.high - value.mean:.0f}{doubt}",
                          (place + 0.06, value.mean), (8, 0), textcoords="offset points", va="center",
                          color=look.colour, fontsize="small")
    axes.set(xlim=(-0.4, 1.9), ylim=(0, None), title="Latency, seconds", xticks=range(len(everybody)))
    axes.set_xticklabels([NAMES[policy] for policy in everybody])


def picture(deployment: Deployment, replications: int = 10) -> Figure:
    """The whole picture."""
    page()
    everybody = {policy: verified(deployment, policy, replications) for policy in (WINDOWS, ENGINE)}
    runs = {policy: simulate(found.policy, deployment.workload, deployment.replica, horizon=deployment.horizon,
                             record=True) for policy, found in everybody.items()}
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=(2.3, 1), height_ratios=(1, 1, 0.6))
    left = [figure.add_subplot(grid[row, 0]) for row in range(3)]
    for axes, (policy, run) in zip(left, runs.items(), strict=False):
        draw_kv(axes, policy, run, getattr(everybody[policy].policy, "kv_required", None))
    draw_preemptions(left[2], preemptions(everybody[ENGINE].policy, deployment, runs[ENGINE]), runs[WINDOWS].evictions)
    draw_latency(figure.add_subplot(grid[:, 1]), everybody)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.add_argument("--out", type=Path, default=PICTURE)
    given = parser.parse_args()
    picture(load(given.file)).savefig(given.out, dpi=110, metadata={"Software": None})
