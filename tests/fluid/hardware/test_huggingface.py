"""Reading config.json: the families, the values of keys left out, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fluid import InputError
from fluid.hardware.catalogue import MODELS, find_gpu
from fluid.hardware.configs.keys import LARGEST_FILE
from fluid.hardware.huggingface import model_from_config
from fluid.hardware.placement import Placement

CONFIG = {"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
          "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "tie_word_embeddings": False}

LLAMA_3B = {"num_hidden_layers": 28, "hidden_size": 3072, "num_attention_heads": 24, "intermediate_size": 8192,
            "head_dim": 128, "tie_word_embeddings": True}
MISTRAL = {"model_type": "mistral", "vocab_size": 32000}
MIXTRAL = {"model_type": "mixtral", "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2,
           "sliding_window": None}
QWEN3 = {"model_type": "qwen3", "num_hidden_layers": 36, "intermediate_size": 12288, "vocab_size": 151936,
         "head_dim": 128, "attention_bias": False, "sliding_window": None, "use_sliding_window": False,
         "max_window_layers": 36}
LITE = {"model_type": "deepseek_v2", "num_hidden_layers": 27, "hidden_size": 2048, "num_attention_heads": 16,
        "num_key_value_heads": 16, "intermediate_size": 10944, "vocab_size": 102400, "kv_lora_rank": 512,
        "q_lora_rank": None, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
        "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1408,
        "first_k_dense_replace": 1, "moe_layer_freq": 1}
V3 = LITE | {"model_type": "deepseek_v3", "num_hidden_layers": 61, "hidden_size": 7168, "num_attention_heads": 128,
             "num_key_value_heads": 128, "intermediate_size": 18432, "vocab_size": 129280, "q_lora_rank": 1536,
             "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
             "moe_intermediate_size": 2048, "first_k_dense_replace": 3, "num_nextn_predict_layers": 1,
             "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}


@pytest.fixture
def config(tmp_path):
    """Write CONFIG with some keys changed (None: left out) and return the path."""
    def write(**changes: object) -> Path:
        path = tmp_path / "config.json"
        kept = {key: value for key, value in (CONFIG | changes).items() if value is not None}
        path.write_text(json.dumps(kept), encoding="utf-8")
        return path
    return write


@pytest.mark.parametrize(("name", "changes"), [
    ("llama-3-8b", {}), ("llama-3.2-3b", LLAMA_3B), ("mistral-7b", MISTRAL | {"sliding_window": None}),
    ("mistral-7b-v0.1", MISTRAL | {"sliding_window": 4096}), ("mixtral-8x7b", MIXTRAL), ("qwen3-8b", QWEN3),
    ("deepseek-v2-lite", LITE), ("deepseek-v3", V3)])
def test_a_config_json_gives_the_model_of_the_catalogue(config, name, changes):
    path = config()
    path.write_text(json.dumps(CONFIG | changes), encoding="utf-8")
    assert replace(model_from_config(path), name="", source="") == replace(MODELS[name], name="", source="")


def test_a_config_json_of_qwen2_has_biases_on_the_query_key_and_value(config):
    """(28 + 2 x 4) x 128 = 4,608 more parameters in each of 28 layers make the published count."""
    path = config(model_type="qwen2", num_hidden_layers=28, hidden_size=3584, num_attention_heads=28,
                  num_key_value_heads=4, intermediate_size=18944, vocab_size=152064)
    assert model_from_config(path).parameters == MODELS["qwen2.5-7b"].parameters


def test_keys_a_config_json_may_leave_out_have_the_values_engines_assume(config):
    read = model_from_config(config(num_key_value_heads=None, tie_word_embeddings=None, model_type=None))
    assert (read.kv_heads, read.head_dim, read.tied_embeddings) == (32, 128, False)
    assert model_from_config(config(head_dim=64)).head_dim == 64


@pytest.mark.parametrize(("key", "value"), [
    ("num_hidden_layers", None), ("hidden_size", None), ("num_attention_heads", None), ("intermediate_size", None),
    ("vocab_size", None), ("num_hidden_layers", 0), ("num_hidden_layers", 2**31),
    ("hidden_size", "4096"), ("vocab_size", 1.5), ("vocab_size", True),
    ("num_key_value_heads", [8]), ("head_dim", -1), ("tie_word_embeddings", 1), ("model_type", "falcon"),
    ("model_type", {}), ("hidden_size", 4097)])
def test_a_missing_or_unusable_key_of_a_config_json_is_refused_with_the_key_and_the_file(config, key, value):
    path = config(**{key: value})
    with pytest.raises(InputError) as refusal:
        model_from_config(path)
    assert refusal.value.field == key
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_another_architecture_is_refused_where_only_the_class_is_named(config):
    with pytest.raises(InputError, match="architectures must be"):
        model_from_config(config(model_type=None, architectures=["FalconForCausalLM"]))
    assert model_from_config(config(model_type=None, architectures=["Qwen2ForCausalLM"])).qkv_bias


@pytest.mark.parametrize("text", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"[" * 100_000, b'{"hidden_size": ' + b"9" * 5000])
def test_a_config_json_that_is_not_a_json_object_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_bytes(text)
    with pytest.raises(InputError, match=r"^model must be a config\.json") as refusal:
        model_from_config(path)
    assert "\n" not in str(refusal.value)


def test_a_config_json_is_not_read_beyond_its_size(tmp_path):
    """A byte more than it may have."""
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(InputError, match=r"a readable config\.json: must be at most 4,194,304 bytes long"):
        model_from_config(path)


@pytest.mark.parametrize(("key", "value"), [
    ("num_hidden_layers", 1001), ("mlp_only_layers", list(range(1001))), ("num_hidden_layers", 10**400)])
def test_a_model_of_more_layers_than_any_is_refused(config, key, value):
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
    path = config(model_type="qwen3_moe", **experts, **{key: value})
    with pytest.raises(InputError) as refusal:
        model_from_config(path)
    assert refusal.value.field == key
    assert "\n" not in str(refusal.value)


def test_a_config_json_that_cannot_be_opened_is_refused_with_the_reason(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        model_from_config(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        model_from_config(tmp_path / "none.json")


def test_keys_left_out_mean_what_the_library_of_the_models_says(config):
    """Mistral looks back on 4,096 tokens unless told otherwise, Llama never; Qwen3 has heads of 128."""
    assert model_from_config(config(model_type="mistral")).attention_window == 4096
    assert model_from_config(config(sliding_window=4096)).attention_window is None
    every_layer = config(model_type="mistral", sliding_window=4096, layer_types=["full_attention"] * 32)
    assert model_from_config(every_layer).attention_window is None
    assert model_from_config(config(model_type="qwen3", hidden_size=5120)).head_dim == 128


@pytest.mark.parametrize(("changes", "window"), [
    ({"use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 0}, None),
    ({"sliding_window": 131072, "max_window_layers": 0}, None),
    ({"use_sliding_window": True, "sliding_window": 131072, "max_window_layers": 0}, 131072),
    ({"use_sliding_window": True, "sliding_window": 131072, "max_window_layers": 32}, None)])
def test_qwen_looks_back_on_a_window_where_asked_to_and_from_the_layer_named(config, changes, window):
    assert model_from_config(config(model_type="qwen2", **changes)).attention_window == window


@pytest.mark.parametrize(("changes", "window", "windowed"), [
    ({"model_type": "gemma2", "num_hidden_layers": 42}, 4096, 21),  # every other layer
    ({"model_type": "gemma3_text", "num_hidden_layers": 34, "sliding_window": 1024}, 1024, 29),  # all but every sixth
    ({"model_type": "gemma3_text", "num_hidden_layers": 34, "sliding_window_pattern": 2}, 4096, 17),
    ({"model_type": "cohere2", "sliding_window_pattern": 4}, 4096, 24),
    ({"model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2}, 128, 16),
    ({"model_type": "llama4_text", "num_local_experts": 4, "num_experts_per_tok": 1}, 8192, 24),  # chunks
    ({"model_type": "llama4_text", "num_local_experts": 4, "num_experts_per_tok": 1, "attention_chunk_size": 4096,
      "no_rope_layers": [1] * 30 + [0] * 2}, 4096, 30),
    ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 8, "sliding_window": 4096}, 4096, 24),
    ({"model_type": "mistral", "layer_types": ["sliding_attention", "full_attention"] * 16}, 4096, 16)])
def test_some_layers_have_a_window_and_the_others_none(config, changes, window, windowed):
    read = model_from_config(config(**changes))
    assert (read.attention_window, read.windowed_layers) == (window, windowed)


def test_all_layers_of_one_kind_are_no_mixture(config):
    read = model_from_config(config(model_type="gemma2", layer_types=["sliding_attention"] * 32, sliding_window=128))
    assert (read.attention_window, read.windowed_layers) == (128, None)
    whole = model_from_config(config(model_type="gemma2", layer_types=["full_attention"] * 32))
    assert (whole.attention_window, whole.windowed_layers) == (None, None)


def test_a_mixed_model_and_a_hybrid_are_placed_with_their_windows_and_their_state(config):
    """Bamba: attention in layers 9, 18 and 27 of 32; the others keep a state, more than a token's keys and values."""
    mixed = Placement(model_from_config(config(model_type="gemma2")), find_gpu("h100-80gb"))
    assert (mixed.windowed_layers, mixed.state) == ((16, 32), 0)
    hybrid = Placement(model_from_config(config(
        model_type="bamba", attn_layer_indices=[9, 18, 27], mamba_n_heads=128, mamba_d_head=64, mamba_n_groups=1,
        mamba_d_state=128, mamba_d_conv=4)), find_gpu("h100-80gb"))
    assert hybrid.model.kv_layers == 3
    assert hybrid.state == -(-hybrid.model.state_bytes // hybrid.kv_bytes_per_token) > 1


@pytest.mark.parametrize(("changes", "field"), [
    ({"model_type": "gemma4_text"}, "model_type"), ({"model_type": "deepseek_v4"}, "model_type"),
    ({"layer_types": ["sliding_attention"] * 16 + ["full_attention"] * 16}, "layer_types"),  # Llama has no windows
    ({"model_type": "mistral", "layer_types": ["full_attention"] * 31}, "layer_types"),
    ({"model_type": "mistral", "layer_types": ["full_attention"] * 31 + ["conv"]}, "layer_types"),
    ({"model_type": "bamba"}, "layer_types"), ({"model_type": "nemotron_h"}, "hybrid_override_pattern"),
    ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-X"}, "hybrid_override_pattern"),
    ({"model_type": "nemotron_h", "layers_block_type": ["mamba", "mlp"]}, "layers_block_type"),
    ({"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
      "mlp_only_layers": "none"}, "mlp_only_layers"),
    ({"dtype": "float8_e4m3fn"}, "dtype"), ({"torch_dtype": ["float16"]}, "torch_dtype")])
def test_layers_that_are_not_understood_are_refused_by_the_key_that_says_so(config, changes, field):
    with pytest.raises(InputError) as refusal:
        model_from_config(config(**changes))
    assert refusal.value.field == field
    assert "\n" not in str(refusal.value)


def test_the_class_tells_the_shape_where_the_type_is_new(config):
    path = config()
    path.write_text(json.dumps(CONFIG | V3 | {"model_type": "kimi_k9", "architectures": ["DeepseekV3ForCausalLM"]}))
    assert model_from_config(path).parameters == MODELS["deepseek-v3"].parameters


def test_a_model_that_sees_is_read_as_its_language_model(config):
    path, text = config(), {key: value for key, value in CONFIG.items() if key != "tie_word_embeddings"}
    path.write_text(json.dumps({"model_type": "llava", "text_config": text, "tie_word_embeddings": True}))
    read = model_from_config(path)
    assert (read.layers, read.tied_embeddings) == (32, True)


def test_32_bit_files_are_cast_to_16(config):
    assert Placement(model_from_config(config(torch_dtype="float32")), find_gpu("h100-80gb")).weight_bytes == \
        2 * MODELS["llama-3-8b"].parameters


@pytest.mark.parametrize(("key", "value"), [
    ("kv_lora_rank", None), ("q_lora_rank", "absent"), ("qk_rope_head_dim", 0), ("v_head_dim", "128"),
    ("num_experts_per_tok", 65), ("moe_intermediate_size", None), ("first_k_dense_replace", 27), ("moe_layer_freq", 2)])
def test_an_unusable_key_of_a_deepseek_config_is_refused_with_the_key_and_the_file(config, key, value):
    path, changed = config(), CONFIG | LITE | {key: value}
    if value == "absent":
        del changed[key]
    path.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(InputError) as refusal:
        model_from_config(path)
    assert refusal.value.field == key
    assert str(path) in str(refusal.value)


def test_a_deepseek_config_without_experts_is_dense(config):
    path = config()
    path.write_text(json.dumps(CONFIG | LITE | {"n_routed_experts": None}), encoding="utf-8")
    assert model_from_config(path).experts is None
