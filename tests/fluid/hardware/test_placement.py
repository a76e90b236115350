"""Capacity and bytes against arithmetic by hand; the law itself is tested in test_iteration_law."""

from dataclasses import replace

import pytest

from fluid import InputError
from fluid.hardware.catalogue import GIB, Gpu, find_gpu, find_model
from fluid.hardware.iteration_law import costs
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


def line(**options):
    """The one piece of the law's iteration time, for prompts of 512 tokens."""
    (piece,) = placement(**options).time_by_law().iteration_time.pieces
    return piece


def test_the_capacity_of_llama_2_7b_on_an_a100_by_hand():
    """(0.99 x 79.25 x 2^30 - 2 x 6,738,415,616) / 524,288 = (84,243,099,156 - 13,476,831,232) / 524,288 = 134,975.9."""
    assert placement(memory_fraction=0.99, activation_memory=0).kv_capacity == 134_975


def test_what_an_engine_keeps_comes_off_unless_it_is_given():
    """By default 39 x 256 x 32,000 = 319,488,000 bytes for the sampler, which is less than 2,048 tokens of the layers:

    2,048 x (2 x 4,096 + 3 x 11,008) x 2 = 168,820,736. With 0.13 GiB = 139,586,437 that is 459,074,437 bytes:
    (0.9 x 79.25 x 2^30 - 459,074,437 - 13,476,831,232) / 524,288 = 119,492.6.
    """
    assert placement().kv_capacity == 119_492


def test_two_gpus_halve_what_the_data_sheet_says_and_more_than_double_the_capacity():
    """C(2) = (2 usable - weights) / k exceeds 2 C(1) = 2 (usable - weights) / k by weights / k = 25,705 tokens."""
    one, two = placement(activation_memory=0), placement(activation_memory=0, tensor_parallel=2)
    assert line(tensor_parallel=2).per_kv_token == pytest.approx(line().per_kv_token / 2)
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
    saved = line().overhead - line(weight_dtype="fp8").overhead
    assert saved == pytest.approx((2 * 6_607_343_616 - 6_738_681_856) / 2039e9)


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
    given, none = (placement(tensor_parallel=gpus, activation_memory=each) for each in (3, 0))
    assert none.kv_capacity - given.kv_capacity == 6_144 * gpus
    by_name = replica_from_catalogue("llama-2-7b", "a100-80gb", tensor_parallel=gpus, activation_memory=3)
    assert by_name.kv_capacity == given.kv_capacity


def test_activations_that_leave_no_token_are_refused_with_every_part():
    """13,476,831,232 bytes are 12.6 GiB; 0.9 x 22.03 GiB = 19.8 GiB."""
    parts = r"take 12\.6 GiB, activations and CUDA graphs 10\.0 GiB and 1 x l4 has 19\.8 GiB"
    with pytest.raises(InputError, match=parts):
        replica_from_catalogue("llama-2-7b", "l4", activation_memory=10.0)


@pytest.mark.parametrize("gpus", [1, 2, 16])
def test_latent_attention_keeps_one_vector_per_layer_on_every_gpu(gpus):
    """27 layers x (512 + 64) x 2 bytes = 31,104 on each GPU: more GPUs read no less of it each."""
    given = placement("deepseek-v2-lite", tensor_parallel=gpus)
    assert given.kv_bytes_per_token == 31_104 * gpus
    assert given.time_by_law().iteration_time.pieces[0].per_kv_token == pytest.approx(31_104 / 2039e9)


def test_deepseek_v2_lite_on_an_a100_has_the_capacity_by_hand():
    """(84,243,099,156 - 2 x 15,706,484,224) / 31,104 = 52,830,130,708 / 31,104 = 1,698,499.6."""
    assert placement("deepseek-v2-lite", memory_fraction=0.99, activation_memory=0).kv_capacity == 1_698_499


def test_a_mixture_reads_every_expert_and_multiplies_by_the_chosen_ones():
    """Mixtral without its input embedding: 46,702,792,704 - 131,072,000 = 46,571,720,704 parameters read.

    Six of eight experts idle per token: 6 x 32 layers x 3 x 4,096 x 14,336 = 33,822,867,456 fewer multiplied.
    """
    mixtral = placement("mixtral-8x7b", tensor_parallel=2)
    assert mixtral.bytes_read == 2 * 46_571_720_704
    assert mixtral.model.parameters_active == 46_571_720_704 - 33_822_867_456


