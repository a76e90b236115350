"""The catalogue and the shapes: published parameter counts, data sheets, what a driver reports."""

from dataclasses import replace

import pytest

from fluid import InputError
from fluid.hardware.catalogue import GPUS, MODELS, Gpu, find_gpu, find_model
from fluid.hardware.hub_names import HUB
from fluid.hardware.model import Experts, Latent
from fluid.hardware.tensors import LINEAR, Tensor

# parameters stored in the public checkpoints (Llama 2: without the rotary buffers some checkpoints store too;
# DeepSeek-V3: the main model, without the layer for multi-token prediction and the scales of its 8-bit weights;
# Qwen3-0.6B and 1.7B: without the copy of the embedding that the files keep as a head)
PUBLISHED = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_241_732_096,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "mistral-small-24b": 23_572_403_200,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "phi-4": 14_659_507_200,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-235b-a22b": 235_093_634_560,
    "qwen3-30b-a3b": 30_532_122_624,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v3": 671_026_419_200,
}


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
    assert untied.parameters_read == tied.parameters_read == tied.parameters


@pytest.mark.parametrize(("find", "field"), [(find_model, "model"), (find_gpu, "gpu")])
@pytest.mark.parametrize("name", ["gpt-5", "", 7, "x" * 10_000])
def test_an_unknown_name_is_refused_with_the_known_ones(find, field, name):
    known = MODELS if field == "model" else GPUS
    with pytest.raises(InputError) as refusal:
        find(name)
    assert refusal.value.field == field
    assert all(entry in str(refusal.value) for entry in known)


@pytest.mark.parametrize(("find", "name", "near"), [
    (find_gpu, "h100", '"h100-80gb" or "h100-nvl"'), (find_gpu, "A100", '"a100-40gb" or "a100-80gb"'),
    (find_gpu, "rtx4090", '"rtx-4090"'), (find_gpu, "h200-sxm", '"h200"'), (find_model, "llama2-7b", '"llama-2-7b"'),
    (find_model, "qwen3-235b", '"qwen3-235b-a22b"'), (find_model, "Qwen/Qwen2.5-7B-Instrct", "qwen2.5-7b-instruct"),
    (find_model, "someone/Llama-3.1-8B-Instruct", '"meta-llama/llama-3.1-8b-instruct"')])
def test_a_name_that_is_nearly_one_is_refused_with_the_question_which_was_meant(find, name, near):
    with pytest.raises(InputError, match="did you mean") as refusal:
        find(name)
    assert near in str(refusal.value)


