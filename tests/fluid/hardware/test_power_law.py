"""The power of named GPUs: shares of the data sheet, times the group; nothing where nobody measured."""

import pytest

from fluid import Replica
from fluid.hardware.catalogue import GPUS, Gpu, find_gpu
from fluid.hardware.power_law import MEASURED, OTHERS, power_of


@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS)
def test_power_is_between_idle_and_what_the_board_may_draw(gpu):
    power = power_of(gpu)
    assert (power is None) == (gpu.idle is None)
    if power is not None:
        assert gpu.idle == power.idle < power.fixed < power.busy <= gpu.tdp


def test_a_group_draws_as_many_times_as_much():
    """Two H100: 2 x 121.7 W idle, 2 x 700 W times the measured shares."""
    shares, power = MEASURED["h100-80gb"], power_of(find_gpu("h100-80gb"), 2)
    assert (power.idle, power.fixed, power.busy) == (243.4, 1400 * shares.overhead, 1400 * shares.busy)
    assert power.error == shares.error


def test_a_gpu_that_nobody_measured_needs_its_idle_power():
    """Its shares are those of the measured ones together, with the error of one predicted from the other."""
    gpu = Gpu("my-gpu", 80, 2e12, 3e14, tdp=500.0)
    assert power_of(gpu) is None
    power = power_of(gpu, idle=50.0)
    assert (power.idle, power.busy, power.error) == (50.0, 500 * OTHERS.busy, OTHERS.error)


def test_a_named_replica_has_the_power_of_its_gpus():
    assert Replica.of("llama-3.1-70b", "h100-80gb", tensor_parallel=4).power == power_of(find_gpu("h100-80gb"), 4)
    assert Replica.of("llama-3.1-8b", "rtx-4090", max_num_seqs=8).power is None
