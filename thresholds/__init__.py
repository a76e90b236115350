"""Admission thresholds for LLM inference: the policies, their design and the delay they predict."""

from thresholds.delay import Prediction, TypeDelay, bulk_queue_mean, predict
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
    "predict",
    "read_policy",
    "wait",
    "write_policy",
]