@pytest.mark.parametrize(("hub", "name"), [
    ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"), ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
    ("meta-llama/Meta-Llama-3-70B-Instruct", "llama-3-70b"), ("Llama-3.3-70B-Instruct", "llama-3.1-70b"),
    ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"), ("mistralai/Mistral-7B-Instruct-v0.2", "mistral-7b"),
    ("mistralai/Mistral-7B-v0.1", "mistral-7b-v0.1"), ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"),
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b"), ("deepseek-ai/DeepSeek-R1", "deepseek-v3")])
def test_a_name_of_the_hub_means_the_entry_of_the_same_shape(hub, name):
    assert find_model(hub) == find_model(hub.upper()) == MODELS[name]


def test_every_name_of_the_hub_means_an_entry_and_those_without_an_owner_mean_one_only():
    bare = {}
    for name, (entry, quantization) in HUB.items():
        assert entry in MODELS
        assert bare.setdefault(name.partition("/")[2], (entry, quantization)) == (entry, quantization)


@pytest.mark.parametrize(("hub", "bits"), [
    ("Qwen/Qwen3-8B-FP8", 8 + 32 / 128**2), ("Qwen/Qwen2.5-14B-Instruct-AWQ", 4 + 20 / 128),
    ("Qwen/Qwen2.5-32B-Instruct-GPTQ-Int8", 8 + 24 / 128)])
def test_the_name_of_a_quantised_checkpoint_has_the_bits_of_its_weights(hub, bits):
    quantization = find_model(hub).quantization
    layer = Tensor("layers.0.self_attn.q_proj", 4096, 4096, kind=LINEAR)
    assert quantization.bytes_of([layer]) == 4096**2 * bits / 8


@pytest.mark.parametrize("name", [
    "neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8", "Qwen/Qwen2.5-72B-Instruct-AWQ", "llama-3.1-8b-int4",
    "nvidia/Llama-3.1-70B-Instruct-NVFP4", "TheBloke/Llama-2-7B-GPTQ", "Llama-3.1-8B-quantized.w4a16"])
def test_the_name_of_quantised_weights_that_are_not_known_is_never_counted_in_16_bits(name):
    with pytest.raises(InputError, match="give weight_dtype beside the name of the model alone, or the path of its"):
        find_model(name)


def test_a_gpu_or_a_model_that_cannot_exist_is_refused():
    with pytest.raises(InputError, match="bandwidth must be a positive finite number of bytes/s"):
        Gpu("toy", 1, 0, 1)
    with pytest.raises(InputError, match="kv_heads must be a divisor of the 32 attention heads"):
        replace(MODELS["llama-2-7b"], kv_heads=5)


@pytest.mark.parametrize(("name", "active"), [
    ("mixtral-8x7b", 12.9e9), ("qwen3-30b-a3b", 3_353_032_704), ("deepseek-v2-lite", 2.66e9),
    ("deepseek-v3", 37_552_282_624)])
def test_a_token_is_multiplied_by_the_published_active_parameters(name, active):
    """Published with the input embedding, DeepSeek-V3 without the 14,848 biases of its routers.

    DeepSeek-V2-Lite: 15,706,484,224 less 26 layers x 58 idle experts x 3 x 2,048 x 1,408 = 2,661,150,208.
    """
    model = MODELS[name]
    assert model.parameters_active + model.embedding == pytest.approx(active, rel=2e-3)
    assert model.parameters_active < model.parameters_read < model.parameters


def test_a_dense_model_is_a_mixture_of_one_expert_without_a_router():
    """Two experts of 14,336 per layer, both active: one more MLP of 3 x 4,096 x 14,336 and 2 x 4,096 for the router."""
    dense = MODELS["mistral-7b"]
    two = replace(dense, experts=Experts(2, 2, 14336))
    assert two.parameters - dense.parameters == 32 * (3 * 4096 * 14336 + 2 * 4096)
    assert two.parameters_active == two.parameters_read
    assert replace(two, experts=Experts(1, 1, 14336, dense_layers=31)).parameters == dense.parameters + 4096


def test_latent_attention_caches_a_ninth_of_what_heads_of_its_own_would():
    """16 heads with keys of 192 and values of 128 would cache 16 x 320 = 5,120 elements a layer, latent 512 + 64."""
    lite = MODELS["deepseek-v2-lite"]
    assert lite.kv_elements == 27 * 576
    assert 27 * 5120 / lite.kv_elements == pytest.approx(8.89, abs=0.01)


def test_the_memory_of_the_catalogue_is_what_cuda_reports_and_no_more_than_the_driver():
    """nvidia-smi in MiB, from public logs; CUDA itself keeps up to 4% of it from a process (an A100 of 40 GB)."""
    reported = {"a10g": 23_028, "h100-nvl": 95_830, "h100-80gb": 81_559, "h200": 143_771, "b200": 183_359,
                "a6000": 49_140, "l40s": 46_068, "l4": 23_034, "rtx-4090": 24_564, "rtx-5090": 32_607,
                "rtx-pro-6000": 97_887, "a100-40gb": 40_960, "a100-80gb": 81_920}
    for name, mib in reported.items():
        assert 0.95 * mib / 1024 < find_gpu(name).memory < mib / 1024, name


@pytest.mark.parametrize(("make", "field"), [
    (lambda: Latent(0, 64, 128, 128), "kv_rank"), (lambda: Latent(512, 64, 128, 128, query_rank=-1), "query_rank"),
    (lambda: Experts(8, 9, 100), "per_token"), (lambda: Experts(8, 2, 100, shared=0.5), "shared"),
    (lambda: replace(MODELS["mixtral-8x7b"], experts=Experts(8, 2, 100, dense_layers=32)), "dense_layers"),
    (lambda: replace(MODELS["mistral-7b"], attention_window=0), "attention_window")])
def test_a_shape_that_cannot_exist_is_refused_by_name(make, field):
    with pytest.raises(InputError) as refusal:
        make()
    assert refusal.value.field == field
