"""A planned fleet, for people and for programs: counts, routing, what more traffic takes, what more is worth.

Prices of rows are those of the relaxation, in which counts are fractions: what a change saves in the long run, not at
the next whole replica.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.markup import escape

from fluid import Workload
from fluid.planning import Admission, FleetPlan, Margins
from fluidwait.reports.console import console, largest, new_table, print_table, say, title
from fluidwait.reports.plan_day import day_answer, show_day
from fluidwait.reports.plan_targets import show_targets, targets_answer
from fluidwait.study.fleet import GROWTHS, Planned
from fluidwait.study.fleet_energy import fleet_energy

GB = 1e9  # bytes
KV_TOKENS = 1000  # of cache, where no model says how many a gigabyte holds
MOST_TYPES = 3  # whose worth is said
ASSUMED = ("assumed is the fluid limit, an upper bound on what any policy carries: keep head-room, and see what "
           "routers make of it with --simulate vllm-v1")


def plan_answer(found: Planned) -> dict[str, Any]:
    """The body of `plan --json`."""
    plan = found.plan
    return {"answer": found.yes, "status": plan.status, "reason": plan.reason, "rate": found.workload.rate,
            "headroom": plan.headroom, "spare": plan.spare, "cost": plan.cost if plan.feasible else None,
            "bound": plan.bound if plan.feasible else None, "gap": plan.gap if plan.feasible else None,
            "cuts": plan.cuts, "certificate": plan.check()._asdict() if plan.feasible else None,
            "kinds": _kinds(found), "types": _types(found), "single": _single(found),
            "growth": [{"traffic": 1 + more, "status": each.status, "cost": each.cost, "added": _added(each)}
                       for more, each in zip(GROWTHS, found.growth, strict=False)],
            "carries": plan.carries, "missing": None if plan.missing is None else _named(plan, plan.missing),
            "there": _there(found), "admission": [_admission(each) for each in found.admissions],
            "day": day_answer(found.day), "targets": targets_answer(found), "energy": _energy(found)}


def _kinds(found: Planned) -> list[dict[str, Any]]:
    plan, margins = found.plan, found.plan.margins
    filled, limits = plan.filled, plan.limits
    return [{"name": each.kind.name, "price": each.kind.price, "most": each.kind.most, "there": each.kind.count,
             "count": None if plan.counts is None else int(plan.counts[k]), "filled": filled[k],
             "limit": limits[k] or None, "without_one": found.losses.get(each.kind.name),
             "worth": margins[k]._asdict() if margins else None} for k, each in enumerate(found.kinds)]


def _types(found: Planned) -> list[dict[str, Any]]:
    plan, rates = found.plan, found.workload.rates
    if plan.rates is None:
        return []
    shares, worth = plan.rates / rates, plan.worth
    names = [each.name for each in plan.kinds]
    return [{"name": name, "rate": rates[j], "worth": worth[j], "shares": dict(zip(names, shares[:, j], strict=True))}
            for j, name in enumerate(found.workload.names)]


def _energy(found: Planned) -> dict[str, Any] | None:
    used = fleet_energy(found)
    if used is None:
        return None
    return {"watts": used.total, "per_output_token": used.per_output_token, "electricity": used.electricity,
            "kinds": {each.name: watts for each, watts in zip(found.plan.kinds, used.watts, strict=True)},
            "million_tokens": {"replicas": used.per_million_tokens(used.cost),
                               "electricity": used.per_million_tokens(used.electricity)}}


def _single(found: Planned) -> dict[str, Any] | None:
    return None if found.single is None else dict(zip(("kind", "count", "cost"), found.single, strict=True))


def _there(found: Planned) -> dict[str, Any] | None:
    there = found.there
    if there is None:
        return None
    return {"factor": there.factor, "bound": there.bound, "factor_without_spare": found.left,
            "carries": found.carries, "added": _added(found.plan), "certificate": there.check()._asdict(),
            "worth": {each.name: margin._asdict() for each, margin in zip(there.kinds, there.margins, strict=True)}}


def _admission(found: Admission) -> dict[str, Any]:
    return {"objective": found.objective, "rate": found.admitted.sum(), "value": found.value, "bound": found.bound,
            "shares": dict(zip(found.workload.names, found.shares, strict=True)),
            "tolls": dict(zip(found.workload.names, found.tolls, strict=True)),
            "certificate": found.check()._asdict()}


def _added(plan: FleetPlan) -> dict[str, int]:
    if plan.counts is None:
        return {}
    return _named(plan, plan.counts - np.array([float(each.count) for each in plan.kinds]))


def _named(plan: FleetPlan, counts: np.ndarray) -> dict[str, int]:
    return {each.name: int(n) for each, n in zip(plan.kinds, counts, strict=True) if n > 0}


def _words(counts: dict[str, int]) -> str:
    return " + ".join(f"{n:,} x {name}" for name, n in counts.items()) or "nothing"


def types_of(workload: Workload) -> str:
    """How many types there are, in words."""
    return "1 type" if len(workload) == 1 else f"{len(workload):,} types"


def show_plan(found: Planned) -> None:
    """The report of `fluidwait plan`."""
    plan = found.plan
    room = f", {plan.headroom:.0%} head-room" if plan.headroom else ""
    spare = f", {plan.spare} of any kind spare" if plan.spare else ""
    title("Fleet", f"{found.deployment.source}: {found.workload.rate:.4g} requests/s in {types_of(found.workload)}"
                   f"{room}{spare}")
    _show_there(found)
    if plan.counts is None:
        say(False, f"no fleet: {plan.reason}")
        return
    fleet = _words(_named(plan, plan.counts))
    say(True, f"{fleet}, at {plan.cost:.6g} an hour" + ("" if plan.status == "optimal" else " (not proved cheapest)"))
    _show_single(found)
    console.print()
    _show_kinds(found)
    show_targets(found)
    show_day(found.day)
    _show_energy(found)
    _show_routing(found)
    _show_growth(found)
    _show_worth(found)
    check = plan.check()
    console.print(f"[dim]certificate: fractions of replicas would cost {plan.bound:.6g} (gap {plan.gap:.2%}), proved "
                  f"by prices of the limits; recomputed: off by {max(check):.1e} at most[/dim]")
    console.print(f"[dim]{escape(ASSUMED)}[/dim]")


def _show_there(found: Planned) -> None:
    there = found.there
    if there is None:
        return
    fleet = _words({each.name: int(n) for each, n in zip(there.kinds, there.counts, strict=True) if n > 0})
    spare = f" ({found.left:.4g} without what is to be spare)" if found.plan.spare else ""
    say(found.carries, f"there is {fleet}, which carries up to {there.factor:.4g} of this demand{spare}")
    if not found.carries and found.plan.counts is not None:
        console.print(escape(f"to carry it at least cost add {_words(_added(found.plan))}:"))
    if found.admissions:
        table = new_table("until then admit by", "requests/s", "of them", "tokens/s", "lowest share")
        for each in found.admissions:
            tokens = each.admitted @ found.workload.output_tokens
            table.add_row(each.objective, f"{each.admitted.sum():.4g}",
                          f"{each.admitted.sum() / found.workload.rate:.1%}", f"{tokens:,.4g}",
                          f"{each.shares.min():.1%}")
        console.print(table)


def _show_single(found: Planned) -> None:
    if found.single is None:
        console.print("no single kind carries all of it")
        return
    kind, count, cost = found.single
    less = 1 - found.plan.cost / cost
    compared = "" if abs(less) < 1e-9 else (f"; this fleet costs {abs(less):.1%} {'less' if less > 0 else 'more'}")
    console.print(escape(f"of one kind: {count:,} x {kind}, at {cost:.6g}{compared}"))


def _show_kinds(found: Planned) -> None:
    plan, filled, limits = found.plan, found.plan.filled, found.plan.limits
    table = new_table("kind", "replicas", "price", "full", "fills first", "carried without one")
    for k, each in enumerate(plan.kinds):
        if plan.counts is not None and plan.counts[k] > 0:
            table.add_row(escape(each.name), f"{plan.counts[k]:,.0f}", f"{each.price:g}", f"{filled[k]:.1%}",
                          limits[k] or "-", f"{found.losses[each.name]:.1%}")
    console.print(table)
    worst = min(found.losses.values())
    console.print("N-1: " + ("any one replica may fail" if worst >= 1 - 1e-7 else
                             f"when one fails {worst:.1%} of the demand is carried; --spare 1 plans for it"))
    console.print()


def _show_energy(found: Planned) -> None:
    """What the fleet draws, and what tokens cost."""
    used = fleet_energy(found)
    if used is None:
        return
    power, costs = used.electricity, list[str]()
    if used.cost is not None:
        costs.append(f"{used.per_million_tokens(used.cost):.3g} of replicas")
    if power is not None:
        costs.append(f"{used.per_million_tokens(power):.3g} of electricity, {power:.3g} an hour")
    if costs:
        console.print(f"a million output tokens cost {' and '.join(costs)}")
    if used.total is not None:
        console.print(f"energy: {used.total:,.0f} W, {used.per_output_token:.3g} J an output token")
    console.print()


def _show_routing(found: Planned) -> None:
    plan, workload = found.plan, found.workload
    if plan.rates is None or plan.counts is None:
        return
    used = np.flatnonzero(plan.counts > 0)
    if len(used) < 2:
        return
    table = new_table("type", "requests/s", *(f"to {escape(plan.kinds[k].name)}" for k in used))
    for j in largest(workload.rates):
        shares = plan.rates[used, j] / workload.rates[j]
        table.add_row(escape(workload.names[j]), f"{workload.rates[j]:.4g}", *(f"{share:.1%}" for share in shares))
    print_table(table, len(workload))
    console.print()


def _show_growth(found: Planned) -> None:
    for more, each in zip(GROWTHS, found.growth, strict=False):
        added = _added(each)
        words = (f"no fleet: {each.reason}" if each.counts is None else "this fleet carries it" if not added else
                 f"{_words(added)} more, {each.cost:.6g} an hour")
        console.print(escape(f"traffic +{more:.0%}: {words}"))
    console.print()


def _show_worth(found: Planned) -> None:
    """Shadow prices in words, of the kinds in the relaxed fleet, and of the types that cost most."""
    plan = found.plan
    console.print("at the margin, in fractions of replicas, it would save an hour")
    for k, (each, margin) in enumerate(zip(found.kinds, plan.margins, strict=True)):
        if plan.relaxed_counts is not None and plan.relaxed_counts[k] > 0:
            placed = each.placement
            tokens = KV_TOKENS if placed is None else GB / placed.kv_bytes_per_token
            what = f"{KV_TOKENS:,} more KV tokens" if placed is None else "one more GB of KV cache"
            console.print(escape(f"  {each.kind.name}: {_savings(margin, tokens, what)}"))
    worth = plan.worth * found.workload.rates / 100
    for j in np.argsort(-worth, kind="stable")[:MOST_TYPES]:
        console.print(escape(f'  1% less of "{found.workload.names[j]}": {worth[j]:.3g}'))
    console.print()


def _savings(margin: Margins, tokens: float, what: str) -> str:
    parts = [(-margin.kv_token * tokens, f"{what} each"), (margin.overhead * 1e-6, "1 us less an iteration"),
             (margin.per_kv_token * 1e-9, "1 ns less a KV token read"),
             (margin.per_prefill_token * 1e-6, "1 us less a prompt token"),
             (-margin.tpot * 1e-3, "1 ms more between tokens")]
    return "; ".join(f"{name} {value:.3g}" for value, name in parts if value > 0)