def test_a_window_of_every_layer_is_told_and_changes_no_byte():
    windowed, whole = placement("mistral-7b-v0.1"), placement("mistral-7b")
    assert (windowed.attention_window, whole.attention_window) == (4096, None)
    assert windowed.kv_capacity == whole.kv_capacity


def test_weights_that_do_not_fit_are_refused_with_the_numbers():
    """68,976,648,192 x 2 bytes = 128.5 GiB; 0.9 x 79.25 GiB = 71.3 GiB."""
    with pytest.raises(InputError, match=r"llama-2-70b in float16 take 128\.5 GiB, .* 1 x a100-80gb has 71\.3 GiB"):
        replica_from_catalogue("llama-2-70b", "a100-80gb")
    assert replica_from_catalogue("llama-2-70b", "a100-80gb", tensor_parallel=2).kv_capacity > 0


def test_the_capacity_is_a_floor_and_its_last_token_counts():
    """Weights 236 x 2 = 472 bytes, 8 bytes a token: 480 usable bytes hold one token, 479 none."""
    tiny = Model("tiny", 1, 4, 2, 1, 2, 8, 10)
    whole = {"memory_fraction": 1.0, "activation_memory": 0}
    assert Placement(tiny, Gpu("toy", 480 / GIB, 1.0, 1.0), **whole).kv_capacity == 1
    with pytest.raises(InputError):
        _ = Placement(tiny, Gpu("toy", 479 / GIB, 1.0, 1.0), **whole).kv_capacity


@pytest.mark.parametrize("options", [
    {"memory_fraction": 0}, {"memory_fraction": 1.01}, {"memory_fraction": float("nan")}, {"memory_fraction": "0.9"},
    {"engine": "tgi"}, {"kv_dtype": "int4"}, {"weight_dtype": "float8"},
    {"tensor_parallel": 0}, {"tensor_parallel": 3}, {"tensor_parallel": 1.5},
    {"activation_memory": -0.1}, {"activation_memory": float("inf")}, {"activation_memory": "2 GiB"}])
def test_an_option_out_of_range_is_refused_by_name(options):
    """int4 is a type for weights only; 3 GPUs cannot share 32 heads."""
    with pytest.raises(InputError) as refusal:
        placement(**options)
    assert refusal.value.field == next(iter(options))


def test_layers_with_a_window_and_a_state_of_constant_size_reach_the_replica():
    """Half of the layers attend to 128 tokens, as in gpt-oss. Of a hybrid 8 of 32 layers keep 2 x 8 x 8 x 128 x 2 =
    32,768 bytes of KV a token, the others 1,000,001 bytes a sequence: 30.5, so 31 tokens.
    """
    mixed = replace(find_model("llama-3.1-8b"), attention_window=128, windowed_layers=16)
    given = Placement(mixed, find_gpu("a100-80gb"))
    assert (given.attention_window, given.windowed_layers, given.state) == (128, (16, 32), 0)
    hybrid = replace(find_model("llama-3.1-8b"), attention_layers=8, state_bytes=1_000_001)
    assert Placement(hybrid, find_gpu("a100-80gb")).state == 31
    assert placement().windowed_layers is None


def test_attention_of_a_prefill_costs_the_window_where_layers_have_one_and_nothing_where_they_have_no_cache():
    """At 1,000 tokens: 32 layers x 1,000; half windowed at 128: 16 x 1,128; 8 of 32 with a cache: 8 x 1,000."""
    base = find_model("llama-3.1-8b")
    models = (base, replace(base, attention_window=128, windowed_layers=16), replace(base, attention_layers=8))
    given = {"gpus": 1, "bytes_read": 1.0, "kv_bytes": 1.0, "multiplies_in": 16, "prompt_tokens": 1000}
    whole, mixed, hybrid = (costs(model, find_gpu("h200"), **given)[2, 3] for model in models)
    assert (mixed / whole, hybrid / whole) == pytest.approx((16 * 1128 / 32_000, 8 / 32))
