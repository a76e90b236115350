"""What the commands answer, as JSON objects: finite numbers or null, seconds, tokens, requests/s.

Every object says its schema, the program's version, the command and where the deployment came from.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Protocol

from fluid import Equilibrium, LengthPairs
from fluidwait import __version__
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.mix import Mix
from fluidwait.reports.wording import predicted, reason_of, standing
from fluidwait.study.advice import Advice, name_of_trial
from fluidwait.study.outcomes import Comparison, Outcome
from thresholds import Design, Dispersion, reachable
from verification import Difference, Interval
from verification.experiments.stability import UNSTABLE
from verification.experiments.verification import COUNTS, MEASURES
from verification.traffic.bursts import Bursts

ANSWER_VERSION = 1
COMPARED = ("throughput", "latency", "latency_p99", "ttft", "evictions")
EVIDENCE = ("score", "verdict_horizon", "drift", "falls_behind", "types_unjudged")


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
    return {**equilibrium.to_dict(), "reason": reason_of(equilibrium), **proved_answer(equilibrium)}


def proved_answer(equilibrium: Equilibrium) -> dict[str, Any]:
    """What is proved of the mix beside what nobody carries: the factor on all rates that a policy of ours does."""
    if equilibrium.limit == "length":
        return {"proved_reachable": 0.0, "reachable_by": None, "proved": "impossible"}
    reach = reachable(equilibrium)
    return {"proved_reachable": reach.scale, "reachable_by": reach.policy or None,
            "proved": standing(equilibrium, reach)}


def timing_answer(read: Deployment) -> dict[str, Any]:
    """Where the iteration time comes from, its coefficients, and the edge's interval at 95% where one is known."""
    if read.timing is None:
        return {}
    return {"iteration_time_source": read.timing.source, "iteration_time_detail": read.timing.detail,
            "iteration_time_pieces": [line._asdict() for line in read.timing.iteration_time.pieces],
            "max_rate_scale_interval": read.timing.rate_interval(read.workload, read.replica)}


def mix_answer(mix: Mix) -> dict[str, Any]:
    """Where the requests come from, and the answer of `solve` where some windows do not fit, or users wait for answers.
    """
    answer = {"stable": False, "reason": mix.overload} if mix.overload else {}
    return {**mix_origin(mix), **answer, **({"stable": True} if mix.closed is not None else {})}


def mix_origin(mix: Mix) -> dict[str, Any]:
    """The KV tokens its shared prefixes hold, the trace behind a workload, the windows its rates move through."""
    answer: dict[str, Any] = {"kv_reserved": mix.reserved} if mix.reserved else {}
    if mix.trace is not None:
        trace = mix.trace
        answer["trace"] = {"source": trace.source, "sha256": trace.digest, "format": trace.format,
                           "requests": len(trace), "skipped": trace.skipped, "failed": trace.failed,
                           "read_as": None if trace.read_as is None else trace.read_as._asdict(),
                           "notes": list(trace.notes)}
    if isinstance(mix.traffic, Bursts):
        told = mix.traffic.dispersion(mix.workload.rate)
        answer["arrivals"] = {**asdict(mix.traffic), "dispersion": told.index, "dispersion_seconds": told.seconds}
    if mix.closed is not None:
        loop = mix.closed
        answer["closed_loop"] = {"users": loop.users, "think": loop.think, "rate": loop.rate, "latency": loop.latency,
                                 "saturated": loop.saturated, "saturating_users": loop.saturating,
                                 "most_rate": loop.most, "latency_alone": loop.alone}
    if mix.laws:
        answer["lengths"] = [_pairs_answer(each.pairs) for each in mix.laws]
    if mix.windows:
        answer["windows"] = [{"start": each.start, "end": each.end, "rate": each.equilibrium.workload.rate,
                              "stable": each.equilibrium.stable, "kv_required": each.equilibrium.kv_required,
                              "iteration_time": each.equilibrium.iteration_time, "backlog": each.backlog}
                             for each in mix.windows]
        answer["mean_rates_fit"] = mix.mean_fits
    return answer


def _pairs_answer(pairs: LengthPairs) -> dict[str, Any]:
    """The laws of the lengths of one kind of request, and what few lengths make of them."""
    sides = zip(("prompt_tokens", "output_tokens"), (pairs.prompt, pairs.output), pairs.p99_moved(), strict=True)
    return {"name": pairs.name, "types": len(pairs.chances), "kv_work_error": pairs.kv_work_error, **{side: {
        "law": law.law, "min": int(law.tokens[0]), "max": int(law.tokens[-1]), "mean": law.mean,
        "stated_mean": law.stated_mean, "clipped": law.clipped, "median": law.quantile(0.5), "p95": law.quantile(0.95),
        "p99": law.quantile(0.99), "p99_moved": moved} for side, law, moved in sides}}


def thresholds_answer(design: Design, dispersion: Dispersion) -> dict[str, Any]:
    """The object of `fluidwait thresholds --json`; delays at a dispersion of the arrivals."""
    delay = predicted(design, dispersion)
    return {**design.to_dict(), "predicted": {"latency": delay.latency if delay else None,
                                              "ttft": delay.ttft if delay else None,
                                              "tpot": delay.tpot if delay else None}}


def run_answer(found: Comparison, dispersion: Dispersion) -> dict[str, Any]:
    """The body of `fluidwait run --json`."""
    return {"answer": found.yes, "why": found.choice.why, "advice": advice_answer(found.advice),
            "outlook": [{"share": share, **(advice_answer(advice) or {})} for share, advice in found.outlook.items()],
            "overtaken_by": found.overtaken_by, "overload": found.overload, "solve": solve_answer(found.equilibrium),
            "thresholds": thresholds_answer(found.design, dispersion), "verify": verify_answer(found.chosen),
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
        return {**outcome.found.to_dict(), **head}
    return {**head, "horizon": plan.horizon, "seed": plan.seed, "verdict": UNSTABLE, "reason": outcome.reason,
            "agrees": False, "checks": [],
            **dict.fromkeys((*MEASURES, *COUNTS, *EVIDENCE, "at_least", "targets", "doubts", "doubted", "precision",
                             "batch_means", "energy"))}


def _difference(found: Difference | None) -> dict[str, Any] | None:
    """A paired difference to the chosen policy."""
    return None if found is None else {**found._asdict(), "significant": found.significant}


def interval(found: Interval) -> dict[str, float]:
    """An interval by the names of its parts."""
    return found._asdict()
