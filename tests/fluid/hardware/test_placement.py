"""Capacity and the roofline against data sheets, arithmetic by hand and two calibrations."""

import pytest

from fluid import InputError, IterationTime
from fluid.hardware.catalogue import GIB, Gpu, find_gpu, find_model
from fluid.hardware.model import Model
from fluid.hardware.placement import Placement, replica_from_catalogue


def placement(model: str = "llama-2-7b", gpu: str = "a100-80gb", **options: object) -> Placement:
    return Placement(find_model(model), find_gpu(gpu), **options)


@pytest.mark.parametrize(("model", "size"), [
    ("llama-2-7b", 524_288),   # 2 x 32 layers x 32 heads x 128 x 2 bytes
    ("llama-2-70b", 327_680),  # 2 x 80 x 8 x 128 x 2
    ("llama-3-8b", 131_072),   # 2 x 32 x 8 x 128 x 2
    ("qwen2.5-7b", 57_344),    # 2 x 28 x 4 x 128 x 2
])
def test_a_kv_token_takes_two_vectors_per_layer_and_kv_head(model, size):
    assert placement(model).kv_bytes_per_token == size


def test_llama_2_7b_on_an_a100_has_the_capacity_of_the_published_experiments():
    """(0.99 x 80 x 2^30 - 2 x 6,738,415,616) / 524,288 = (85,040,352,461 - 13,476,831,232) / 524,288 = 136,496.6."""
    assert placement().kv_capacity == 136_496
    assert placement().kv_capacity == pytest.approx(1.37e5, rel=0.01)


def test_the_iteration_time_of_llama_2_7b_on_an_a100_is_the_roofline_by_hand():
    """Used: 6,738,415,616 - 131,072,000 = 6,607,343,616 parameters. Bandwidth 0.64 x 2,039e9 = 1,304.96e9 bytes/s.

    d0 = 13,214,687,232 / 1,304.96e9 = 10.1265 ms; d1 = 524,288 / 1,304.96e9 = 0.40177 us;
    d2 = 2 x 6,607,343,616 / (0.72 x 312e12) = 58.826 us.
    """
    (line,) = placement().iteration_time.pieces
    assert line.overhead == pytest.approx(10.1265e-3, rel=1e-4)
    assert line.per_kv_token == pytest.approx(0.40177e-6, rel=1e-4)
    assert line.per_prefill_token == pytest.approx(58.826e-6, rel=1e-4)
    assert line.per_sequence == 0


def test_the_default_shares_reproduce_the_published_calibration_within_five_percent():
    """Published: 10.6 ms and 0.4013 us per KV token; Vidur's compute line: 58.5 us per token."""
    (line,) = placement().iteration_time.pieces
    assert line.overhead == pytest.approx(10.6e-3, rel=0.05)
    assert line.per_kv_token == pytest.approx(0.4013e-6, rel=0.05)
    assert line.per_prefill_token == pytest.approx(58.5e-6, rel=0.05)


def test_one_line_stays_within_26_percent_of_vidurs_two_for_contexts_of_200_to_1000_tokens():
    """Vidur: max(10.1 ms, 8.9 ms + 58.5 us T) + 0.255 us KV, T = decodes + prompt tokens.

    Furthest apart when 1,000-token decodes fill the memory: 128 of them take 10.13 + 128 x 0.4018 = 61.6 ms here and
    8.9 + 128 (0.0585 + 0.255) = 49.0 ms there: a ratio of 1.255.
    """
    vidur = IterationTime.largest(IterationTime(10.1e-3, 0.255e-6), IterationTime(8.9e-3, 0.255e-6, 58.5e-6, 58.5e-6))
    ours = placement().iteration_time
    for decodes in (1, 8, 32, 64, 96, 128):
        for context in (200, 500, 1000):
            for prefill in (0, 128, 512, 2048):
                batch = {"kv": decodes * context + prefill, "prefill": prefill, "size": decodes}
                assert ours(**batch) == pytest.approx(vidur(**batch), rel=0.26), batch


