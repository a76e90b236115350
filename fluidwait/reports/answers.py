"""What the commands answer, as JSON objects: finite numbers or null, seconds, tokens, requests/s.

Every object says its schema, the program's version, the command and where the deployment came from.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from fluid import Equilibrium
from fluid.bounds.certificate import Certificate
from fluid.equilibrium import scale_without_prefill_cost, time_shares
from fluidwait import __version__
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.mix import Mix
from fluidwait.reports.wording import predicted, reason_of, standing, window_names
from fluidwait.study.advice import Advice, name_of_trial
from fluidwait.study.outcomes import Comparison, Outcome
from thresholds import (
    Design,
    LookAheadDesign,
    NestedDesign,
    PacedDesign,
    UnknownPacedDesign,
    WaitDesign,
    name_of,
    reachable,
)
from verification import Check, Difference, Interval, Verification
from verification.experiments.measures import Inside
from verification.experiments.stability import UNSTABLE
from verification.statistics.precision import Precision

ANSWER_VERSION = 1
INTERVALS = ("throughput", "latency", "latency_p99", "ttft", "evictions", "iteration_time", "busy_share")
COMPARED = ("throughput", "latency", "latency_p99", "ttft", "evictions")
EVIDENCE = ("score", "verdict_horizon", "drift", "falls_behind", "types_unjudged")
NUMBERS = ("kv_peak", "overflow_runs", "unfinished", "rejected", "warm_up", "latency_p99_at_least")


class Input(Protocol):
    """A file that was read: a deployment, a trace, measured batches."""

    @property
    def source(self) -> str:
        """Its name."""

    @property
    def digest(self) -> str:
        """The SHA-256 of its bytes."""


def provenance(command: str, read: Input) -> dict[str, Any]:
    """The head of every object."""
    return {"schema": ANSWER_VERSION, "fluidwait": __version__, "command": command, "source": read.source,
            "sha256": read.digest}


def solve_answer(equilibrium: Equilibrium) -> dict[str, Any]:
    """The object of `fluidwait solve --json`."""
    workload, profile = equilibrium.workload, equilibrium.profile
    nothing = [None] * len(workload)
    shares = time_shares(equilibrium)
    columns = zip(workload.names, workload.rates.tolist(), _list(equilibrium.inventory, nothing),
                  _list(equilibrium.kv_tokens, nothing), profile.kv_work.tolist(), strict=True)
    keys = ("name", "rate", "inventory", "kv_tokens", "kv_work")
    return {"stable": equilibrium.stable, "reason": reason_of(equilibrium), "load": equilibrium.load,
            "iteration_time": equilibrium.iteration_time, "kv_required": equilibrium.kv_required,
            "kv_capacity": equilibrium.kv_capacity, "throughput": equilibrium.throughput,
            "max_rate_scale": equilibrium.max_rate_scale, "sequences": equilibrium.sequences,
            "tokens": equilibrium.tokens,
            "time_shares": shares._asdict() if shares else None,
            "max_rate_scale_without_prefill_cost": scale_without_prefill_cost(equilibrium),
            **proved_answer(equilibrium), "types": [dict(zip(keys, row, strict=True)) for row in columns]}


def proved_answer(equilibrium: Equilibrium) -> dict[str, Any]:
    """What is proved of the mix: the factors on all rates that a policy carries, and that none does, with prices."""
    if equilibrium.limit == "length":
        return {"proved_reachable": 0.0, "reachable_by": None, "proved_impossible": 0.0,
                "proved_impossible_recompute": 0.0, "proved": "impossible", "certificate": None}
    found, reach = equilibrium.impossible, reachable(equilibrium)
    return {"proved_reachable": reach.scale, "reachable_by": reach.policy or None,
            "proved_impossible": found.keeping.scale, "proved_impossible_recompute": found.anyone.scale,
            "proved": standing(equilibrium, reach), "certificate": _certificate(found.keeping)}


def _certificate(found: Certificate) -> dict[str, Any]:
    """Prices, and the multipliers of each class of batches that prove them (`fluid.bounds.certificate`)."""
    demand, prices = found.demand, found.prices
    rows = zip([0.0, *demand.sizes.tolist()], found.mixture.tolist(), found.scarce.tolist(), found.presence.tolist(),
               found.reading.tolist(), strict=False)
    keys = ("least_piece", "line_weights", "kv_sequence_token", "presence", "reading")
    return {"value": found.value, "lines": found.lines.tolist(), "limits": found.limits._asdict(),
            "prices": {**prices._asdict(), "prefill": prices.prefill.tolist()},
            "demand": {name: value.tolist() if isinstance(value, np.ndarray) else value
                       for name, value in vars(demand).items()},
            "classes": [dict(zip(keys, row, strict=True)) for row in rows]}


def timing_answer(read: Deployment) -> dict[str, Any]:
    """Where the iteration time comes from, its coefficients, and the edge's interval at 95% where one is known."""
    if read.timing is None:
        return {}
    return {"iteration_time_source": read.timing.source, "iteration_time_detail": read.timing.detail,
            "iteration_time_pieces": [line._asdict() for line in read.timing.iteration_time.pieces],
            "max_rate_scale_interval": read.timing.rate_interval(read.workload, read.replica)}


