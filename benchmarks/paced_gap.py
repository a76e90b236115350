"""What a rational threshold N/g costs: the share of the region's edge that paced WAIT carries, against g.

One type, known lengths. For each g the largest N whose bound N sum_b kv_{S-1-bg} fits C gives the rate x = N/g, which
carries lambda = x/(d0 + c x); its share of the edge is printed with the excess of the bound over the fluid KV x w.
Rule for g: the share falls short of 1 by the unused memory, C - x w. N (2 l + o)/2 of it goes to the phases, so N = 1
or 2 loses least, and among those the g that leaves the smallest remainder C - bound wins: the least feasible g of a
small N.
"""

from __future__ import annotations

import argparse

from fluid import IterationTime, PromptType, Replica, Workload, solve, stage_profile
from thresholds.paced_wait.entry_windows import EntryWindow


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--output", type=int, default=1000)
    parser.add_argument("--capacity", type=int, default=137_000)
    options = parser.parse_args()
    replica = Replica(options.capacity, IterationTime(0.0106, 4.01e-7))
    workload = Workload([PromptType(options.prompt, options.output, 1.0)])
    profile, edge = stage_profile(workload, replica), solve(workload, replica).max_rate_scale
    window, work = EntryWindow.of_type(profile, 0), float(profile.time_work(replica.iteration_time)[0, 0])
    print(f"{'g':>5}{'N':>6}{'N/g':>9}{'bound':>10}{'excess':>9}{'share of the edge':>19}")
    for g in [*range(1, 31), 40, 60, 100, 200, 500, 1000]:
        entries = options.capacity // window.kv_bound(1, g)
        if entries:
            x, bound = entries / g, window.kv_bound(entries, g)
            share = x / (0.0106 + work * x) / edge
            print(f"{g:5}{entries:6}{x:9.4f}{bound:10,}{bound - x * profile.kv_work[0]:9,.0f}{share:19.1%}")


if __name__ == "__main__":
    main()
