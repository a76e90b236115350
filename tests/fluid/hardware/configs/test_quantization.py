"""Quantised checkpoints: the formats each method means, what is left out, and the KV cache that engines choose."""

import json

import pytest

from fluid import InputError
from fluid.hardware.catalogue import GIB, find_gpu
from fluid.hardware.element_types import FORMATS, Modules
from fluid.hardware.huggingface import model_from_config
from fluid.hardware.placement import Placement
from fluid.hardware.tensors import LINEAR, Tensor

# two layers of 256: 4 x 256 x 256 attention and 3 x 256 x 512 MLP each, so 2 x 655,360 parameters in linear layers;
# 5 norms of 256, an embedding and a head of 1,000 x 256 = 513,280 parameters, which keep 2 bytes: 1,026,560
SMALL = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4,
         "intermediate_size": 512, "vocab_size": 1000}
ATTENTION, MLP, REST = 2 * 4 * 256 * 256, 2 * 3 * 256 * 512, 1_026_560


@pytest.fixture
def placed(tmp_path):
    """Place SMALL, quantised as given, on one GPU; `beside` is its hf_quant_config.json."""
    def place(quantization: object = None, beside: object = None, shape: dict | None = None, **options) -> Placement:
        path = tmp_path / "config.json"
        path.write_text(json.dumps((shape or SMALL) | {"quantization_config": quantization}))
        if beside is not None:
            path.with_name("hf_quant_config.json").write_text(json.dumps(beside))
        return Placement(model_from_config(path), find_gpu("h100-80gb"), **options)
    return place


def group(**weights):
    return {"quant_method": "compressed-tensors", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}


@pytest.mark.parametrize(("quantization", "bits"), [
    ({"quant_method": "fp8"}, 8),
    # blocks of 128 x 128 share a scale of 32 bits; all sizes are multiples of 128
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 128**2),
    ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, 8),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 4 + (16 + 4) / 128),
    ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, 4 + (16 + 4) / 64),
    ({"quant_method": "gptq", "bits": 8, "group_size": 128, "desc_act": False}, 8 + (16 + 8) / 128),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4 + 32 / 64),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
     4 + (8 + 32 / 256) / 64),
    (group(num_bits=8, type="float", strategy="channel"), 8), (group(num_bits=8, type="int", strategy="channel"), 8),
    (group(num_bits=8, type="float", strategy="block", block_structure=[128, 128]), 8 + 32 / 128**2),
    (group(num_bits=4, type="int", strategy="group", group_size=128, symmetric=True), 4 + 16 / 128),
    (group(num_bits=4, type="int", strategy="group", group_size=32, symmetric=False), 4 + (16 + 4) / 32),
    (group(num_bits=4, type="float", strategy="tensor_group", group_size=16), 4.5),
    (group(num_bits=4, type="float", strategy="group", group_size=32), 4.25),
    ({"quant_method": "modelopt", "quant_algo": "FP8"}, 8), ({"quant_algo": "FP8", "producer": {}}, 8),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, 4.5),
    ({"quant_method": "modelopt", "quantization": {"quant_algo": "MXFP8"}}, 8.25)])
def test_linear_layers_have_the_bits_of_the_format_and_all_else_keeps_16(placed, quantization, bits):
    assert placed(quantization).weight_bytes == pytest.approx((ATTENTION + MLP) * bits / 8 + REST, abs=14)


@pytest.mark.parametrize("quantization", [
    {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0.self_attn", "model.layers.1.self_attn"]},
    {"quant_method": "fp8", "ignored_layers": ["self_attn"]},
    {"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": ["model.layers.*.self_attn*", "lm_head"]},
    {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["language_model.model.layers.*.self_attn"]},
    group(num_bits=8, type="float") | {"ignore": ["re:.*self_attn.*"]},
    {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
        f"model.layers.{i}.mlp.{name}_proj": {"quant_algo": "FP8"} for i in (0, 1) for name in ("gate", "up", "down")}},
    {"quant_method": "compressed-tensors", "config_groups": {"group_0": {
        "targets": ["re:.*mlp.*"], "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"}}}}])
def test_attention_that_a_file_leaves_out_keeps_16_bits(placed, quantization):
    assert placed(quantization).weight_bytes == 2 * ATTENTION + MLP + REST


