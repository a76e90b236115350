"""Where a deployment's iteration time comes from: given in the file, the law of the data sheets, or kernel tables."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fluid.arrays import Floats
from fluid.calibration.batches import Batches
from fluid.calibration.fit import lines_through
from fluid.hardware.iteration_law import SPREAD
from fluid.hardware.kernel_tables import Reach, kernel_batches, tables_version
from fluid.hardware.placement import Placement
from fluid.region import max_rate_scale_interval
from fluid.replica import IterationTime, Replica
from fluid.workload import Workload

GIVEN, LAW, KERNELS = "given", "law", "kernels"


@dataclass(frozen=True)
class Timing:
    """The `iteration_time`, its `source`, in a sentence the `detail`, and by the law the `covariance` (4, 4)."""

    iteration_time: IterationTime
    source: str = GIVEN
    detail: str = "given in the file"
    covariance: Floats | None = None

    def rate_interval(self, workload: Workload, replica: Replica) -> tuple[float, float | None] | None:
        """The interval at 95% of the factor at which the region ends; None where nothing is known of the error."""
        if self.covariance is None:
            return None
        return max_rate_scale_interval(workload, replica, self.covariance)


def by_law(placement: Placement, workload: Workload) -> Timing:
    """The law of the data sheets, at the mix's mean prompt length."""
    found = placement.time_by_law(mean_prompt(workload))
    detail = (f"by the data sheets of {placement.model.name} and {placement.gpu.name} and a law fitted to measurements "
              f"(on GPUs and models it has not seen it errs by {100 * SPREAD:.0f}%)")
    return Timing(found.iteration_time, LAW, detail, found.covariance)


def by_kernels(placement: Placement, workload: Workload, replica: Replica) -> Timing:
    """The installed kernel tables, over the batches that the replica can hold."""
    prompt = round(mean_prompt(workload))
    decoding = workload.rates * workload.output_tokens
    context = (workload.prompt_tokens + workload.output_tokens / 2) @ decoding / decoding.sum()
    reach = Reach(replica.kv_capacity, replica.most_sequences, placement.limits.max_num_batched_tokens, prompt,
                  round(float(context)))
    decode, kv, prefills, tokens, times = kernel_batches(placement, reach).T
    batches = Batches.from_arrays(decode, kv, times, prefill_sequences=prefills, prefill_tokens=tokens)
    fitted, error = lines_through(batches)
    detail = (f"by the kernels of {tables_version()} for {placement.engine}, fitted to {len(batches)} batches with an "
              f"error of {100 * error:.2g}% (without what the host adds between kernels)")
    return Timing(fitted, KERNELS, detail)


def mean_prompt(workload: Workload) -> float:
    """The mean prompt length weighted by tokens: sum_j lambda_j l_j^2 / sum_j lambda_j l_j."""
    tokens = workload.rates * workload.prompt_tokens
    return float(tokens @ workload.prompt_tokens / tokens.sum())


def timed(replica: Replica, timing: Timing) -> Replica:
    """The replica with that iteration time."""
    return replace(replica, iteration_time=timing.iteration_time)
