"""Pools that prefill and decode apart, for people and for programs: counts, P : D, the edge, prices, what it buys."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.markup import escape

from fluid.planning import FleetPlan, TandemCarried
from fluid.planning.parts import DECODE, PREFILL
from fluid.planning.whole_fleet import CARRIES
from fluidwait.reports.console import console, new_table, say, seconds, title
from fluidwait.reports.plan import ASSUMED, types_of
from fluidwait.study.tandem import PlannedApart
from thresholds import Design, PacedPolicy, WaitDesign

MOST_TYPES = 3  # whose worth, and whose thresholds, are said
BUYS = ("colocated a token waits for the prefills in its batch, apart for none: that is what separating buys; what it "
        "costs is the difference of the edges")


def tandem_answer(found: PlannedApart) -> dict[str, Any]:
    """The body of `plan --json` where kinds have roles."""
    plan, edge, there = found.plan, found.edge, found.there
    return {"answer": found.yes, "status": found.status, "reason": plan.prefill.reason or plan.decode.reason,
            "rate": found.workload.rate, "headroom": plan.prefill.headroom, "spare": plan.prefill.spare,
            "cost": plan.cost if plan.feasible else None, "bound": plan.bound if plan.feasible else None,
            "gap": plan.gap if plan.feasible else None, "ratio": plan.ratio if plan.feasible else None,
            "certificate": plan.check()._asdict() if plan.feasible else None,
            "pools": {role: _pool(found, role) for role in found.pools},
            "edge": None if edge is None else _edge(edge), "there": None if there is None else {
                **_edge(there), "factor_without_spare": found.left, "carries": found.carries},
            "left_open": list(found.left_open), "types": _types(found), "colocated": _colocated(found),
            "balance": _balance(found),
            "thresholds": [{"kind": name, "wait": whole.to_dict(), "paced": windows.to_dict()}
                           for name, whole, windows in found.designs] if plan.feasible else []}


def _pool(found: PlannedApart, role: str) -> dict[str, Any]:
    pool = found.pools[role]
    balance = found.balance if found.plan.feasible else None
    kinds = []
    for k, each in enumerate(pool.kinds):
        fraction = None if pool.relaxed_counts is None else pool.relaxed_counts[k]
        kinds.append({"name": each.name, "price": each.price, "most": each.most, "there": each.count,
                      "count": None if pool.counts is None else int(pool.counts[k]), "fraction": fraction,
                      "filled": pool.filled[k], "limit": pool.limits[k] or None,
                      "link": balance.link[each.name] if balance else None,
                      "held_for_transfer": balance.held[each.name] if balance else None,
                      "without_one": found.losses.get(each.name),
                      "worth": pool.margins[k]._asdict() if pool.margins else None})
    return {"status": pool.status, "reason": pool.reason, "cost": pool.cost if pool.feasible else None,
            "bound": pool.bound if pool.feasible else None, "kinds": kinds}


def _edge(edge: TandemCarried) -> dict[str, Any]:
    return {"factor": edge.factor, "bound": edge.bound, "binds": edge.binds, "prefill": edge.prefill.factor,
            "decode": edge.decode.factor, "one_more": _one_more(edge), "certificate": edge.check()._asdict()}


def _one_more(edge: TandemCarried) -> dict[str, float]:
    return {kind.name: edge.one_more(role, k) for role, pool in ((PREFILL, edge.prefill), (DECODE, edge.decode))
            for k, kind in enumerate(pool.kinds)}


def _types(found: PlannedApart) -> list[dict[str, Any]]:
    if not found.plan.feasible:
        return []
    return [{"name": name, "rate": rate, "worth": worth} for name, rate, worth in
            zip(found.workload.names, found.workload.rates, found.plan.worth, strict=True)]


def _colocated(found: PlannedApart) -> dict[str, Any]:
    together, same = found.together, found.same
    return {"factor": None if same is None else same.factor, "cost": together.cost if together.feasible else None,
            "bound": together.bound if together.feasible else None,
            "counts": {} if together.counts is None else _counts(together),
            "iterations": {name: each._asdict() for name, each in found.colocated}}


def _balance(found: PlannedApart) -> dict[str, Any] | None:
    if not found.plan.feasible:
        return None
    balance, kinds = found.balance, {role: pool.kinds for role, pool in found.pools.items()}
    paces = {PREFILL: balance.prefill, DECODE: balance.decode}
    return {"prefill": balance.prefill_seconds, "transfer": balance.transfer_seconds,
            "iterations": {each.name: pace._asdict() for role, each_kinds in kinds.items()
                           for each, pace in zip(each_kinds, paces[role], strict=True)}}


def _counts(plan: FleetPlan) -> dict[str, int]:
    counts = np.zeros(0) if plan.counts is None else plan.counts
    return {each.name: int(n) for each, n in zip(plan.kinds, counts, strict=False) if n > 0}


def show_apart(found: PlannedApart) -> None:
    """The report of `fluidwait plan` where kinds have roles."""
    plan = found.plan
    room = f", {plan.prefill.headroom:.0%} head-room" if plan.prefill.headroom else ""
    spare = f", {plan.prefill.spare} of any kind spare" if plan.prefill.spare else ""
    title("Prefill and decode apart", f"{found.deployment.source}: {found.workload.rate:.4g} requests/s in "
                                      f"{types_of(found.workload)}{room}{spare}")
    if found.deployment.mix.windows:
        console.print("rates change over time: planned is for the busiest window, and no schedule is made of pools")
    _show_there(found)
    if found.edge is None:
        for role, pool in found.pools.items():
            if pool.counts is None:
                say(False, f"no {role} pool: {pool.reason}")
        return
    say(True, f"{_fleet(found)}, at {plan.cost:.6g} an hour" + ("" if found.status == "optimal" else
                                                                " (not proved cheapest)"))
    console.print(f"P : D is {plan.ratio:.3g} : 1 ({_sum(plan.prefill):.4g} to prefill, {_sum(plan.decode):.4g} to "
                  "decode, in fractions of replicas)\n")
    _show_pools(found)
    _show_targets(found)
    _show_edge(found.edge)
    _show_colocated(found)
    _show_balance(found)
    _show_designs(found)
    _show_worth(found)
    console.print(f"[dim]certificate: fractions of replicas would cost {plan.bound:.6g} (gap {plan.gap:.2%}), proved "
                  f"by prices of the limits; recomputed: off by {max(plan.check()):.1e} at most[/dim]")
    console.print(f"[dim]{escape(ASSUMED)}[/dim]")


def _sum(pool: FleetPlan) -> float:
    return 0.0 if pool.relaxed_counts is None else float(pool.relaxed_counts.sum())


def _words(counts: dict[str, int]) -> str:
    return " + ".join(f"{n:,} x {name}" for name, n in counts.items()) or "nothing"


def _fleet(found: PlannedApart) -> str:
    return _words(_counts(found.plan.prefill) | _counts(found.plan.decode))


def _show_there(found: PlannedApart) -> None:
    there = found.there
    if there is None:
        return
    fleet = {each.name: int(n) for pool in (there.prefill, there.decode)
             for each, n in zip(pool.kinds, pool.counts, strict=True) if n > 0}
    spare = f" ({found.left:.4g} without what is to be spare)" if found.plan.prefill.spare else ""
    say(found.carries, f"there is {_words(fleet)}, which carries up to {there.factor:.4g} of this demand{spare}; "
                       f"{there.binds} binds")
    if not found.carries and found.plan.feasible:
        added = {each.name: int(n) - each.count for pool in found.pools.values() if pool.counts is not None
                 for each, n in zip(pool.kinds, pool.counts, strict=True) if n > each.count}
        console.print(escape(f"to carry it at least cost add {_words(added)}:"))


def _show_pools(found: PlannedApart) -> None:
    table = new_table("kind", "pool", "replicas", "price", "full", "fills first", "link taken", "in transfer")
    for role, pool in found.pools.items():
        for k, each in enumerate(pool.kinds):
            if pool.counts is not None and pool.counts[k] > 0:
                table.add_row(escape(each.name), role, f"{pool.counts[k]:,.0f}", f"{each.price:g}",
                              f"{pool.filled[k]:.1%}", pool.limits[k] or "-", f"{found.balance.link[each.name]:.1%}",
                              f"{found.balance.held[each.name]:.2%} of C")
    console.print(table)
    worst = min(found.losses.values())
    console.print("N-1: " + ("any one replica may fail" if worst >= CARRIES else
                             f"when one fails {worst:.1%} of the demand is carried; --spare 1 plans for it"))


def _show_targets(found: PlannedApart) -> None:
    """What the time between tokens may be, and what is left to simulation."""
    limits = [each.tpot for each in found.plan.decode.kinds if each.tpot is not None]
    if limits:
        console.print(f"within {seconds(min(limits))} between tokens by the fluid limit, on decode replicas and on "
                      "those colocated")
    if found.left_open:
        console.print(escape(f"not planned for, simulate them: {'; '.join(found.left_open)}"))


def _show_edge(edge: TandemCarried) -> None:
    more = [f"one more {name} {'adds ' + format(gain, '.4g') if gain > 1e-12 else 'adds nothing'}"
            for name, gain in _one_more(edge).items()]
    factors = f"prefill {edge.prefill.factor:.4g}, decode {edge.decode.factor:.4g}"
    console.print(escape(f"edge: these pools carry up to {edge.factor:.4g} of the demand ({factors}); {edge.binds} "
                         f"binds; {', '.join(more)}"))


def _show_colocated(found: PlannedApart) -> None:
    together, same = found.together, found.same
    if same is None:
        return
    least = ("no colocated fleet does" if together.counts is None else
             f"the cheapest that do are {_words(_counts(together))}, at {together.cost:.6g}")
    console.print(escape(f"colocated, these replicas would carry up to {same.factor:.4g} of it, in the fluid limit; "
                         f"{least}"))
    console.print()


def _show_balance(found: PlannedApart) -> None:
    balance = found.balance
    table = new_table("in balance, without queues", "apart", "colocated")
    longest = [each.longest for _, each in found.colocated]
    means = [each.iteration_time for _, each in found.colocated]
    table.add_row("prefill, mean", seconds(balance.prefill_seconds), "-")
    table.add_row("transfer, mean", seconds(balance.transfer_seconds), "none")
    table.add_row("time between tokens", _span([each.iteration_time for each in balance.decode]), _span(means))
    table.add_row("  beside the longest prefill", "none", _span(longest))
    console.print(table)
    console.print(f"[dim]{escape(BUYS)}[/dim]\n")


def _span(values: list[float]) -> str:
    """One time, or the least and the largest of several."""
    if not values:
        return "-"
    low, high = min(values), max(values)
    return seconds(low) if high <= low * 1.005 else f"{seconds(low)} to {seconds(high)}"


def _show_designs(found: PlannedApart) -> None:
    for name, whole, windows in found.designs:
        console.print(escape(f"admission to a replica of {name}, at its share of the rates: {_whole(whole)}; "
                             f"{_windows(windows)}"))
    if found.designs:
        console.print()


def _whole(design: WaitDesign) -> str:
    if not design.feasible:
        return "whole WAIT thresholds do not fit"
    more = ", ..." if len(design.thresholds) > MOST_TYPES else ""
    return f"WAIT thresholds {', '.join(map(str, design.thresholds[:MOST_TYPES]))}{more}"


def _windows(design: Design) -> str:
    if not design.feasible or not isinstance(design, PacedPolicy):
        return "no windows fit"
    pairs = list(zip(design.entries, design.iterations, strict=True))
    some = ", ".join(f"{n} in {g}" for n, g in pairs[:MOST_TYPES]) + (", ..." if len(pairs) > MOST_TYPES else "")
    held = "" if design.kv_required is None else f" ({design.kv_required:,.0f} KV tokens at most)"
    return f"windows of {some} iterations{held}"


def _show_worth(found: PlannedApart) -> None:
    worth = found.plan.worth * found.workload.rates / 100
    console.print("at the margin, in fractions of replicas, it would save an hour")
    for j in np.argsort(-worth, kind="stable")[:MOST_TYPES]:
        console.print(escape(f'  1% less of "{found.workload.names[j]}": {worth[j]:.3g}'))
    console.print()