def test_two_gpus_halve_every_time_and_more_than_double_the_capacity():
    """C(2) = (2 usable - weights) / k exceeds 2 C(1) = 2 (usable - weights) / k by weights / k = 25,705 tokens."""
    one, two = placement(), placement(tensor_parallel=2)
    assert two.iteration_time.coefficients == pytest.approx(one.iteration_time.coefficients / 2)
    assert two.kv_capacity - 2 * one.kv_capacity == pytest.approx(13_476_831_232 / 524_288, abs=2)


def test_more_gpus_than_kv_heads_keep_copies_of_them():
    """Qwen2.5-32B has 40 heads and 8 KV heads: 8 GPUs share 2 x 64 x 8 x 128 x 2 = 262,144 bytes a token.

    Llama-3-8B with 32 heads and 8 KV heads on 16 GPUs keeps each KV head twice: 2 x 131,072 bytes.
    """
    assert placement("qwen2.5-32b", tensor_parallel=8).kv_bytes_per_token == 262_144
    assert placement("llama-3-8b", tensor_parallel=16).kv_bytes_per_token == 2 * 131_072


@pytest.mark.parametrize(("dtype", "factor"), [("bfloat16", 1.0), ("float32", 2.0), ("fp8", 0.5), ("int8", 0.5)])
def test_the_kv_element_type_scales_the_bytes_of_a_token_and_nothing_else(dtype, factor):
    given, default = placement(kv_dtype=dtype), placement()
    assert given.kv_bytes_per_token == factor * default.kv_bytes_per_token
    assert given.weight_bytes == default.weight_bytes


def test_eight_bit_weights_halve_the_layers_and_leave_embedding_and_head_in_sixteen():
    """Two embeddings of 131,072,000 and 65 norms of 4,096 keep 2 bytes, which is one more than the others have:

    6,738,415,616 + 262,144,000 + 266,240 = 7,000,825,856 bytes. Read is one of the embeddings: d0 is
    6,607,343,616 + 131,072,000 + 266,240 = 6,738,681,856 bytes.
    """
    eight = placement(weight_dtype="fp8")
    assert eight.weight_bytes == 7_000_825_856
    assert eight.iteration_time.pieces[0].overhead == pytest.approx(6_738_681_856 / 1304.96e9)


def test_four_bit_weights_carry_a_scale_and_a_zero_for_every_128():
    """6,476,005,376 x (4 + 16/128 + 4/128) / 8 = 3,364,487,168 bytes in the linear layers, 524,288,000 for embedding
    and head, and 2 x 65 x 4,096 = 532,480 for the norms.
    """
    assert placement(weight_dtype="int4").weight_bytes == 3_364_487_168 + 524_288_000 + 532_480


def test_four_bytes_a_weight_are_four_for_the_embedding_too():
    assert placement(weight_dtype="float32").weight_bytes == 2 * placement().weight_bytes


@pytest.mark.parametrize("gpus", [1, 2])
def test_memory_for_activations_comes_off_every_gpu_before_the_cache(gpus):
    """3 GiB are 3 x 2^30 / 524,288 = 6,144 tokens of Llama-2-7B, on each GPU."""
    given = placement(tensor_parallel=gpus, activation_memory=3)
    assert placement(tensor_parallel=gpus).kv_capacity - given.kv_capacity == 6_144 * gpus
    assert given.iteration_time == placement(tensor_parallel=gpus).iteration_time
    by_name = replica_from_catalogue("llama-2-7b", "a100-80gb", tensor_parallel=gpus, activation_memory=3)
    assert by_name.kv_capacity == given.kv_capacity


def test_activations_that_leave_no_token_are_refused_with_every_part():
    """13,476,831,232 bytes are 12.6 GiB; 0.99 x 22.5 GiB = 22.3 GiB."""
    parts = r"take 12\.6 GiB, activations and CUDA graphs 10\.0 GiB and 1 x l4 has 22\.3 GiB"
    with pytest.raises(InputError, match=parts):
        replica_from_catalogue("llama-2-7b", "l4", activation_memory=10.0)


