"""How fast fleets are planned as types and kinds grow, and what sifting saves.

    python benchmarks/plan_scale.py [--quick]

J types with prompts of 10 to 4,000 and outputs of 1 to 1,000 tokens, K kinds of random capacity, times and price (all
uniform, seeded). Timed are, once each and in one process,

    plan        `fluid.planning.plan_fleet`: relaxation, whole counts by cuts, routing, certificate
    day         `fluid.scheduling.plan_day`, 24 windows of random rates with start-up times, on three kinds at most
    sifted      the largest factor of the planned fleet and one replica more of each kind (`fluid.planning.most_demand`)
    all pairs   the same program with all pairs of types and kinds at once, as min t
    written     the same in cvxpy as it is written, max theta with sum_k f_kj = theta, by HiGHS (interior points)

The unit is one numpy pass over the half-spaces, `values @ rates`; "saves" are ratios within this run. The factors of
the last three agree to 1e-6, or the run fails.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import cvxpy as cp
import numpy as np

from fluid import IterationTime, Replica, Workload
from fluid.planning import Kind, most_demand, plan_fleet, sifting
from fluid.planning.kinds import Rows, rows_of
from fluid.scheduling import plan_day
from fluid.varying_rates import Schedule

SIZES = ((100, 3), (1_000, 5), (50, 100), (10_000, 5))


def fleet(types: int, kinds: int) -> tuple[Workload, list[Kind]]:
    """A mix of about 250 requests/s, and kinds."""
    random = np.random.default_rng(types)
    mix = Workload.from_arrays(random.integers(10, 4000, types), random.integers(1, 1000, types),
                               random.uniform(1.0, 50.0, types) * 10 / types)
    scales = random.uniform(0.5, 2.0, (kinds, 4)) * [0.01, 3e-7, 5e-5, 5e-5]
    return mix, [Kind(f"kind {k}", Replica(int(random.integers(40_000, 800_000)), IterationTime(*scales[k]),
                                           max_num_seqs=256), float(random.uniform(1, 5)), start_up=300.0)
                 for k in range(kinds)]


def timed(call: Callable[[], object]) -> tuple[float, object]:
    """Seconds of one call, and what it returns."""
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def written(rows: Rows, rates: np.ndarray, counts: np.ndarray) -> float:
    """max theta as it is written."""
    shares, theta = cp.Variable(rows.fits.shape, nonneg=True), cp.Variable()
    size = counts.max()
    loads = [cp.sum(cp.multiply(rows.values[i] * rates / size, shares[rows.kind[i]])) for i in range(len(rows.values))]
    problem = cp.Problem(cp.Maximize(theta), [cp.hstack(loads) <= counts[rows.kind] / size,
                                              cp.sum(shares, axis=0) == theta])
    problem.solve(solver=cp.SCIPY, scipy_options={"method": "highs-ipm"})
    return float(theta.value)


def measure(types: int, kinds: int, slow: bool) -> str:
    """A line of the table."""
    mix, those = fleet(types, kinds)
    rows = rows_of(mix, those)
    unit = min(timed(lambda: rows.values @ mix.rates)[0] for _ in range(50))
    plan_s, plan = timed(lambda: plan_fleet(mix, those))
    assert plan.check().holds(), plan  # type: ignore[attr-defined]
    counts = plan.counts + 1.0  # type: ignore[attr-defined]
    day = Schedule([3600.0] * 24, np.random.default_rng(0).uniform(0.3, 1.0, 24))
    day_s = timed(lambda: plan_day(mix, those[:3], day))[0]
    sifted_s, sifted = timed(lambda: most_demand(mix, those, counts))
    few, sifting.FEW_PAIRS = sifting.FEW_PAIRS, 10**9
    whole_s, whole = timed(lambda: most_demand(mix, those, counts))
    sifting.FEW_PAIRS = few
    factors, written_s = [sifted.factor, whole.factor], None  # type: ignore[attr-defined]
    if slow:
        written_s, factor = timed(lambda: written(replace(rows), mix.rates, counts))
        factors.append(factor)
    assert np.ptp(factors) <= 1e-6 * factors[0], factors
    old = "-" if written_s is None else f"{written_s / sifted_s:.1f}"
    return (f"{types:6,d} {kinds:5d} {plan_s / unit:10,.0f} {day_s / unit:10,.0f} {sifted_s / unit:10,.0f} "
            f"{whole_s / sifted_s:12.1f} {old:>12s}   ({plan_s:.2f} s, {day_s:.2f} s, {sifted_s:.2f} s here)")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only the small sizes")
    quick = parser.parse_args().quick
    print(f"{'types':>6s} {'kinds':>5s} {'plan':>10s} {'day':>10s} {'sifted':>10s} {'saves of all':>12s} "
          f"{'of written':>12s}   (units of a numpy pass)")
    for types, kinds in SIZES[:2] if quick else SIZES:
        print(measure(types, kinds, slow=types * kinds <= 50_000), flush=True)


if __name__ == "__main__":
    main()