def mix_answer(mix: Mix) -> dict[str, Any]:
    """Where the requests come from, and the answer of `solve` where some windows do not fit."""
    return {**mix_origin(mix), **({"stable": False, "reason": mix.overload} if mix.overload else {})}


def mix_origin(mix: Mix) -> dict[str, Any]:
    """The KV tokens its shared prefixes hold, the trace behind a workload, the windows its rates move through."""
    answer: dict[str, Any] = {"kv_reserved": mix.reserved} if mix.reserved else {}
    if mix.trace is not None:
        trace = mix.trace
        answer["trace"] = {"source": trace.source, "sha256": trace.digest, "format": trace.format,
                           "requests": len(trace), "skipped": trace.skipped, "failed": trace.failed}
    if mix.windows:
        answer["windows"] = [{"start": each.start, "end": each.end, "rate": each.equilibrium.workload.rate,
                              "stable": each.equilibrium.stable, "kv_required": each.equilibrium.kv_required,
                              "iteration_time": each.equilibrium.iteration_time, "backlog": each.backlog}
                             for each in mix.windows]
        answer["mean_rates_fit"] = mix.mean_fits
    return answer


def thresholds_answer(design: Design) -> dict[str, Any]:
    """The object of `fluidwait thresholds --json`."""
    delay = predicted(design)
    return {"policy": name_of(design), "feasible": design.feasible, "reason": design.reason,
            "kv_base": design.kv_base, "kv_buffer": design.kv_buffer, "kv_required": design.kv_required,
            "kv_capacity": design.kv_capacity, "iteration_time": design.iteration_time,
            "overflow_probability": _promised(design), "max_rate_scale": design.max_rate_scale,
            "predicted": {"latency": delay.latency if delay else None, "ttft": delay.ttft if delay else None},
            **_details(design)}


def _details(design: Design) -> dict[str, Any]:
    match design:
        case WaitDesign():
            return {"stable_kv_required": design.stable_kv_required, "types": _wait_types(design)}
        case NestedDesign():
            keys = ("start", "end", "threshold", "continuation", "theta", "buffer_tokens")
            return {"segments": [{key: getattr(segment, key) for key in keys} for segment in design.segments],
                    **_evidence(design)}
        case LookAheadDesign():
            return {"fluid_share": design.fluid_share, "expected_rate_scale": design.expected_rate_scale,
                    "classes": len(design.prompts), "step": design.step, "points": list(design.points),
                    "log_chances": list(design.log_chances), "thetas": list(design.thetas)}
        case UnknownPacedDesign():
            bounds = {"theorem": design.theorem, "tight": design.tight}
            return {"fluid_share": design.fluid_share, "types": _paced_types(design),
                    "bounds": {name: asdict(bound) for name, bound in bounds.items() if bound is not None},
                    "in_order": design.in_order, **_evidence(design)}
        case _:
            return {"fluid_share": design.fluid_share, "types": _paced_types(design)}


def _promised(design: Design) -> float | None:
    """The chance of an overflow; null where nothing is promised."""
    if isinstance(design, NestedDesign) and design.evidence is not None and design.evidence.doubt:
        return None
    return design.overflow_probability


def _evidence(design: NestedDesign | UnknownPacedDesign) -> dict[str, Any]:
    """The rows that a promise rests on; null where the law of lengths is given."""
    found = design.evidence
    if found is None:
        return {"rows": None, "confidence": None, "max_model_len": None, "lengths_p_value": None}
    return {"rows": found.rows, "confidence": None if found.doubt else found.confidence,
            "max_model_len": found.longest if found.stated else None,
            "lengths_p_value": found.order.p_value if found.order else None}


def _wait_types(design: WaitDesign) -> list[dict[str, Any]]:
    workload = design.equilibrium.workload
    nothing = [None] * len(workload)
    rows = zip(workload.names, design.thresholds or nothing, design.stable_thresholds or nothing,
               _list(design.slack, nothing), strict=True)
    return [{"name": name, "threshold": threshold, "stable_threshold": stable, "slack": slack}
            for name, threshold, stable, slack in rows]


