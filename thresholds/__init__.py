"""Admission thresholds for LLM inference: the policies, their design and the delay they predict."""

from thresholds.bulk import bulk_queue_mean, heavy_traffic_mean, kingman_bound
from thresholds.choose import Choice, Design, auto, name_of, paced
from thresholds.delay import Prediction, TypeDelay, predict, predict_continuous
from thresholds.design import OnReplica, batch_time
from thresholds.nested import NestedDesign, nested
from thresholds.paced import PacedDesign, kv_bound, sequence_bound
from thresholds.policy import NestedWaitPolicy, PacedPolicy, ThresholdPolicy, WaitPolicy, read_policy, write_policy
from thresholds.theta import theta
from thresholds.unknown import UnknownPacedDesign
from thresholds.wait import WaitDesign, wait

__all__ = [
    "Choice",
    "Design",
    "NestedDesign",
    "NestedWaitPolicy",
    "OnReplica",
    "PacedDesign",
    "PacedPolicy",
    "Prediction",
    "ThresholdPolicy",
    "TypeDelay",
    "UnknownPacedDesign",
    "WaitDesign",
    "WaitPolicy",
    "auto",
    "batch_time",
    "bulk_queue_mean",
    "heavy_traffic_mean",
    "kingman_bound",
    "kv_bound",
    "name_of",
    "nested",
    "paced",
    "predict",
    "predict_continuous",
    "read_policy",
    "sequence_bound",
    "theta",
    "wait",
    "write_policy",
]
