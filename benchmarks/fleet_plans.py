"""Five plans of fleets, each verified by simulating the routed fleet.

Each fleet is the cheapest one for its demand with head-room, of two or three kinds of replicas. Simulated are vLLM V1
on every replica behind the shortest queue of the planned kind, behind routers that know no types, and, at 1.15 times
the most that the fleet carries by the prices of its certificate, behind the planned one again. "without types" is the
factor on the demand that the best shares without types carry in the fluid limit, and an even split (mathematics,
section 21.2).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from fluid import IterationTime, PromptType, Replica, Workload, stability_region
from fluid.planning import Kind, most_demand, plan_fleet
from verification.fleets import Fleet, Router, try_fleet

ANY = ("least-kv", "shortest-queue", "round-robin", "random")


@dataclass(frozen=True)
class Case:
    """A demand, and the kinds of replicas that can be had."""

    mix: Workload
    kinds: list[Kind]


def _numbers(capacity: int, *seconds: float) -> Replica:
    return Replica(capacity, IterationTime(*seconds), block=16, first_token="prefill")


def _named(model: str, gpu: str, gpus: int = 1) -> Replica:
    """With the budget of an iteration that the engine has: without it a plan knows nothing of chunks."""
    return Replica.of(model, gpu, tensor_parallel=gpus, max_num_batched_tokens=8192)


def _cases() -> dict[str, Case]:
    chats = Workload([PromptType(200, 1000, 20.0, "chat"), PromptType(8000, 50, 10.0, "document")])
    short = Workload([PromptType(100, 100, 150.0, "short"), PromptType(2000, 600, 12.0, "long")])
    three = Workload([PromptType(300, 300, 30.0, "chat"), PromptType(6000, 100, 8.0, "document"),
                      PromptType(500, 2000, 4.0, "reasoning")])
    big, small = _numbers(500_000, 0.009, 1.5e-7, 2e-5, 2e-5), _numbers(60_000, 0.012, 4e-7, 5e-5, 5e-5)
    fast = _numbers(90_000, 0.006, 2e-7, 1e-5, 3e-5)
    return {"chats and documents": Case(chats, [Kind("big", big, 4.0), Kind("small", small, 1.2)]),
            "short and long": Case(short, [Kind("big", big, 2.2), Kind("fast", fast, 1.5)]),
            "three types, three kinds": Case(three, [Kind("big", big, 4.0), Kind("small", small, 1.2),
                                                     Kind("fast", fast, 2.0)]),
            "Llama-3.1-8B": Case(chats, [Kind(gpu, _named("llama-3.1-8b", gpu), price) for gpu, price in
                                         (("h100-80gb", 2.5), ("a100-80gb", 1.5), ("l40s", 0.8))]),
            "Llama-3.1-70B": Case(short, [
                Kind(f"{gpu} x {gpus}", _named("llama-3.1-70b", gpu, gpus), price)
                for gpu, gpus, price in (("h100-80gb", 4, 10.0), ("a100-80gb", 8, 7.0))])}


def without_types(mix: Workload, kinds: tuple[Kind, ...], counts: np.ndarray) -> tuple[float, float]:
    """The factors (21.1) of the best shares and of an even split, over the kinds that there are."""
    there = [(n, 1 / stability_region(mix, each.replica).max_rate_scale(mix.rates))
             for n, each in zip(counts, kinds, strict=True) if n > 0]
    return sum(n / edge for n, edge in there), min(counts.sum() / edge for _, edge in there)


def main() -> None:
    """Print a line for each plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--headroom", type=float, default=0.1)
    parser.add_argument("--horizon", type=float, default=1200.0, help="seconds, of every simulation")
    parser.add_argument("--replications", type=int, default=5)
    options = parser.parse_args()
    print(f"{'plan':26}{'fleet':34}{'carries':>8}{'planned':>9}{'1.15 x':>10}{'without types':>15}"
          + "".join(f"{rule:>16}" for rule in ANY))
    for name, case in _cases().items():
        plan = plan_fleet(case.mix, case.kinds, options.headroom)
        assert plan.counts is not None
        fleet, carried = Fleet.planned(plan), most_demand(case.mix, case.kinds, plan.counts)

        def answer(router: Router, factor: float, mix: Workload = case.mix, fleet: Fleet = fleet) -> str:
            found = try_fleet(fleet, router, mix.scaled(factor), horizon=options.horizon,
                              replications=options.replications)
            return found.verdict.answer

        counts = " + ".join(f"{n:g} {each.name}" for n, each in zip(plan.counts, plan.kinds, strict=True) if n)
        best, even = without_types(case.mix, plan.kinds, plan.counts)
        planned, over = (answer(Router.planned(plan), factor) for factor in (1.0, 1.15 * carried.bound))
        print(f"{name:26}{counts:34}{carried.factor:8.3f}{planned:>9}{over:>10}{best:>8.2f}, {even:<5.2f}"
              + "".join(f"{answer(Router(rule), 1.0):>16}" for rule in ANY), flush=True)


if __name__ == "__main__":
    main()
