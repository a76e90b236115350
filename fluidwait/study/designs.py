"""The design of a name for a deployment, or the one that is predicted to be best."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

from fluid.traces.trace import Trace
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.policy_names import AUTO
from fluidwait.progress import working
from thresholds import Choice, Design, LookAheadDesign, auto, look_ahead, nested, paced, wait

CARRIED = 0.999  # of the largest rate that a design carries


class Promise(TypedDict):
    """What a design is asked to promise, and the rows that it is to rest on."""

    horizon: float
    overflow_probability: float
    rows: Trace | None
    confidence: float


def choose(deployment: Deployment, policy: str) -> Choice:
    """Design the policy of a name, or the best one for "auto".

    Of users who send more than a design carries it is the design for what it does carry: the others wait their turn.
    """
    choice = _choose(deployment, policy)
    scale = choice.design.max_rate_scale
    if deployment.mix.closed is None or choice.design.feasible or not 0 < scale < 1:
        return choice
    fewer = replace(deployment.mix, workload=deployment.workload.scaled(CARRIED * scale))
    return _choose(replace(deployment, mix=fewer), policy)


def _choose(deployment: Deployment, policy: str) -> Choice:
    """Design the policy of a name, or the best one for "auto"; of a trace, with confidence over its requests.

    Predicted lengths promise nothing: "auto" treats them as unknown. Policies by type that are asked for by name are
    designed for the mix as it is seen on arrival.
    """
    workload, replica = deployment.workload, deployment.replica
    promise: Promise = {"horizon": deployment.horizon, "overflow_probability": deployment.overflow_probability,
                        "rows": deployment.mix.trace, "confidence": deployment.confidence}
    predicted = deployment.predictor is not None
    if policy == AUTO:
        lengths = "unknown" if predicted else deployment.lengths
        choice = auto(workload, replica, lengths=lengths, **promise)
        why = "paced for the mix, because predicted output lengths may be wrong"
        return replace(choice, why=why) if predicted else choice
    design: Design
    if policy == "wait":
        design = wait(deployment.seen, replica)
    elif policy == "paced":
        lengths = "known" if predicted else deployment.lengths
        design = paced(deployment.seen, replica, lengths=lengths, **promise)
    elif policy == "look-ahead":
        design = look_ahead(workload, replica, horizon=deployment.horizon,
                            overflow_probability=deployment.overflow_probability)
    else:
        with working("designing nested WAIT") as progress:
            design = nested(workload, replica, progress=progress, **promise)
    return Choice(design, f"{policy}, as asked for{_reservation(deployment, design)}", (design,))


def holds(deployment: Deployment, design: Design) -> bool:
    """Whether the overflow probability of a design is promised of this deployment's traffic.

    Look-ahead admission has no bound with confidence over rows yet; a policy by type has none where requests outlive
    what they are taken for.
    """
    of_rows = isinstance(design, LookAheadDesign) and deployment.mix.trace is not None
    return not of_rows and not (design.by_type and deployment.taken_for_shorter)


def _reservation(deployment: Deployment, design: Design) -> str:
    """What the bound of a design is worth where lengths are only predicted, or seen in a trace, in words."""
    if isinstance(design, LookAheadDesign) and deployment.mix.trace is not None:
        return (", which promises for requests drawn anew from the lengths of the trace, nothing of their order nor of "
                "the law behind them")
    if deployment.predictor is None or not design.by_type:
        return ""
    share = deployment.taken_for_shorter
    if share == 0:
        return ", for the mix as it is seen: no request is ever taken for a shorter one, so its bound holds"
    return (f", for the mix as it is seen: its bound on memory would hold if no request outlived those it is taken "
            f"for, but {share:.2g} of all do")
