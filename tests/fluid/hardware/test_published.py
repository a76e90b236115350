"""Public models: parameters, KV bytes per token and sizes of checkpoints against what was published of them.

A published figure is a text as its source prints it, and holds to half a unit of its last digit; a whole number is
exact. Active parameters are published with the input embedding or without, so either may be the figure. KV bytes per
token are published for three models (arXiv 2505.09343, table 1); the others are derived in the row, as layers that hold
KV x 2 x KV heads x elements of a head x bytes, or layers x (rank + rotary) x bytes with latent attention.

The files of the second table are read from the package aiconfigurator-core, where it is installed.
"""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from published_shapes import SHAPES

from fluid.hardware.element_types import Quantization
from fluid.hardware.huggingface import model_from_config

HUB = "parameters of the safetensors files, as the hub counts them"
CARD = "model card"
SCALES = {"T": 1e12, "B": 1e9, "M": 1e6, " GB": 1e9, " GiB": 2.0**30}

# repository, parameters, active parameters, KV bytes per token, checkpoint, source
WRITTEN_OUT = [
    ("google/gemma-2b", 2_506_172_416, None, 18 * 2 * 1 * 256 * 2, None, HUB),
    ("google/gemma-7b", 8_537_680_896, None, 28 * 2 * 16 * 256 * 2, None, HUB),
    ("google/gemma-2-2b", 2_614_341_888, None, 26 * 2 * 4 * 256 * 2, None, HUB),
    ("google/gemma-2-9b", 9_241_705_984, None, 42 * 2 * 8 * 256 * 2, None, HUB),
    ("google/gemma-2-27b", 27_227_128_320, None, 46 * 2 * 16 * 128 * 2, None, HUB),
    ("google/gemma-3-270m", 268_098_176, None, 18 * 2 * 1 * 256 * 2, None, HUB),
    ("google/gemma-3-1b-it", 999_885_952, None, 26 * 2 * 1 * 256 * 2, None, HUB),
    # 4,300,079,472 (the hub) less a tower for images of 417M (arXiv 2503.19786, table 1) and its projection to the
    # language model, 1,152 x 2,560 + 1,152
    ("google/gemma-3-4b-it", "3880M", None, 34 * 2 * 4 * 256 * 2, None, HUB),
    ("CohereForAI/c4ai-command-r-v01", 34_980_831_232, None, 40 * 2 * 64 * 128 * 2, None, HUB),
    ("CohereForAI/aya-expanse-8b", 8_028_033_024, None, 32 * 2 * 8 * 128 * 2, None, HUB),
    ("CohereForAI/c4ai-command-r7b-12-2024", "8.03B", None, 32 * 2 * 8 * 128 * 2, None, HUB),
    ("CohereForAI/c4ai-command-a-03-2025", "111B", None, 64 * 2 * 8 * 128 * 2, None, CARD),
    ("allenai/OLMo-2-1124-7B", 7_298_617_344, None, 32 * 2 * 32 * 128 * 2, None, HUB),
    ("allenai/OLMo-2-1124-13B", 13_716_198_400, None, 40 * 2 * 40 * 128 * 2, None, HUB),
    ("allenai/OLMoE-1B-7B-0924", 6_919_161_856, "1.3B", 16 * 2 * 16 * 128 * 2, None, HUB + "; arXiv 2409.02060"),
    ("microsoft/Phi-3-mini-4k-instruct", 3_821_079_552, None, 32 * 2 * 32 * 96 * 2, None, HUB),
    ("microsoft/Phi-3-medium-4k-instruct", 13_960_238_080, None, 40 * 2 * 10 * 128 * 2, None, HUB),
    ("microsoft/Phi-4-mini-instruct", 3_836_021_760, None, 32 * 2 * 8 * 128 * 2, None, HUB),
    ("bigcode/starcoder2-3b", 3_030_371_328, None, 30 * 2 * 2 * 128 * 2, None, HUB),
    # 9.4 billion in embeddings and 331.6 billion in the rest
    ("nvidia/Nemotron-4-340B-Base", "341.0B", None, 96 * 2 * 8 * 192 * 2, None, "arXiv 2406.11704"),
    ("ibm-granite/granite-3.1-8b-base", 8_170_848_256, None, 40 * 2 * 8 * 128 * 2, None, HUB),
    ("ibm-granite/granite-3.1-3b-a800m-base", 3_298_793_472, None, 32 * 2 * 8 * 64 * 2, None, HUB),
    ("ibm-granite/granite-4.0-h-small", "32B", "9B", 4 * 2 * 8 * 128 * 2, None, CARD),
    ("ibm-granite/granite-4.0-h-tiny", "7B", "1B", 4 * 2 * 4 * 128 * 2, None, CARD),
    ("ibm-ai-platform/Bamba-9B-v1", "9.78B", None, 3 * 2 * 8 * 128 * 2, None, CARD),
    ("Qwen/Qwen1.5-MoE-A2.7B", "14.3B", "2.7B", 24 * 2 * 16 * 128 * 2, None, CARD),
    ("Qwen/Qwen2-57B-A14B", "57.4B", "14B", 28 * 2 * 4 * 128 * 2, None, "arXiv 2407.10671"),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", "80B", None, 12 * 2 * 2 * 256 * 2, None, CARD),
    ("ByteDance-Seed/Seed-OSS-36B-Base", 36_151_104_512, None, 64 * 2 * 8 * 128 * 2, None, HUB),
    ("HuggingFaceTB/SmolLM3-3B", 3_075_098_624, None, 36 * 2 * 4 * 128 * 2, None, HUB),
    ("mistralai/Mistral-Nemo-Base-2407", 12_247_782_400, None, 40 * 2 * 8 * 128 * 2, None, HUB),
    ("mistralai/Codestral-22B-v0.1", 22_247_282_688, None, 56 * 2 * 8 * 128 * 2, None, HUB),
    ("mistralai/Mistral-Large-Instruct-2407", 122_610_069_504, None, 88 * 2 * 8 * 128 * 2, None, HUB),
    ("mistralai/Ministral-8B-Instruct-2410", 8_019_808_256, None, 36 * 2 * 8 * 128 * 2, None, HUB),
    ("deepseek-ai/DeepSeek-V2", "236B", "21B", 60 * (512 + 64) * 2, None, "arXiv 2405.04434"),
    ("01-ai/Yi-34B", 34_388_917_248, None, 60 * 2 * 8 * 128 * 2, None, HUB),
    ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1_100_048_384, None, 22 * 2 * 4 * 64 * 2, None, HUB),
    ("zai-org/GLM-4-9B-0414", 9_400_279_040, None, 40 * 2 * 2 * 128 * 2, None, HUB),
    ("allenai/Olmo-3-1025-7B", 7_298_011_136, None, 32 * 2 * 32 * 128 * 2, None, HUB),
    ("PrimeIntellect/INTELLECT-3", 106_852_251_264, None, 46 * 2 * 8 * 128 * 2, None, HUB),
    ("LGAI-EXAONE/EXAONE-4.0-32B", "32.0B", None, 64 * 2 * 8 * 128 * 2, None, CARD),
    ("rednote-hilab/dots.llm1.base", None, "14B", 62 * 2 * 32 * 128 * 2, None, CARD),
    # indexer keys of 128 bytes and a scale of 4 bytes in every layer
    ("deepseek-ai/DeepSeek-V3.2", None, "37B", 61 * (1152 + 132), None, "vLLM"),
    ("zai-org/GLM-5", "744B", None, 78 * (1152 + 132), None, CARD),
    ("moonshotai/Kimi-K2.5", "1T", "32B", 61 * (512 + 64) * 2, None, CARD),
    ("MiniMaxAI/MiniMax-M2.5", "229B", "10B", 62 * 2 * 8 * 128 * 2, None, HUB),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", None, "17B", 48 * 2 * 8 * 128 * 2, None, CARD),
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "31.6B", "3.2B", 6 * 2 * 2 * 128 * 2, None, "arXiv 2512.20848"),
    ("openai/gpt-oss-120b", "116.83B", "5.13B", 36 * 2 * 8 * 64 * 2, "60.8 GiB", "arXiv 2508.10925, table 1"),
    # active parameters with the head and without the input embedding: arXiv 2508.10925, table 1
    ("openai/gpt-oss-20b", "20.91B", "3.61B", 24 * 2 * 8 * 64 * 2, "12.8 GiB", "arXiv 2508.10925, table 1"),
    ("TheBloke/Llama-2-7B-AWQ", 6_738_415_616, None, 32 * 2 * 32 * 128 * 2, "3.89 GB", CARD),
    ("TheBloke/Llama-2-13B-AWQ", 13_015_864_320, None, 40 * 2 * 40 * 128 * 2, "7.25 GB", CARD),
    ("TheBloke/Llama-2-70B-AWQ", 68_976_648_192, None, 80 * 2 * 8 * 128 * 2, "36.61 GB", CARD),
    ("TheBloke/Mistral-7B-v0.1-AWQ", 7_241_732_096, None, 32 * 2 * 8 * 128 * 2, "4.15 GB", CARD),
]
INSIGHTS = "arXiv 2412.19437; KV: arXiv 2505.09343, table 1"
INSTALLED = [
    ("Qwen/Qwen3-0.6B", "0.6B", None, 28 * 2 * 8 * 128 * 2, None, CARD),
    ("Qwen/Qwen3-1.7B", "1.7B", None, 28 * 2 * 8 * 128 * 2, None, CARD),
    ("Qwen/Qwen3-8B", "8.2B", None, 36 * 2 * 8 * 128 * 2, None, CARD),
    ("Qwen/Qwen3-32B", "32.8B", None, 64 * 2 * 8 * 128 * 2, None, CARD),
    ("Qwen/Qwen3-32B-FP8", "32.8B", None, 64 * 2 * 8 * 128 * 2, None, CARD),
    ("Qwen/Qwen3-32B-FP8-Static-PerTensor", "32.8B", None, 64 * 2 * 8 * 128 * 1, None, CARD),
    ("Qwen/Qwen3-30B-A3B", "30.5B", None, 48 * 2 * 4 * 128 * 2, None, CARD),
    ("Qwen/Qwen3-30B-A3B-FP8", "30.5B", None, 48 * 2 * 4 * 128 * 2, None, CARD),
    ("Qwen/Qwen3-235B-A22B", "235B", "22B", 94 * 2 * 4 * 128 * 2, None, CARD),
    ("nvidia/Qwen3-235B-A22B-NVFP4", "235B", "22B", 94 * 2 * 4 * 128 * 1, None, CARD),
    ("Qwen/Qwen3-Coder-480B-A35B-Instruct", "480B", "35B", 62 * 2 * 8 * 128 * 2, None, CARD),
    ("Qwen/Qwen3-VL-30B-A3B-Instruct", None, None, 48 * 2 * 4 * 128 * 2, None, CARD),
    ("Qwen/Qwen3.5-27B", "27B", None, 16 * 2 * 4 * 256 * 2, None, CARD),
    ("Qwen/Qwen3.5-35B-A3B", "35B", "3B", 10 * 2 * 2 * 256 * 2, None, CARD),
    ("Qwen/Qwen3.5-122B-A10B", "122B", "10B", 12 * 2 * 2 * 256 * 2, None, CARD),
    ("Qwen/Qwen3.5-397B-A17B", None, "17B", 15 * 2 * 2 * 256 * 2, None, CARD),
    ("deepseek-ai/DeepSeek-V3", "671B", "37B", 70_272, None, INSIGHTS),
    ("deepseek-ai/DeepSeek-R1", "671B", "37B", 70_272, None, INSIGHTS),
    ("nvidia/DeepSeek-V3.1-NVFP4", "671B", "37B", 61 * (512 + 64), None, CARD),
    # indexer keys of 128 bytes and a scale of 4; latent vectors of 512 bytes, 4 scales of 4 and 64 elements of 2 bytes
    ("deepseek-ai/DeepSeek-V3.2", None, "37B", 61 * (1152 + 132), None, "vLLM"),
    ("nvidia/DeepSeek-V3.2-NVFP4", None, "37B", 61 * (656 + 132), None, "vLLM"),
    ("zai-org/GLM-5", "744B", None, 78 * (1152 + 132), None, CARD),
    ("zai-org/GLM-5-FP8", "744B", None, 78 * (1152 + 132), None, CARD),
    ("meta-llama/Meta-Llama-3.1-8B", 8_030_261_248, None, 32 * 2 * 8 * 128 * 2, None, HUB),
    ("meta-llama/Meta-Llama-3.1-70B", 70_553_706_496, None, 80 * 2 * 8 * 128 * 2, None, HUB),
    ("meta-llama/Meta-Llama-3.1-405B", 405_853_388_800, None, 516_096, None, HUB + "; KV: arXiv 2505.09343, table 1"),
    ("nvidia/Llama-3.1-70B-Instruct-FP8", 70_553_706_496, None, 80 * 2 * 8 * 128 * 1, None, HUB),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", None, "17B", 48 * 2 * 8 * 128 * 2, None, CARD),
    ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", None, "17B", 48 * 2 * 8 * 128 * 2, None, CARD),
    ("mistralai/Mixtral-8x7B-v0.1", "46.7B", "12.9B", 32 * 2 * 8 * 128 * 2, None, "mistral.ai, 11 December 2023"),
    ("mistralai/Mixtral-8x22B-v0.1", "141B", "39B", 56 * 2 * 8 * 128 * 2, None, "mistral.ai, 17 April 2024"),
    ("moonshotai/Kimi-K2-Instruct", "1T", "32B", 61 * (512 + 64) * 2, None, CARD),
    ("moonshotai/Kimi-K2.5", "1T", "32B", 61 * (512 + 64) * 2, None, CARD),
    ("MiniMaxAI/MiniMax-M2.5", "229B", "10B", 62 * 2 * 8 * 128 * 2, None, HUB),
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "31.6B", "3.2B", 6 * 2 * 2 * 128 * 2, None, "arXiv 2512.20848"),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8", None, "12B", 8 * 2 * 2 * 128 * 1, None, CARD),
    ("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", None, "55B", 12 * 2 * 2 * 128 * 2, None, CARD),
    ("nvidia/Nemotron-H-56B-Base-8K", "56B", None, 10 * 2 * 8 * 128 * 2, None, "arXiv 2504.03624"),
    ("openai/gpt-oss-120b", "116.83B", "5.13B", 36 * 2 * 8 * 64 * 2, "60.8 GiB", "arXiv 2508.10925, table 1"),
    ("openai/gpt-oss-20b", "20.91B", "3.61B", 24 * 2 * 8 * 64 * 2, "12.8 GiB", "arXiv 2508.10925, table 1"),
    ("XiaomiMiMo/MiMo-7B-Base", None, None, 36 * 2 * 8 * 128 * 2, None, CARD),
]