@pytest.mark.parametrize("gpus", [1, 2, 16])
def test_latent_attention_keeps_one_vector_per_layer_on_every_gpu(gpus):
    """27 layers x (512 + 64) x 2 bytes = 31,104 on each GPU: more GPUs read no less of it each."""
    given = placement("deepseek-v2-lite", tensor_parallel=gpus)
    assert given.kv_bytes_per_token == 31_104 * gpus
    assert given.iteration_time.pieces[0].per_kv_token == pytest.approx(31_104 / 1304.96e9)


def test_deepseek_v2_lite_on_an_a100_has_the_capacity_by_hand():
    """(85,040,352,461 - 2 x 15,706,484,224) / 31,104 = 53,627,384,013 / 31,104 = 1,724,131.4."""
    assert placement("deepseek-v2-lite").kv_capacity == 1_724_131


def test_a_mixture_reads_every_expert_and_multiplies_by_the_chosen_ones():
    """Mixtral without its input embedding: 46,702,792,704 - 131,072,000 = 46,571,720,704 parameters read.

    Six of eight experts idle per token: 6 x 32 layers x 3 x 4,096 x 14,336 = 33,822,867,456 fewer multiplied.
    """
    (line,) = placement("mixtral-8x7b", tensor_parallel=2).iteration_time.pieces
    assert line.overhead == pytest.approx(46_571_720_704 / 1304.96e9)
    assert line.per_prefill_token == pytest.approx((46_571_720_704 - 33_822_867_456) / (0.72 * 312e12))


def test_a_window_of_every_layer_is_told_and_changes_no_byte():
    windowed, whole = placement("mistral-7b-v0.1"), placement("mistral-7b")
    assert (windowed.attention_window, whole.attention_window) == (4096, None)
    assert windowed.kv_capacity == whole.kv_capacity


def test_weights_that_do_not_fit_are_refused_with_the_numbers():
    """68,976,648,192 x 2 bytes = 128.5 GiB; 0.99 x 80 GiB = 79.2 GiB."""
    with pytest.raises(InputError, match=r"llama-2-70b in float16 take 128\.5 GiB and 1 x a100-80gb has 79\.2 GiB"):
        replica_from_catalogue("llama-2-70b", "a100-80gb")
    assert replica_from_catalogue("llama-2-70b", "a100-80gb", tensor_parallel=2).kv_capacity > 0


def test_the_capacity_is_a_floor_and_its_last_token_counts():
    """Weights 236 x 2 = 472 bytes, 8 bytes a token: 480 usable bytes hold one token, 479 none."""
    tiny = Model("tiny", 1, 4, 2, 1, 2, 8, 10)
    assert Placement(tiny, Gpu("toy", 480 / GIB, 1.0, 1.0), memory_fraction=1.0).kv_capacity == 1
    with pytest.raises(InputError):
        _ = Placement(tiny, Gpu("toy", 479 / GIB, 1.0, 1.0), memory_fraction=1.0).kv_capacity


@pytest.mark.parametrize("options", [
    {"memory_fraction": 0}, {"memory_fraction": 1.01}, {"memory_fraction": float("nan")}, {"memory_fraction": "0.9"},
    {"bandwidth_share": -1.0}, {"compute_share": True}, {"kv_dtype": "int4"}, {"weight_dtype": "float8"},
    {"tensor_parallel": 0}, {"tensor_parallel": 3}, {"tensor_parallel": 1.5},
    {"activation_memory": -0.1}, {"activation_memory": float("inf")}, {"activation_memory": "2 GiB"}])
def test_an_option_out_of_range_is_refused_by_name(options):
    """int4 is a type for weights only; 3 GPUs cannot share 32 heads."""
    with pytest.raises(InputError) as refusal:
        placement(**options)
    assert refusal.value.field == next(iter(options))
