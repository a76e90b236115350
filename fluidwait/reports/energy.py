"""Energy and money in a report: joules and prices of a million output tokens, predicted and simulated.

An hour of the replica at a price p, X output tokens a second: p / 3600 / X a token. J joules a token at e a kWh:
J e / 3.6e6 a token. Where the power or a price is not known nothing is said of it.
"""

from __future__ import annotations

from typing import Any

from fluid import Equilibrium, energy_at
from fluidwait.deployment.deployment import Deployment
from fluidwait.reports.console import brief
from fluidwait.study.outcomes import Comparison, Outcome
from verification import Verification

MILLION, HOUR, KWH = 1e6, 3600.0, 3.6e6
SHOWN = 5e-4  # shares of the energy below it are not said


def money(deployment: Deployment, throughput: float, joules: float | None) -> dict[str, Any] | None:
    """What a million output tokens cost: of the `replica`, and of its `electricity`; None where no price is known."""
    price, kwh = deployment.price, deployment.electricity
    return _known({"replica": None if price is None or throughput <= 0 else price / HOUR / throughput * MILLION,
                   "electricity": None if kwh is None or joules is None else joules * kwh / KWH * MILLION})


def predicted_answer(deployment: Deployment, equilibrium: Equilibrium) -> dict[str, Any]:
    """The energy of a mix at equilibrium, and what a million output tokens cost there; null beyond a limit."""
    energy = energy_at(equilibrium)
    joules = None if energy is None else energy.per_output_token
    return {"energy": None if energy is None else energy.to_dict(),
            "money": None if equilibrium.limit is not None else money(deployment, equilibrium.throughput, joules)}


def measured_money(deployment: Deployment, outcome: Outcome) -> dict[str, Any] | None:
    """What a million output tokens cost under a policy that was simulated."""
    found = outcome.found
    if found is None:
        return None
    joules = None if found.energy is None else found.joules.mean
    return money(deployment, found.throughput.mean, joules)


def compared_money(deployment: Deployment, found: Comparison) -> dict[str, Any] | None:
    """What a million output tokens cost under each policy; None where no price is known."""
    return _known({each.label: measured_money(deployment, each) for each in found.outcomes})


def _known(costs: dict[str, Any]) -> dict[str, Any] | None:
    return costs if any(each is not None for each in costs.values()) else None


def predicted_lines(deployment: Deployment, equilibrium: Equilibrium) -> list[str]:
    """Sentences on the energy and the money of a mix at equilibrium."""
    energy, lines = energy_at(equilibrium), []
    if energy is not None:
        idle = f", idle {energy.idle_share:.1%} of the time" if energy.idle_share >= SHOWN else ""
        prefill = "" if energy.per_prefill_token is None else (
            f"; {energy.per_prefill_token:.3g} J a token prefilled, {energy.per_decode_token:.3g} J one decoded")
        sure = f" (power ±{energy.power.error:.0%})" if energy.power.error else ""
        lines.append(f"energy: {energy.per_output_token:.3g} J an output token, {energy.per_request:.3g} J a "
                     f"request{prefill}; {energy.watts:,.0f} W{idle}{sure}")
    costs = predicted_answer(deployment, equilibrium)["money"]
    return [*lines, *([] if costs is None else [f"money: a million output tokens cost {_costs(costs)}"])]


def measured_line(found: Verification) -> str:
    """The energy that was simulated; empty where it is not known."""
    if found.energy is None:
        return ""
    half = found.joules.high - found.joules.mean
    sure = f" ±{brief(half)}" if half == half else ""  # NaN of one replication
    return f"{found.joules.mean:.4g}{sure} J an output token{_lost(found)}"


def _lost(found: Verification) -> str:
    share = found.lost_joules.mean / found.joules.mean
    if share != share:
        return ", evictions waste an amount of it that is not known"
    return f", {share:.1%} of it wasted by evictions" if share >= SHOWN else ""


def compared_lines(deployment: Deployment, found: Comparison) -> list[str]:
    """Energy and money of what is chosen beside the engine as it comes, on the same arrivals."""
    pair = [found.chosen, *([found.engine] if found.engine is not found.chosen else [])]
    energy = [f"{each.label} {measured_line(each.found)}" for each in pair
              if each.found is not None and each.found.energy is not None]
    costs = [(each.label, cost) for each in pair if (cost := measured_money(deployment, each)) is not None]
    return [*(["energy: " + "; ".join(energy)] if energy else []),
            *(["money, a million output tokens: " + "; ".join(f"{name} {_costs(cost)}" for name, cost in costs)]
              if costs else [])]


def _costs(costs: dict[str, Any]) -> str:
    said = {"replica": "", "electricity": " of electricity"}
    return " and ".join(f"{costs[key]:.3g}{words}" for key, words in said.items() if costs[key] is not None)
