"""A certificate, for people and for programs: what is proved from both sides, and all numbers that a check takes.

`docs/certificates.md` has the check, some dozens of lines of numpy that know nothing of this program.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.markup import escape

from fluid import Equilibrium
from fluid.bounds.certificate import Certificate
from fluid.replica import UNLIMITED
from fluid.uncertainty import ChiSquareBall
from fluidwait.reports.console import console, say, table_of_sentences, title
from fluidwait.reports.plan import types_of
from fluidwait.study.certified import ANYONE, RESERVING, SURE, Above, Certified
from fluidwait.study.possible import order_of
from thresholds.proved.window import ProvedWindows

WHO = {ANYONE: "anyone",
       SURE: "anyone who knows no length, never pauses or evicts, and is sure never to overflow",
       RESERVING: "anyone who reserves what the longest output of a prompt would take"}


def certificate_answer(found: Certified) -> dict[str, Any]:
    """The certificate, behind what says where it comes from."""
    return {"answer": found.yes, "reason": sentence(found), "rate": found.deployment.workload.rate,
            "below_factor": found.below, "above_factor": found.limit, "gap": found.gap,
            "assumptions": assumptions(found), "types": _types(found.equilibrium),
            "replica": _replica(found.equilibrium), "below": _below(found),
            "above": [_above(each) for each in found.above], "uncertainty": _uncertainty(found),
            "iteration_time": _iteration_time(found)}


def sentence(found: Certified) -> str:
    """What is proved, in one sentence."""
    if found.equilibrium.limit == "length":
        return found.equilibrium.reason
    rate = found.deployment.workload.rate
    if found.best is None:
        return f"no windows are proved to carry anything; nobody carries more than {rate * found.limit:.4g} requests/s"
    return (f"windows carry {rate * found.below:.4g} requests/s of this mix, proved; nobody carries more than "
            f"{rate * found.limit:.4g}: the gap is {found.gap:.2%}")


def assumptions(found: Certified) -> list[str]:
    """What the proofs take for granted, in plain sentences."""
    deployment, replica = found.deployment, found.deployment.replica
    blocks = "" if replica.block == 1 else f" in whole cache blocks of {replica.block} tokens"
    said = ["An iteration takes exactly what the lines say, the largest of d0 + d1 (KV tokens read) + d2 (prompt "
            "tokens) + d3 (sequences).",
            f"A request holds its tokens{blocks}, and frees them when it is over; nothing else is in the "
            f"{replica.kv_capacity:,} tokens.",
            "Rates are long-run means: that windows carry them needs no Poisson arrivals; delays are not spoken of."]
    if deployment.mix.trace is not None:
        said.append(f"The lengths of the trace are those of all requests to come. {_capital(order_of(deployment))}.")
    if found.chance is not None:
        said.append("For the chance of an overflow: lengths are independent of each other and of when requests come, "
                    "drawn from the types in proportion to their rates; the scheduler may know anything but the length "
                    "of whom it lets in.")
    if any(each.of != ANYONE for each in found.above):
        said.append("For the bounds on who knows no length: lengths are independent, and the longest output of every "
                    "prompt length has some probability.")
    if found.blind and (replica.max_num_seqs or replica.max_num_batched_tokens):
        said.append("That batches of max_num_seqs and max_num_batched_tokens do not hold one window for the mix up is "
                    "asked of their means (a fluid statement).")
    elif replica.max_num_batched_tokens:
        said.append("That max_num_batched_tokens does not hold the windows up is asked of means (a fluid statement).")
    if deployment.mix.windows:
        said.append("Rates change over time: the certificate is for those of the busiest window that fits.")
    if found.possible is not None and found.possible.confidence is not None:
        said.append(f"{_capital(found.possible.words)}: with that confidence to first order in the number of requests.")
    return said


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _types(equilibrium: Equilibrium) -> dict[str, Any]:
    workload, profile = equilibrium.workload, equilibrium.profile
    return {"name": list(workload.names), "rate": workload.rates, "prompt_tokens": workload.prompt_tokens,
            "output_tokens": workload.output_tokens, "cached_prefix": workload.cached_prefix,
            "prefill_stages": profile.prefill_stages, "chunk": profile.chunk, "decode_stages": profile.decode}


def _replica(equilibrium: Equilibrium) -> dict[str, Any]:
    replica, layout = equilibrium.replica, equilibrium.profile.layout
    return {"kv_capacity": replica.kv_capacity, "block": layout.block, "windowed": layout.windowed,
            "everywhere": layout.everywhere, "window": None if layout.window == UNLIMITED else layout.window,
            "state": layout.state, "first_token": replica.first_token, "max_num_seqs": replica.max_num_seqs,
            "max_num_batched_tokens": replica.max_num_batched_tokens,
            "lines": replica.iteration_time.coefficients}


def _below(found: Certified) -> list[dict[str, Any]]:
    sure = [] if found.sure is None else [{"overflow": "never", "overflow_probability": 0.0, **_windows(found.sure)}]
    if found.chance is None:
        return sure
    chance = found.chance
    numbers = {name: getattr(chance, name) for name in ("theta", "window", "offset", "terms", "iterations", "horizon")}
    return [*sure, {"overflow": "seldom", "overflow_probability": chance.probability, **_windows(chance.windows),
                    "chance": numbers}]


def _windows(windows: ProvedWindows) -> dict[str, Any]:
    return {"factor": windows.factor, "rate": windows.factor * windows.equilibrium.workload.rate,
            "entries": list(windows.policy.entries), "iterations": list(windows.policy.iterations),
            "offsets": list(windows.offsets), "kv_bound": windows.kv_bound, "sequences": windows.sequences,
            "time": windows.time}


def _above(bound: Above) -> dict[str, Any]:
    packed, prices = bound.packed, bound.prices
    limit = "prices" if prices is not None else "packing" if packed is not None else bound.limit
    return {"of": bound.of, "who": WHO[bound.of], "factor": bound.factor, "limit": limit,
            "line": None if prices is not None else bound.line, "lead": bound.lead if limit == "memory" else None,
            "prices": None if prices is None else _prices(prices),
            "packing": None if packed is None else {"rule": packed.rule, "number": packed.number,
                                                    "types": np.flatnonzero(packed.each)}}


def _prices(proof: Certificate) -> dict[str, Any]:
    """The prices, what comes with a prompt token of each group, and the multipliers of each class of batches."""
    told = proof.to_dict()
    each = ("sizes", "read_each", "held_each", "sequences_each", "prefix")
    prices = {name: value for name, value in told["prices"].items() if name != "prefill"}  # those follow
    return {"lines": told["lines"], "prices": prices, "demand": {name: told["demand"][name] for name in each},
            "classes": told["classes"]}


def _uncertainty(found: Certified) -> dict[str, Any] | None:
    possible = found.possible
    if possible is None or not found.above:
        return None
    rate = found.deployment.workload.rate
    return {"set": possible.name, "words": possible.words, "within": possible.within,
            "confidence": possible.confidence, **possible.numbers,
            "below": [{**_priced(found.robust_below(each) + found.lost(each), found.robust_below(each), rate),
                       **_worst_chance(found, each), "eta": [_eta(found, row) for row in each.rows]}
                      for each in found.windows],
            "above": [{**_priced(each.factor, found.robust_above(each), rate), "eta": [_eta(found, each.slope)]}
                      for each in found.above]}


def _priced(factor: float, worst: float, rate: float) -> dict[str, float]:
    return {"factor": worst, "rate": worst * rate, "lost": (factor - worst) * rate}


def _worst_chance(found: Certified, windows: ProvedWindows) -> dict[str, Any]:
    """The chance of an overflow for all mixes that are possible."""
    chance = found.chance
    if chance is None or windows is not chance.windows:
        return {"overflow_probability": 0.0, "unhedged": None, "tangent": None, "tangent_eta": None}
    eta = None if chance.score is None or chance.tangent is None else _eta(found, chance.score - chance.tangent)
    return {"overflow_probability": chance.worst, "unhedged": found.unhedged, "tangent": chance.tangent,
            "tangent_eta": eta}


def _eta(found: Certified, slope: np.ndarray) -> float | None:
    """The multiplier that proves a worst case over a chi-square ball."""
    rates = found.possible.rates if found.possible is not None else None
    return rates.eta(slope) if isinstance(rates, ChiSquareBall) else None


def _iteration_time(found: Certified) -> dict[str, Any]:
    timing, deployment = found.deployment.timing, found.deployment
    if timing is None:
        return {"source": "given", "detail": "given in Python", "covariance": None, "interval": None}
    return {"source": timing.source, "detail": timing.detail, "covariance": timing.covariance,
            "interval": timing.rate_interval(deployment.workload, deployment.replica)}


def show_certificate(found: Certified, file: str | None) -> None:
    """The report of `fluidwait certify`."""
    deployment, rate = found.deployment, found.deployment.workload.rate
    title("Certificate", f"{deployment.source}: {rate:.4g} requests/s in {types_of(deployment.workload)}")
    say(found.yes, sentence(found) + ("" if found.possible is None else _robust(found)))
    console.print()
    if found.above:
        _show_bounds(found)
    timing = _iteration_time(found)
    if timing["interval"] is not None:
        low, high = timing["interval"]
        upper = "more" if high is None else f"{rate * high:.4g}"
        console.print(escape(f"the iteration time is {timing['detail']}: the fluid limit lies between "
                             f"{rate * low:.4g} and {upper} requests/s at 95%"))
    console.print("assumed:")
    for each in assumptions(found):
        console.print(escape(f"  - {each}"))
    console.print(f"[dim]{escape(_where(file))}[/dim]")


def _robust(found: Certified) -> str:
    """What is proved for all rates that are possible."""
    if found.possible is None or found.best is None:
        return ""
    rate = found.deployment.workload.rate
    best = max(found.windows, key=found.robust_below)
    return (f". For {found.possible.words}: {rate * found.robust_below(best):.4g} requests/s, which costs "
            f"{rate * found.lost(best):.3g}")


def _show_bounds(found: Certified) -> None:
    rate, some = found.deployment.workload.rate, found.possible is not None
    table = table_of_sentences("requests/s", *(["worst case"] if some else []), "")
    for each, below in zip(found.windows, _below(found), strict=True):
        worst = [f"{rate * found.robust_below(each):,.4g}"] if some else []
        table.add_row(f"{rate * each.factor:,.4g}", *worst, escape(f"carried by {_told(each)}, {_overflow(below)}"))
    for bound in found.above:
        worst = [f"{rate * found.robust_above(bound):,.4g}"] if some else []
        table.add_row(f"{rate * bound.factor:,.4g}", *worst, escape(f"impossible for {_who(bound)}"))
    console.print(table)
    console.print()


def _told(windows: ProvedWindows) -> str:
    pairs = [f"{n} in any {g}" for n, g in zip(windows.policy.entries, windows.policy.iterations, strict=True)]
    return f"windows of {', '.join(pairs[:2])}{', ...' if len(pairs) > 2 else ''} iterations"


def _overflow(below: dict[str, Any]) -> str:
    if below["overflow"] == "never":
        return "never an overflow"
    return f"overflow within {below['chance']['horizon']:g} s at most {below['overflow_probability']:.2g}"


def _who(bound: Above) -> str:
    limit = {"memory": "memory", "sequences": "max_num_seqs", "tokens": "max_num_batched_tokens", "time": "time"}
    if bound.of == ANYONE:
        what = ("prefills and KV that meet in batches" if bound.prices else
                "stages that fit no batch together" if bound.packed else limit[bound.limit])
        return f"anyone ({what})"
    return WHO[bound.of]


def _where(file: str | None) -> str:
    if file is None:
        return "--out certificate.json writes all numbers; docs/certificates.md has the check, a page of numpy"
    return f"{file} has all numbers; docs/certificates.md has the check, a page of numpy"