def test_the_head_is_quantised_only_where_a_file_names_it(placed):
    """256,000 parameters at 1 byte less."""
    whole = placed({"quant_method": "gptq", "bits": 8, "group_size": -1}).weight_bytes
    named = placed({"quant_method": "gptq", "bits": 8, "group_size": -1, "lm_head": True}).weight_bytes
    assert whole - named == pytest.approx(256_000, abs=24 * 1000)


def test_microscaling_of_gpt_oss_is_of_its_experts_alone(placed):
    """Per layer 4 experts of 3 x 256 x 512 parameters at 4.25 bits; their biases, the attention and the rest at 16."""
    shape = SMALL | {"model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}
    whole, small = placed(shape=shape), placed({"quant_method": "mxfp4"}, shape=shape)
    assert whole.weight_bytes - small.weight_bytes == 2 * 4 * 3 * 256 * 512 * (16 - 4.25) / 8


def test_a_file_of_modelopt_beside_the_config_counts_where_that_names_nothing(placed):
    beside = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8",
                                                                "group_size": 16, "exclude_modules": ["lm_head"]}}
    given = placed(beside=beside)
    assert (given.quantization.name, given.kv_type) == ("nvfp4", "fp8")
    assert placed({"quant_method": "fp8"}, beside=beside).kv_type == "float16"


