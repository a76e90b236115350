"""What an engine keeps for itself: against start-up records, and its parts by hand."""

import pytest

from fluid.hardware.catalogue import GIB, find_gpu, find_model
from fluid.hardware.memory import LIBRARIES, LINKS, EngineLimits, default_limits, reserved_bytes
from fluid.hardware.placement import Placement


@pytest.mark.parametrize(("gpu", "limits"), [
    ("rtx-4090", (256, 2048)), ("l40s", (256, 2048)), ("a100-80gb", (256, 2048)), ("h100-80gb", (1024, 8192)),
    ("h200", (1024, 8192)), ("b200", (1024, 16384))])
def test_default_limits_are_those_of_vllm(gpu, limits):
    """engine/arg_utils.py: 1,024 sequences from 70 GiB on but not on an A100, 16,384 tokens from 160 GiB on."""
    assert default_limits(find_gpu(gpu)) == limits


@pytest.mark.parametrize(("model", "sequences", "gib"), [
    ("llama-3.1-8b", 1024, 4.76), ("llama-3.1-70b", 1024, 4.84)])
def test_the_sampler_takes_what_vllm_printed_for_it(model, sequences, gib):
    """PyTorch activation peak of vLLM 0.11.0 on an H100 at 1,024 sequences, printed to 0.01 GiB."""
    sampler = reserved_bytes(find_model(model), 1, EngineLimits(sequences, 8192)) - LIBRARIES
    assert sampler / GIB == pytest.approx(gib, rel=0.02)


def test_layers_take_more_than_the_sampler_where_iterations_are_long_and_batches_small():
    """65,536 tokens x (2 x 4,096 + 3 x 14,336 / 2) x 2 bytes = 3.89e9, against 39 x 8 x 128,256 = 4.0e7."""
    kept = reserved_bytes(find_model("llama-3.1-8b"), 2, EngineLimits(8, 65_536))
    assert kept == pytest.approx(65_536 * (8192 + 21_504) * 2 + LIBRARIES + LINKS)


def test_no_more_sequences_are_sampled_than_an_iteration_has_tokens():
    model = find_model("llama-3.1-8b")
    assert reserved_bytes(model, 1, EngineLimits(1024, 256)) == reserved_bytes(model, 1, EngineLimits(256, 256))


@pytest.mark.parametrize(("model", "gpu", "share", "reported"), [
    ("llama-3.1-8b", "rtx-4090", 0.9, 41_408),   # LLMServingSim, vLLM 0.19.0
    ("qwen3-8b", "a100-40gb", 0.9, 136_080),     # vLLM 0.9.2
    ("qwen3-8b", "a100-40gb", 0.9, 140_960),     # vLLM 0.19.0
    ("qwen3-8b", "rtx-5090", 0.92, 89_040),      # vLLM 0.24.0
])
def test_the_capacity_is_within_five_percent_of_what_engines_reported(model, gpu, share, reported):
    placement = Placement(find_model(model), find_gpu(gpu), memory_fraction=share, block=16)
    assert placement.kv_capacity == pytest.approx(reported, rel=0.05)


def test_the_capacity_is_whole_blocks():
    assert Placement(find_model("llama-3.1-8b"), find_gpu("l4"), block=16).kv_capacity % 16 == 0
