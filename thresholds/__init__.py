"""Admission thresholds for LLM inference: the policies, their design and the delay they predict."""

from thresholds.bulk import bulk_queue_mean, heavy_traffic_mean, kingman_bound
from thresholds.delay import Prediction, TypeDelay, predict, predict_continuous
from thresholds.policy import NestedWaitPolicy, PacedPolicy, ThresholdPolicy, WaitPolicy, read_policy, write_policy
from thresholds.wait import WaitDesign, wait

__all__ = [
    "NestedWaitPolicy",
    "PacedPolicy",
    "Prediction",
    "ThresholdPolicy",
    "TypeDelay",
    "WaitDesign",
    "WaitPolicy",
    "bulk_queue_mean",
    "heavy_traffic_mean",
    "kingman_bound",
    "predict",
    "predict_continuous",
    "read_policy",
    "wait",
    "write_policy",
]
