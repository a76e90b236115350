r"""Targets of a fleet: what is asked of time between tokens, TTFT and latency, as limits on what replicas carry.

**TPOT, ITL**, their means and percentiles: in the fluid limit every gap between tokens is the iteration time, so the
smallest bound on them is a half-space of each kind (`fluid.planning.kinds`), exact in that limit. In a run gaps vary
about it, and a percentile lies above the mean: a necessary condition, not a promise.

**TTFT and latency in the mean** are predicted for continuous batching (`thresholds.delay.prediction`), and grow as a
replica fills. Along the mix x that a plan sends to a kind, u x/e(x) with e the edge load fills a share u of the limits;
the largest u at which the predictions keep within the targets is found by bisection, at most 0.9, beyond which no TTFT
is claimed. It is the kind's `use`, the plan is made anew, and so on until uses no longer fall, `ROUNDS` times at most.
That is a prediction with the error that is claimed of it (40% of TTFT, 25% of latency), not a proof. Each kind is held
to the target by itself, which is more than the mean over all requests asks; a kind that is within it at no load of
what it is sent is left out.

**Percentiles of TTFT and latency, goodput** have no prediction here: what a plan leaves open is said.
Source: mathematics, section 20.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fluid.equilibrium import Equilibrium, solve
from fluid.planning import FleetPlan, Kind, plan_fleet
from fluid.workload import Workload
from thresholds.delay.prediction import CLAIMED, Prediction, predict_continuous
from verification.experiments.targets.bounds import Targets
from verification.experiments.targets.names import base

if TYPE_CHECKING:
    from fluidwait.study.fleet_tails import Tail

ROUNDS, STEPS, NEAR = 5, 30, 1e-3
MEANS = ("ttft", "latency")


@dataclass(frozen=True)
class Within:
    """The `kinds` with the limits that targets put on them, and those `slow` ones that no load keeps within them.

    `left` are the targets that a plan cannot see; `reason` says why no kind is left, where none is;
    `tails` what simulation found, where it was asked.
    """

    kinds: tuple[Kind, ...]
    slow: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    reason: str = ""
    tails: tuple[Tail, ...] = ()


def within_targets(targets: Targets, workload: Workload, kinds: list[Kind], headroom: float, spare: int) -> Within:
    """Return the kinds with a limit on the time between tokens, and on how full they may be, for these targets."""
    gaps = [each.seconds for each in targets.bounds if base(each.measure) in ("tpot", "itl")]
    paced = [replace(each, tpot=min(gaps)) for each in kinds] if gaps else list(kinds)
    left = tuple(each.text for each in targets.bounds if base(each.measure) in MEANS and each.measure not in MEANS)
    left += (targets.goodput.text,) if targets.goodput else ()
    means = {each.measure: each.seconds for each in targets.bounds if each.measure in MEANS}
    if not means:
        return Within(tuple(paced), (), left)
    return replace(_filled(means, workload, paced, headroom, spare), left=left)


def _filled(means: dict[str, float], workload: Workload, kinds: list[Kind], headroom: float, spare: int) -> Within:
    """The kinds with the use that keeps the predictions of what they are sent within bounds."""
    kinds, slow = [replace(each, use=min(each.use, CLAIMED)) for each in kinds], list[str]()
    for _ in range(ROUNDS):
        plan = plan_fleet(workload, kinds, headroom, spare=spare)
        if plan.rates is None:
            break
        uses = [_use(means, plan, k) for k in range(len(kinds))]
        slow += [each.name for each, use in zip(kinds, uses, strict=True) if use == 0]
        fallen = any(use < each.use * (1 - NEAR) for each, use in zip(kinds, uses, strict=True))
        kept = [replace(each, use=min(each.use, use)) for each, use in zip(kinds, uses, strict=True) if use > 0]
        if not kept:
            asked = ", ".join(f"{name} up to {seconds:g} s" for name, seconds in means.items())
            return Within(tuple(kinds), tuple(slow), reason=f"no kind is predicted to keep {asked} at any load")
        if not fallen and len(kept) == len(kinds):
            break
        kinds = kept
    return Within(tuple(kinds), tuple(slow))


def _use(means: dict[str, float], plan: FleetPlan, k: int) -> float:
    """The largest share of the limits of a kind that keeps what it is sent within bounds; 0 where none does.

    A kind to which nothing is sent keeps its share.
    """
    found = on_one(plan, k)
    if found is None:
        return plan.kinds[k].use
    edge, low, high = found.scaled(found.max_rate_scale), 0.0, CLAIMED
    if _kept(means, edge.scaled(high)):
        return high
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _kept(means, edge.scaled(middle)) else (low, middle)
    return low if low > NEAR else 0.0


def _kept(means: dict[str, float], equilibrium: Equilibrium) -> bool:
    found = predict_continuous(equilibrium)
    return all(getattr(found, name) <= seconds for name, seconds in means.items())


def on_one(plan: FleetPlan, k: int, share: float = 1.0) -> Equilibrium | None:
    """The equilibrium of one replica of a kind at its share of (1 + headroom) times the demand; None where it has none.
    """
    own = plan.share(k)
    return None if own is None else solve(own.scaled(share * (1 + plan.headroom)), plan.kinds[k].replica)


def predicted(plan: FleetPlan, k: int) -> Prediction | None:
    """The delays of continuous batching on one replica of a kind at its share of the demand as it is."""
    found = on_one(plan, k, 1 / (1 + plan.headroom))
    return None if found is None else predict_continuous(found)
