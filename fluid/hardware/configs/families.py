"""The families of models whose parameters are counted exactly, by `model_type` or by a name among `architectures`.

A family is what its layers have that Llama's do not: biases, norms on queries and keys, more or fewer norms, an MLP
without a gate, experts, latent attention, attention windows. Where the file decides, the family names the key. Windows
follow `layer_types` where it is given, else, with L layers and a `period` p, every p-th layer is global:

    windowed = L - floor(L / p)      Gemma 2, gpt-oss: p = 2; Gemma 3: 6; Cohere 2, Llama 4, OLMo 3, EXAONE 4: 4
    windowed = L - max_window_layers Qwen with use_sliding_window
    windowed = L                     Mistral, Mixtral, Phi-3, StarCoder2

Llama 4 cuts its context into chunks: a token attends within its chunk only, so that a layer keeps at most
`attention_chunk_size` tokens, which counts as a window of that size.

Not counted, because engines do not load them or keep them apart: layers for multi-token prediction, towers for images.
Sources: the configuration and model classes of the Transformers library, the config.json of each family.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fluid.errors import InputError
from fluid.hardware.configs.keys import Keys

Switch = bool | str  # a text is the key of config.json that decides


@dataclass(frozen=True)
class Mixture:
    """The keys of a family's experts, and which of its layers have them: all of them or by a rule."""

    routed: str = "num_experts"
    per_token: str = "num_experts_per_tok"
    size: str = "moe_intermediate_size"
    shared: str = ""
    shared_size: str = ""
    shared_gate: bool = False
    router_bias: Switch = False
    bias: bool = False
    layers: str = "all"
    optional: bool = False  # without the key of `routed` there are none


@dataclass(frozen=True)
class Family:
    """What the layers of a family have that Llama's do not."""

    qkv_bias: Switch = False
    output_bias: Switch = False
    mlp_bias: Switch = False
    norm_bias: bool = False
    norms: int = 2
    qk_norm: str = ""  # "head": d parameters each; "width": as many as Q and K have
    qk_norm_if: Switch = True
    sinks: bool = False
    gated: bool = True
    tied: bool = False
    head_dim: int = 0
    window: int | None = None  # of a file that does not say
    windowed: str = ""  # "all", "late" (Qwen), "period" or "chunked" (Llama 4)
    period: int = 0
    mixture: Mixture | None = None
    latent: bool = False
    indexer: bool = False
    mixer: str = ""  # what the layers without KV have: "delta", "mamba" or "nemotron"
    dense_size: str = "intermediate_size"
    defaults: tuple[tuple[str, int], ...] = ()


_LOCAL = Mixture("num_local_experts", size="intermediate_size")
_DEEPSEEK = Mixture("n_routed_experts", shared="n_shared_experts", layers="first", optional=True)
_LLAMA = Family("attention_bias", "attention_bias", "mlp_bias")
_MISTRAL = Family(window=4096, windowed="all")
_QWEN2 = Family(qkv_bias=True, windowed="late", window=4096)
_QWEN3 = Family("attention_bias", "attention_bias", qk_norm="head", head_dim=128, windowed="late", window=4096)
_QWEN3_MOE = replace(_QWEN3, mixture=Mixture(layers="step"))
_SHARED = Mixture(shared_size="shared_expert_intermediate_size", shared_gate=True, layers="step")
_DELTA = replace(_QWEN3, windowed="", mixer="delta", head_dim=256)
_V3 = Family(latent=True, mixture=replace(_DEEPSEEK, router_bias=True))
_GEMMA = Family("attention_bias", "attention_bias", head_dim=256, tied=True)
_GEMMA3 = replace(_GEMMA, norms=4, qk_norm="head", windowed="period", window=4096, period=6)
_OLMO2 = Family("attention_bias", "attention_bias", qk_norm="width")
_COHERE = Family("attention_bias", "attention_bias", norms=1, tied=True)
_GRANITE_MOE = Family("attention_bias", "attention_bias",
                      mixture=replace(_LOCAL, shared_size="shared_intermediate_size", optional=True))

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA, "granite": _LLAMA, "smollm3": replace(_LLAMA, tied=True),
    "seed_oss": Family("attention_bias", "attention_out_bias", "mlp_bias", head_dim=128),
    "mistral": _MISTRAL, "ministral": _MISTRAL, "mixtral": Family(windowed="all", mixture=_LOCAL),
    "phi3": Family(windowed="all"), "mimo": replace(_QWEN2, qkv_bias="attention_bias"),
    "qwen2": _QWEN2, "qwen2_vl": _QWEN2, "qwen2_5_vl": _QWEN2,
    "qwen2_moe": replace(_QWEN2, mixture=_SHARED), "qwen3": _QWEN3, "qwen3_vl_text": _QWEN3,
    "qwen3_moe": _QWEN3_MOE, "qwen3_vl_moe_text": _QWEN3_MOE,
    "qwen3_next": replace(_DELTA, mixture=_SHARED), "qwen3_5_text": _DELTA,
    "qwen3_5_moe_text": replace(_DELTA, mixture=_SHARED),
    "deepseek_v2": Family(latent=True, mixture=_DEEPSEEK), "deepseek_v3": _V3, "kimi_k2": _V3,
    "deepseek_v32": replace(_V3, indexer=True), "glm_moe_dsa": replace(_V3, indexer=True),
    "gemma": _GEMMA, "gemma2": replace(_GEMMA, norms=4, windowed="period", window=4096, period=2),
    "gemma3_text": replace(_GEMMA3, defaults=(("num_attention_heads", 8), ("num_key_value_heads", 4),
                                              ("vocab_size", 262208))),
    "gpt_oss": Family(True, True, sinks=True, head_dim=64, windowed="period", window=128, period=2,
                      mixture=replace(_LOCAL, router_bias=True, bias=True)),
    "llama4_text": Family("attention_bias", "attention_bias", windowed="chunked", window=8192, period=4,
                          dense_size="intermediate_size_mlp",
                          mixture=replace(_LOCAL, shared_size="intermediate_size", layers="interleave")),
    "cohere": replace(_COHERE, qk_norm="width", qk_norm_if="use_qk_norm"),
    "cohere2": replace(_COHERE, windowed="period", window=4096, period=4),
    "olmo2": _OLMO2, "olmo3": replace(_OLMO2, windowed="period", window=4096, period=4),
    "olmoe": Family("attention_bias", "attention_bias", qk_norm="width", mixture=Mixture(size="intermediate_size")),
    "exaone4": replace(_QWEN3, windowed="period", period=4, head_dim=0),
    "dots1": replace(_QWEN3, windowed="", head_dim=0, mixture=replace(_DEEPSEEK, router_bias=True)),
    "glm4": Family("attention_bias", norms=4, head_dim=128),
    "glm4_moe": Family("attention_bias", qk_norm="head", qk_norm_if="use_qk_norm", head_dim=128,
                       mixture=replace(_DEEPSEEK, router_bias=True)),
    "minimax_m2": Family(qk_norm="width", qk_norm_if="use_qk_norm", mixture=replace(_LOCAL, router_bias=True)),
    "granitemoe": _GRANITE_MOE, "granitemoeshared": _GRANITE_MOE,
    "granitemoehybrid": replace(_GRANITE_MOE, mixer="mamba", dense_size="shared_intermediate_size"),
    "nemotron": Family("attention_bias", "attention_bias", "mlp_bias", norm_bias=True, gated=False),
    "starcoder2": Family("use_bias", "use_bias", "use_bias", norm_bias=True, gated=False, tied=True, windowed="all"),
    "bamba": replace(_LLAMA, mixer="mamba"),
    "nemotron_h": Family("attention_bias", "attention_bias", "mlp_bias", gated=False, mixer="nemotron",
                         mixture=Mixture("n_routed_experts", shared="n_shared_experts", router_bias=True, layers="part",
                                         optional=True)),
}

