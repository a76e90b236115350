"""The catalogue and the roofline against published counts, data sheets, arithmetic by hand and two calibrations."""

import doctest
import json
from dataclasses import replace
from pathlib import Path

import pytest

import fluid.catalogue
import fluid.hardware
from fluid import InputError, IterationTime
from fluid.catalogue import GIB, GPUS, MODELS, Gpu, Model, find_gpu, find_model
from fluid.hardware import Placement, model_from_config, replica_from_catalogue

# parameters stored in the public checkpoints (Llama 2: without the rotary buffers some checkpoints store too)
PUBLISHED = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "mistral-7b": 7_241_732_096,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-32b": 32_763_876_352,
}
CONFIG = {"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
          "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "tie_word_embeddings": False}


def placement(model: str = "llama-2-7b", gpu: str = "a100-80gb", **options: object) -> Placement:
    return Placement(find_model(model), find_gpu(gpu), **options)


@pytest.fixture
def config(tmp_path):
    """Write CONFIG with some keys changed (None: left out) and return the path."""
    def write(**changes: object) -> Path:
        path = tmp_path / "config.json"
        kept = {key: value for key, value in (CONFIG | changes).items() if value is not None}
        path.write_text(json.dumps(kept), encoding="utf-8")
        return path
    return write


@pytest.mark.parametrize("module", [fluid.catalogue, fluid.hardware])
def test_the_examples_in_the_docstrings_run(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parameters_counted_from_the_shape_are_the_published_ones(name):
    assert MODELS[name].parameters == PUBLISHED[name]


def test_every_entry_of_the_catalogue_names_its_source_and_every_model_has_a_published_count():
    assert set(MODELS) == set(PUBLISHED)
    assert all(entry.source for entry in (*GPUS.values(), *MODELS.values()))


def test_a_tied_embedding_is_stored_once_and_read_as_the_output_head():
    """V h = 32000 x 4096 = 131,072,000 elements: a second copy is stored without tying, and used in neither case."""
    untied = MODELS["llama-2-7b"]
    tied = replace(untied, tied_embeddings=True)
    assert untied.parameters - tied.parameters == 131_072_000
    assert untied.parameters_used == tied.parameters_used == tied.parameters


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


def test_four_bit_weights_take_a_quarter_of_the_bytes_and_of_the_overhead():
    four, sixteen = placement(weight_dtype="int4"), placement()
    assert four.weight_bytes == sixteen.weight_bytes / 4
    assert four.iteration_time.overheads == pytest.approx(sixteen.iteration_time.overheads / 4)


def test_boards_with_gddr6_lose_a_sixteenth_of_their_memory_to_error_correction():
    """What the driver reports: L40S 46,068 MiB, L4 23,034 MiB; what the data sheets say: 48 and 24 GB."""
    assert find_gpu("l40s").memory == pytest.approx(46_068 / 1024, rel=1e-3)
    assert find_gpu("l4").memory == pytest.approx(23_034 / 1024, rel=1e-3)


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


@pytest.mark.parametrize(("find", "field"), [(find_model, "model"), (find_gpu, "gpu")])
@pytest.mark.parametrize("name", ["gpt-5", "", 7])
def test_an_unknown_name_is_refused_with_the_known_ones(find, field, name):
    known = MODELS if field == "model" else GPUS
    with pytest.raises(InputError) as refusal:
        find(name)
    assert refusal.value.field == field
    assert all(entry in str(refusal.value) for entry in known)


@pytest.mark.parametrize("options", [
    {"memory_fraction": 0}, {"memory_fraction": 1.01}, {"memory_fraction": float("nan")}, {"memory_fraction": "0.9"},
    {"bandwidth_share": -1.0}, {"compute_share": True}, {"kv_dtype": "int4"}, {"weight_dtype": "float8"},
    {"tensor_parallel": 0}, {"tensor_parallel": 3}, {"tensor_parallel": 1.5}])
def test_an_option_out_of_range_is_refused_by_name(options):
    """int4 is a type for weights only; 3 GPUs cannot share 32 heads."""
    with pytest.raises(InputError) as refusal:
        placement(**options)
    assert refusal.value.field == next(iter(options))


def test_a_gpu_or_a_model_that_cannot_exist_is_refused():
    with pytest.raises(InputError, match="bandwidth must be a positive finite number of bytes/s"):
        Gpu("toy", 1, 0, 1)
    with pytest.raises(InputError, match="kv_heads must be a divisor of the 32 attention heads"):
        replace(MODELS["llama-2-7b"], kv_heads=5)


def test_a_config_json_gives_the_model_of_the_catalogue(config):
    read = model_from_config(config())
    assert replace(read, name="", source="") == replace(MODELS["llama-3-8b"], name="", source="")


def test_a_config_json_of_qwen2_has_biases_on_the_query_key_and_value(config):
    """(28 + 2 x 4) x 128 = 4,608 more parameters in each of 28 layers make the published count."""
    path = config(model_type="qwen2", num_hidden_layers=28, hidden_size=3584, num_attention_heads=28,
                  num_key_value_heads=4, intermediate_size=18944, vocab_size=152064)
    assert model_from_config(path).parameters == PUBLISHED["qwen2.5-7b"]


def test_keys_a_config_json_may_leave_out_have_the_values_engines_assume(config):
    read = model_from_config(config(num_key_value_heads=None, tie_word_embeddings=None, model_type=None))
    assert (read.kv_heads, read.head_dim, read.tied_embeddings) == (32, 128, False)
    assert model_from_config(config(head_dim=64)).head_dim == 64


@pytest.mark.parametrize(("key", "value"), [
    ("num_hidden_layers", None), ("hidden_size", None), ("num_attention_heads", None), ("intermediate_size", None),
    ("vocab_size", None), ("num_hidden_layers", 0), ("hidden_size", "4096"), ("vocab_size", 1.5), ("vocab_size", True),
    ("num_key_value_heads", [8]), ("head_dim", -1), ("tie_word_embeddings", 1), ("model_type", "mixtral"),
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
        model_from_config(config(model_type=None, architectures=["MixtralForCausalLM"]))
    assert model_from_config(config(model_type=None, architectures=["Qwen2ForCausalLM"])).qkv_bias


@pytest.mark.parametrize("text", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"[" * 100_000, b'{"hidden_size": ' + b"9" * 5000])
def test_a_config_json_that_is_not_a_json_object_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_bytes(text)
    with pytest.raises(InputError, match=r"^model must be a config\.json") as refusal:
        model_from_config(path)
    assert "\n" not in str(refusal.value)


def test_a_config_json_that_cannot_be_opened_is_refused_with_the_reason(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        model_from_config(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        model_from_config(tmp_path / "none.json")
