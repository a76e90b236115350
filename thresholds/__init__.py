"""Admission thresholds for LLM inference: the policies, their design and the delay they predict."""

from typing import TYPE_CHECKING

from fluid.loading import on_demand

if TYPE_CHECKING:
    from thresholds.choice import Choice, Design, auto, name_of
    from thresholds.delay.approximations import Approximations, queue_approximations, transient_approximations
    from thresholds.delay.bulk_queue import bulk_queue_mean, entry_queue_mean, heavy_traffic_mean, kingman_bound
    from thresholds.delay.dispersion import Dispersion
    from thresholds.delay.prediction import Prediction, TypeDelay, predict, predict_continuous
    from thresholds.delay.queue_law import QueueLaw, entry_queue_law
    from thresholds.delay.reflected_walk import ReflectedWalk, corrected_brownian, reflected_brownian
    from thresholds.guarantees import OnReplica, batch_time
    from thresholds.look_ahead.design import LookAheadDesign, look_ahead
    from thresholds.nested_wait.boundary_queue import BoundaryQueue
    from thresholds.nested_wait.buffers import NestedBuffers, nested_buffers
    from thresholds.nested_wait.decay_rate import theta
    from thresholds.nested_wait.design import NestedDesign, nested
    from thresholds.paced_wait.design import paced
    from thresholds.paced_wait.known import PacedDesign
    from thresholds.paced_wait.unknown import UnknownPacedDesign
    from thresholds.paced_wait.window_bounds import kv_bound, sequence_bound
    from thresholds.policies import (
        LookAheadPolicy,
        NestedWaitPolicy,
        PacedPolicy,
        ThresholdPolicy,
        WaitPolicy,
        read_policy,
        write_policy,
    )
    from thresholds.reachable import Reachable, reachable
    from thresholds.wait_thresholds import WaitDesign, balanced_rates, wait
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = [
    "Approximations",
    "BoundaryQueue",
    "Choice",
    "Design",
    "Dispersion",
    "LookAheadDesign",
    "LookAheadPolicy",
    "NestedBuffers",
    "NestedDesign",
    "NestedWaitPolicy",
    "OnReplica",
    "PacedDesign",
    "PacedPolicy",
    "Prediction",
    "QueueLaw",
    "Reachable",
    "ReflectedWalk",
    "ThresholdPolicy",
    "TypeDelay",
    "UnknownPacedDesign",
    "WaitDesign",
    "WaitPolicy",
    "auto",
    "balanced_rates",
    "batch_time",
    "bulk_queue_mean",
    "corrected_brownian",
    "entry_queue_law",
    "entry_queue_mean",
    "heavy_traffic_mean",
    "kingman_bound",
    "kv_bound",
    "look_ahead",
    "name_of",
    "nested",
    "nested_buffers",
    "paced",
    "predict",
    "predict_continuous",
    "queue_approximations",
    "reachable",
    "read_policy",
    "reflected_brownian",
    "sequence_bound",
    "theta",
    "transient_approximations",
    "wait",
    "write_policy",
]