CLASSES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral", "MixtralForCausalLM": "mixtral",
           "Qwen2ForCausalLM": "qwen2", "Qwen2MoeForCausalLM": "qwen2_moe", "Qwen3ForCausalLM": "qwen3",
           "Qwen3MoeForCausalLM": "qwen3_moe", "Qwen3NextForCausalLM": "qwen3_next", "Phi3ForCausalLM": "phi3",
           "DeepseekV2ForCausalLM": "deepseek_v2", "DeepseekV3ForCausalLM": "deepseek_v3",
           "DeepseekV32ForCausalLM": "deepseek_v32", "GlmMoeDsaForCausalLM": "glm_moe_dsa",
           "GemmaForCausalLM": "gemma", "Gemma2ForCausalLM": "gemma2", "Gemma3ForCausalLM": "gemma3_text",
           "GptOssForCausalLM": "gpt_oss", "Llama4ForCausalLM": "llama4_text", "CohereForCausalLM": "cohere",
           "Cohere2ForCausalLM": "cohere2", "Olmo2ForCausalLM": "olmo2", "Olmo3ForCausalLM": "olmo3",
           "OlmoeForCausalLM": "olmoe", "Glm4ForCausalLM": "glm4", "Glm4MoeForCausalLM": "glm4_moe",
           "Exaone4ForCausalLM": "exaone4", "Dots1ForCausalLM": "dots1", "MiniMaxM2ForCausalLM": "minimax_m2",
           "GraniteForCausalLM": "granite", "GraniteMoeForCausalLM": "granitemoe",
           "GraniteMoeHybridForCausalLM": "granitemoehybrid", "NemotronForCausalLM": "nemotron",
           "NemotronHForCausalLM": "nemotron_h", "Starcoder2ForCausalLM": "starcoder2",
           "SeedOssForCausalLM": "seed_oss", "SmolLM3ForCausalLM": "smollm3"}

_HEADS_DIFFER = "one whose attention layers all have the same KV heads and head size, which this one's have not"
_COMPRESSED = "one whose layers keep something of every token, where this one's keep one of 4 or 128 (compress_ratios)"
_REFUSED = {
    "gemma4_text": _HEADS_DIFFER, "mimo_v2_flash": _HEADS_DIFFER,
    "nemotron-nas": "one whose layers are all built alike, which this one's are not (block_configs)",
    "deepseek_v4": _COMPRESSED, "deepseek_ref": _COMPRESSED,
}


def family_of(keys: Keys) -> Family:
    """The family by `model_type`, else by the first known name of `architectures`; with neither, Llama's.

    >>> family_of(Keys({"architectures": ["DeepseekV3ForCausalLM"]}, "config.json")).latent
    True
    """
    kind, listed = keys.config.get("model_type"), keys.config.get("architectures")
    classes = [each for each in (listed if isinstance(listed, list) else [listed]) if isinstance(each, str)]
    known = next((CLASSES[each] for each in classes if each in CLASSES), None)
    if isinstance(kind, str) and kind in FAMILIES:
        return FAMILIES[kind]
    if isinstance(kind, str) and kind in _REFUSED:
        raise keys.refuse("model_type", _REFUSED[kind])
    if known is not None or (kind is None and not classes):
        return FAMILIES[known or "llama"]
    if kind is None:
        raise InputError("architectures", "one of " + ", ".join(CLASSES), ", ".join(classes), keys.where)
    raise keys.refuse("model_type", "one of " + ", ".join(FAMILIES))