@pytest.mark.parametrize(("quantization", "kv_type"), [
    (group(num_bits=8, type="float") | {"kv_cache_scheme": {"num_bits": 8, "type": "float"}}, "fp8"),
    (group(num_bits=8, type="float") | {"kv_cache_scheme": None}, "float16"),
    ({"quant_algo": "FP8", "kv_cache_scheme": "FP8"}, "fp8"),
    ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": {
        "num_bits": 8, "type": "float", "dynamic": False}}, "fp8"),
    ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "INT8"}, "float16"),
    ({"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}, "float16")])
def test_the_kv_cache_has_the_type_that_vllm_takes_from_the_file(placed, quantization, kv_type):
    assert placed(quantization).kv_type == kv_type


def test_types_that_are_given_win_over_those_of_the_file(placed):
    file = {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "ignore": ["self_attn"]}
    given = placed(file, weight_dtype="bfloat16", kv_dtype="float16")
    assert given.weight_bytes == 2 * (ATTENTION + MLP) + REST
    assert given.kv_bytes_per_token == 2 * placed(file).kv_bytes_per_token == 2 * 2 * 2 * 256
    assert placed(file, weight_dtype="int8").weight_bytes == ATTENTION + MLP + REST


@pytest.mark.parametrize(("quantization", "field"), [
    ("fp8", "quantization_config"), ({"quant_method": "quip"}, "quant_method"), ({}, "quant_method"),
    ({"quant_method": ["fp8"]}, "quant_method"), ({"quant_method": "awq", "bits": 4}, "group_size"),
    ({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*": {}}}, "dynamic"),
    ({"quant_method": "fp8", "weight_block_size": [128]}, "weight_block_size"),
    ({"quant_method": "fp8", "modules_to_not_convert": "lm_head"}, "modules_to_not_convert"),
    (group(num_bits=6, type="float"), "type"), (group(num_bits=4, type="int", strategy="token"), "strategy"),
    ({"quant_method": "compressed-tensors"}, "config_groups"),
    (group(num_bits=8, type="int") | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config"),
    ({"quant_method": "modelopt", "quant_algo": "W1A1"}, "quant_algo"),
    ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "quantized_layers"),
    ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "NVFP4"}, "kv_cache_quant_algo"),
    (group(num_bits=8, type="int") | {"ignore": ["re:*"]}, "ignore"),
    (group(num_bits=8, type="int") | {"ignore": ["re:(.*)*(.*)*x"]}, "ignore"),
    (group(num_bits=8, type="int") | {"ignore": [r"re:.*.*.*.*x"]}, "ignore"),
    (group(num_bits=8, type="int") | {"ignore": [r"re:.*a?a?a?x"]}, "ignore"),
    (group(num_bits=8, type="int") | {"ignore": ["re:" + "(a|.)" * 20 + "x"]}, "ignore"),
    (group(num_bits=8, type="int") | {"ignore": [r"re:.*\..*\..*x"] * 5}, "ignore"),
    (group(num_bits=8, type="int") | {"ignore": ["re:[[a]b]"]}, "ignore"),
    (group(num_bits=8, type="int") | {"ignore": ["re:[.w1-9]"]}, "ignore"),
    (group(num_bits=8, type="int") | {"ignore": ["*" + "a" * 200]}, "ignore"),
    (group(num_bits=8, type="int") | {"ignore": ["*a"] * 1001}, "ignore"),
    ({"quant_method": "bitsandbytes"}, "load_in_4bit")])
def test_what_is_not_understood_is_refused_by_the_key_and_the_file(placed, tmp_path, quantization, field):
    with pytest.raises(InputError) as refusal:
        placed(quantization)
    assert refusal.value.field == field
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_part_of_a_block_or_a_group_has_a_scale_of_its_own():
    """130 x 200: 26,000 bytes of fp8; in 4 bits 13,000, and 130 x 2 scales with zeros of 20 bits, 650."""
    tensor = Tensor("layers.0.mlp.up_proj", 130, 200, kind=LINEAR)
    assert FORMATS["fp8"].bytes_of(tensor) == 26_000
    assert FORMATS["int4"].bytes_of(tensor) == 13_000 + 650


@pytest.mark.parametrize(("pattern", "name", "within"), [
    ("lm_head", "lm_head", True), ("gate", "layers.0.mlp.gate", True), ("gate", "layers.0.mlp.gate_proj", False),
    ("model.layers.1.mlp", "layers.1.mlp.up_proj", True), ("model.layers.1.mlp", "layers.11.mlp.up_proj", False),
    ("model.layers.0*", "layers.0.mlp.up_proj", True),
    ("backbone.layers.4.mixer.in_proj", "layers.4.mixer.in_proj", True),
    ("*.mlp.shared_experts.*", "layers.7.mlp.shared_expert.up_proj", True),
    ("model.layers.3.block_sparse_moe.gate", "layers.3.mlp.gate", True),
    (r"re:.*mlp\.(gate|up|down)_proj.*", "layers.3.mlp.up_proj", True),
    (r"re:.*mlp\.(gate|up|down)_proj.*", "layers.3.mlp.experts.0.up_proj", False)])
def test_modules_are_named_by_parts_globs_and_expressions(pattern, name, within):
    assert (name in Modules((pattern,))) is within


def test_qwen3_32b_in_blocks_of_8_bits_takes_32_gib(placed):
    """Linear layers 64 x (5,120 x 144 x 128 + 3 x 5,120 x 25,600) = 31,205,621,760 bytes, a scale of 4 bytes for each
    16,384 of them, and 4 bytes for each of 151,936 x 5,120 = 777,912,320 elements of embedding and head: 31.97 GiB.
    """
    shape = {"model_type": "qwen3", "hidden_size": 5120, "intermediate_size": 25600, "num_attention_heads": 64,
             "num_key_value_heads": 8, "head_dim": 128, "num_hidden_layers": 64, "vocab_size": 151936}
    given = placed({"quant_method": "fp8", "weight_block_size": [128, 128]}, shape=shape)
    expected = 31_205_621_760 * (1 + 4 / 16_384) + 4 * 777_912_320
    assert given.weight_bytes == pytest.approx(expected, rel=1e-4)
    assert given.weight_bytes / GIB == pytest.approx(31.97, abs=0.01)


def test_qwen2_72b_in_4_bits_fits_one_a100(placed):
    """Linear layers 80 x (8,192 x 144 x 128 + 3 x 8,192 x 29,568) = 70,212,648,960 at 4.15625 bits are 33.97 GiB, two
    embeddings of 152,064 x 8,192 at 2 bytes 4.64 GiB.
    """
    shape = {"model_type": "qwen2", "hidden_size": 8192, "intermediate_size": 29568, "num_attention_heads": 64,
             "num_key_value_heads": 8, "num_hidden_layers": 80, "vocab_size": 152064}
    given = placed({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True,
                    "modules_to_not_convert": None}, shape=shape)
    assert given.weight_bytes / GIB == pytest.approx(33.97 + 4.64, abs=0.01)
    assert given.kv_capacity > 0


@pytest.mark.parametrize("expression", [
    r"re:.*self_attn.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*", r"re:.*lm_head", "re:vision_tower.*",
    r"re:^model\.layers\.[0-9]+\.mlp\.experts\.\d+\.(gate|up|down)_proj$", r"re:.*\.layers\.\d+\.mlp\.experts\.\d+\..*",
    r"re:^(?!.*mlp).*$", r"re:.*block_sparse_moe\.gate"])
def test_expressions_as_files_have_them_are_taken(placed, expression):
    assert placed(group(num_bits=8, type="int") | {"ignore": [expression] * 3}).weight_bytes > 0