def agrees(counted, published):
    """Whether a count is the published figure, to half a unit of the last digit that it prints."""
    if not isinstance(published, str):
        return counted == published
    unit = next(each for each in sorted(SCALES, key=len, reverse=True) if published.endswith(each))
    figure = published.removesuffix(unit)
    last = 10.0 ** -len(figure.partition(".")[2])
    return abs(counted / SCALES[unit] - float(figure)) <= last / 2


def check(path, parameters, active, kv, checkpoint):
    model = model_from_config(path)
    types = model.quantization or Quantization()
    assert parameters is None or agrees(model.parameters, parameters), model.parameters
    with_input = model.parameters_active + (0 if model.tied_embeddings else model.embedding)
    assert active is None or agrees(model.parameters_active, active) or agrees(with_input, active), with_input
    assert model.kv_bytes(types.kv_dtype or "float16") == kv
    assert checkpoint is None or agrees(types.bytes_of(model.weights), checkpoint), types.bytes_of(model.weights)


@pytest.mark.parametrize(("hub", "parameters", "active", "kv", "checkpoint", "source"), WRITTEN_OUT)
def test_a_shape_written_out_has_the_published_counts(tmp_path, hub, parameters, active, kv, checkpoint, source):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SHAPES[hub]), encoding="utf-8")
    check(path, parameters, active, kv, checkpoint)


def installed() -> Path | None:
    """The folder of config.json files in aiconfigurator-core, which is looked for and not imported."""
    found = importlib.util.find_spec("aiconfigurator_core")
    places = found.submodule_search_locations if found else None
    return Path(places[0]) / "model_configs" if places else None


@pytest.mark.skipif(installed() is None, reason="aiconfigurator-core is not installed")
@pytest.mark.parametrize(("hub", "parameters", "active", "kv", "checkpoint", "source"), INSTALLED)
def test_a_public_file_has_the_published_counts(tmp_path, hub, parameters, active, kv, checkpoint, source):
    for name in ("config.json", "hf_quant_config.json"):
        file = (installed() or Path()) / f"{hub.replace('/', '--')}_{name}"
        if file.is_file():
            shutil.copy(file, tmp_path / name)
    check(tmp_path / "config.json", parameters, active, kv, checkpoint)


def test_every_shape_is_tested_and_every_figure_has_a_source():
    assert {row[0] for row in WRITTEN_OUT} == set(SHAPES)
    assert all(row[5] for row in WRITTEN_OUT + INSTALLED)
    assert len({row[0] for row in WRITTEN_OUT + INSTALLED}) >= 80