def _paced_types(design: PacedDesign | UnknownPacedDesign) -> list[dict[str, Any]]:
    names = window_names(design)
    nothing = [None] * len(names)
    rows = zip(names, design.entries or nothing, design.iterations or nothing, strict=True)
    return [{"name": name, "entries": entries, "iterations": iterations, "gate": design.gate}
            for name, entries, iterations in rows]


def run_answer(found: Comparison) -> dict[str, Any]:
    """The body of `fluidwait run --json`."""
    return {"answer": found.yes, "why": found.choice.why, "advice": advice_answer(found.advice),
            "outlook": [{"share": share, **(advice_answer(advice) or {})} for share, advice in found.outlook.items()],
            "overtaken_by": found.overtaken_by, "overload": found.overload, "solve": solve_answer(found.equilibrium),
            "thresholds": thresholds_answer(found.design), "verify": verify_answer(found.chosen),
            "rivals": [{**verify_answer(outcome), "against_chosen": _against(found, outcome)}
                       for outcome in found.outcomes[1:]]}


def advice_answer(advice: Advice | None) -> dict[str, Any] | None:
    """What to do with the engine, and the short trials that say so; null where nothing is stable."""
    if advice is None:
        return None
    keys = ("throughput", "latency", "latency_p99", "ttft", "evictions_per_hour")
    trials = [{"policy": name_of_trial(trial, advice.trials), "regret": advice.trials.regret(trial),
               **{key: interval(getattr(trial, key)) for key in keys}} for trial in advice.trials.all]
    return {"use": name_of_trial(advice.best, advice.trials), "leave_engine": advice.leave, "why": advice.why,
            "trials": trials}


def _against(found: Comparison, outcome: Outcome) -> dict[str, Any]:
    return {measure: _difference(found.against(outcome, measure)) for measure in COMPARED}


def verify_answer(outcome: Outcome) -> dict[str, Any]:
    """The object of `fluidwait verify --json`; nothing is measured where the mathematics alone says unstable."""
    plan = outcome.plan
    head = {"policy": outcome.policy, "setting": outcome.setting, "replications": outcome.replications}
    if outcome.found is not None:
        return {**head, **_measured(outcome.found)}
    return {**head, "horizon": plan.horizon, "seed": plan.seed, "verdict": UNSTABLE, "reason": outcome.reason,
            "agrees": False, "checks": [],
            **dict.fromkeys((*INTERVALS, *NUMBERS, *EVIDENCE, "doubts", "doubted", "precision", "batch_means"))}


def _measured(found: Verification) -> dict[str, Any]:
    return {"horizon": found.horizon, "seed": found.seed,
            "verdict": found.verdict.answer, "reason": found.verdict.reason, "agrees": found.agrees,
            "checks": [_check(check) for check in found.checks],
            **{name: interval(getattr(found, name)) for name in INTERVALS},
            **{name: getattr(found, name) for name in NUMBERS},
            "score": found.verdict.score, "verdict_horizon": found.verdict.horizon,
            "drift": interval(found.verdict.drift), "falls_behind": list(found.verdict.evidence.behind),
            "types_unjudged": found.verdict.evidence.unjudged, "doubts": [each._asdict() for each in found.doubts],
            "doubted": sorted(found.doubted),
            "precision": _precision(found.precision),
            "batch_means": _inside(found.inside)}


def _difference(found: Difference | None) -> dict[str, Any] | None:
    """A paired difference to the chosen policy."""
    return None if found is None else {**found._asdict(), "significant": found.significant}


def _check(check: Check) -> dict[str, Any]:
    return {"name": check.name, "predicted": check.predicted, "measured": check.measured, "low": check.low,
            "high": check.high, "accuracy": check.accuracy, "agrees": check.agrees, "answer": check.answer}


def interval(found: Interval) -> dict[str, float]:
    """An interval by the names of its parts."""
    return {"mean": found.mean, "low": found.low, "high": found.high}


def _precision(precision: Precision | None) -> dict[str, Any] | None:
    return None if precision is None else {**asdict(precision), "reached": precision.reached}


def _inside(means: Inside | None) -> dict[str, Any] | None:
    """Intervals from inside a single replication."""
    if means is None:
        return None
    return {name: {**interval(each.interval), "valid": each.valid, "doubt": each.doubt or None}
            for name, each in vars(means).items()}


def _list(values: np.ndarray | None, otherwise: list[None]) -> list[Any]:
    return otherwise if values is None else values.tolist()
