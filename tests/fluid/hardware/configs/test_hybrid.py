"""Hybrids: what the layers without keys and values keep of a sequence, and which layers those are."""

import json

import pytest

from fluid import InputError
from fluid.hardware.huggingface import model_from_config

QWEN = {"model_type": "qwen3_5_text", "num_hidden_layers": 40, "hidden_size": 2048, "num_attention_heads": 16,
        "num_key_value_heads": 2, "head_dim": 256, "intermediate_size": 5120, "vocab_size": 248320,
        "linear_conv_kernel_dim": 4, "linear_num_key_heads": 16, "linear_key_head_dim": 128,
        "linear_num_value_heads": 32, "linear_value_head_dim": 128, "mamba_ssm_dtype": "float32"}
NANO = {"model_type": "nemotron_h", "hidden_size": 2688, "num_attention_heads": 32, "num_key_value_heads": 2,
        "head_dim": 128, "intermediate_size": 1856, "vocab_size": 131072, "mamba_num_heads": 64, "mamba_head_dim": 64,
        "n_groups": 8, "ssm_state_size": 128, "conv_kernel": 4, "n_routed_experts": 128, "num_experts_per_tok": 6,
        "moe_intermediate_size": 1856, "n_shared_experts": 1, "moe_shared_expert_intermediate_size": 3712,
        "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"}


@pytest.fixture
def read(tmp_path):
    def model(config, **changes):
        path = tmp_path / "config.json"
        path.write_text(json.dumps({key: value for key, value in (config | changes).items() if value is not None}))
        return model_from_config(path)
    return model


def test_three_of_four_layers_of_qwen3_5_keep_a_state_in_32_bits(read):
    """Convolution 3 x (2 x 16 x 128 + 32 x 128) x 2 = 49,152 bytes, recurrence 32 x 128 x 128 x 4 = 2,097,152.

    Together 2,096 KiB in each of 30 layers.
    """
    model = read(QWEN)
    assert (model.attention_layers, model.kv_layers, model.state_bytes) == (10, 10, 30 * 2096 * 1024)
    assert model.kv_elements == 10 * 2 * 2 * 256


def test_the_recurrence_has_16_bits_where_the_file_names_no_type(read):
    assert read(QWEN, mamba_ssm_dtype=None).state_bytes == 30 * (49_152 + 32 * 128 * 128 * 2)


def test_mamba_layers_of_nemotron_keep_a_state_in_32_bits_whatever_is_said(read):
    """Convolution 3 x (4,096 + 2 x 8 x 128) x 2 = 36,864 bytes, recurrence 64 x 64 x 128 x 4 = 2,097,152, in 23 layers;
    6 layers hold keys and values, 23 have experts and neither.
    """
    model = read(NANO)
    assert (model.layers, model.attention_layers, model.state_bytes) == (52, 6, 23 * (36_864 + 2_097_152))
    assert read(NANO, mamba_ssm_cache_dtype="bfloat16").state_bytes == 23 * (36_864 + 2_097_152 // 2)


def test_experts_in_a_latent_dimension_have_two_projections_besides(read):
    """Per layer 128 experts have 2 x 1,344 x 1,856 less in half the dimension, the projections 2 x 2,688 x 1,344."""
    whole, latent = read(NANO), read(NANO, moe_latent_size=1344)
    assert whole.parameters - latent.parameters == 23 * (128 * 2 * 1344 * 1856 - 2 * 2688 * 1344)


def test_a_list_of_layers_says_the_same_as_a_pattern(read):
    names = {"M": "mamba", "E": "moe", "*": "attention"}
    listed = [names[each] for each in NANO["hybrid_override_pattern"]]
    given = read(NANO, layers_block_type=listed, hybrid_override_pattern=None)
    assert given.tensors == read(NANO).tensors


@pytest.mark.parametrize(("changes", "field"), [
    ({"mamba_ssm_dtype": "float64"}, "mamba_ssm_dtype"), ({"linear_num_key_heads": None}, "linear_num_key_heads"),
    ({"layer_types": ["linear_attention"] * 39 + ["conv"]}, "layer_types")])
def test_a_state_that_is_not_understood_is_refused_by_its_key(read, changes, field):
    with pytest.raises(InputError) as refusal:
        read(QWEN, **changes)
    assert refusal.value.field == field
