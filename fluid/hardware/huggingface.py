"""The shape of a model from its Hugging Face config.json.

It covers Llama, Mistral, Mixtral, Qwen2, Qwen3, DeepSeek-V2 and DeepSeek-V3: the architectures whose parameters
`fluid.hardware.model` counts exactly. A key that is left out has the default of the Transformers library:

    num_key_value_heads    one per attention head
    head_dim               hidden_size / num_attention_heads; Qwen3: 128
    sliding_window         null, no window; Mistral: 4096. Llama and DeepSeek have none whatever the key says, Qwen only
                           with use_sliding_window, in the layers from max_window_layers (28) on
    tie_word_embeddings    false

All layers must have the same attention window: a KV cache with a window in some layers only (Gemma 2 and 3, gpt-oss)
is not proportional to the tokens it holds, and such a file is refused. Sources: the configuration classes of
Transformers and the config.json of each family.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fluid.errors import InputError, one_of, whole
from fluid.hardware.model import Experts, Latent, Model

_CLASSES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral", "MixtralForCausalLM": "mixtral",
            "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3", "DeepseekV2ForCausalLM": "deepseek_v2",
            "DeepseekV3ForCausalLM": "deepseek_v3"}
_MIXED = {"gemma2", "gemma3", "gemma3_text", "gpt_oss", "cohere2", "llama4", "llama4_text",
          "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "GptOssForCausalLM",
          "Cohere2ForCausalLM", "Llama4ForConditionalGeneration"}
_ALIKE = "an architecture whose layers all attend to the same tokens, and this one mixes windowed and global attention"
_UNITS = {"num_hidden_layers": "layers", "num_attention_heads": "heads", "num_key_value_heads": "heads",
          "vocab_size": "tokens", "sliding_window": "tokens", "max_window_layers": "layers",
          "first_k_dense_replace": "layers", "num_local_experts": "experts", "n_routed_experts": "experts",
          "n_shared_experts": "experts", "num_experts_per_tok": "experts"}


def model_from_config(path: str | Path) -> Model:
    """Read the shape of a Llama, Mistral, Mixtral, Qwen2, Qwen3 or DeepSeek model from its Hugging Face config.json.

    Raises InputError for a file that cannot be read, another architecture, and a key that is missing or unusable.

    >>> model_from_config("no/such/config.json")
    Traceback (most recent call last):
    fluid.errors.InputError: model must be a readable config.json: No such file or directory (got 'no/such/config.json')
    """
    config, where = _read_config(path), str(path)
    family = _family(config, where)
    hidden, heads, layers = (_size(config, key, where)
                             for key in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    latent = _latent(config, where) if family.startswith("deepseek") else None
    return Model(
        name=Path(path).parent.name or Path(path).stem,
        layers=layers,
        hidden_size=hidden,
        attention_heads=heads,
        kv_heads=_size(config, "num_key_value_heads", where, heads),
        head_dim=latent.nope_dim + latent.rope_dim if latent else _head_dim(config, family, hidden, heads, where),
        intermediate_size=_size(config, "intermediate_size", where),
        vocab_size=_size(config, "vocab_size", where),
        tied_embeddings=_flag(config, "tie_word_embeddings", where),
        qkv_bias=family == "qwen2" or _flag(config, "attention_bias", where),
        qk_norm=family == "qwen3",
        attention_window=_window(config, family, layers, where),
        latent=latent,
        experts=_experts(config, family, layers, where),
        source=where)


def _head_dim(config: dict[str, Any], family: str, hidden: int, heads: int, where: str) -> int:
    if config.get("head_dim") is None and family != "qwen3" and hidden % heads:
        raise InputError("hidden_size", f"a multiple of num_attention_heads {heads}, or head_dim given", hidden, where)
    return _size(config, "head_dim", where, 128 if family == "qwen3" else hidden // heads)


def _latent(config: dict[str, Any], where: str) -> Latent:
    if "q_lora_rank" not in config:
        raise InputError("q_lora_rank", "given, as a whole number or null", None, where)
    compressed = config["q_lora_rank"] is not None
    return Latent(kv_rank=_size(config, "kv_lora_rank", where),
                  rope_dim=_size(config, "qk_rope_head_dim", where),
                  nope_dim=_size(config, "qk_nope_head_dim", where),
                  value_dim=_size(config, "v_head_dim", where),
                  query_rank=_size(config, "q_lora_rank", where) if compressed else 0)


def _experts(config: dict[str, Any], family: str, layers: int, where: str) -> Experts | None:
    if family == "mixtral":
        routed = _size(config, "num_local_experts", where)
        return Experts(routed, _size(config, "num_experts_per_tok", where, most=routed),
                       _size(config, "intermediate_size", where))
    if not family.startswith("deepseek") or config.get("n_routed_experts") is None:
        return None
    if config.get("moe_layer_freq", 1) != 1:
        raise InputError("moe_layer_freq", "1, experts in every layer after the dense ones",
                         _plain(config["moe_layer_freq"]), where)
    routed = _size(config, "n_routed_experts", where)
    return Experts(routed, _size(config, "num_experts_per_tok", where, most=routed),
                   _size(config, "moe_intermediate_size", where),
                   shared=_size(config, "n_shared_experts", where, 0, least=0),
                   dense_layers=_size(config, "first_k_dense_replace", where, 0, least=0, most=layers - 1),
                   router_bias=family == "deepseek_v3")


def _window(config: dict[str, Any], family: str, layers: int, where: str) -> int | None:
    """The attention window of every layer in tokens; None where it is the whole context."""
    if family not in ("mistral", "mixtral", "qwen2", "qwen3"):
        return None
    kinds = config.get("layer_types")  # where given, it decides; it has one kind only (`_family`)
    if isinstance(kinds, list) and "full_attention" in kinds:
        return None
    if family.startswith("qwen"):
        first = _size(config, "max_window_layers", where, 28, least=0)
        if not _flag(config, "use_sliding_window", where) or first >= layers:
            return None
        if first:
            raise InputError("max_window_layers", f"0 or at least the {layers} layers with use_sliding_window: a model "
                             "that mixes windowed and global attention is not covered", first, where)
    if "sliding_window" not in config and family != "mixtral":
        return 4096
    return None if config.get("sliding_window") is None else _size(config, "sliding_window", where)


def _read_config(path: str | Path) -> dict[str, Any]:
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("model", f"a readable config.json: {error.strerror}", str(path)) from None
    except json.JSONDecodeError as error:
        raise InputError("model", f"a config.json in JSON: {error.msg} at line {error.lineno}", str(path)) from None
    except (ValueError, RecursionError):  # not UTF-8, a NUL in the path, a number or nesting beyond the reader
        raise InputError("model", "a config.json in JSON", str(path)) from None
    if not isinstance(config, dict):
        raise InputError("model", "a config.json that holds an object", str(path))
    return config


def _family(config: dict[str, Any], where: str) -> str:
    """The architecture: `model_type`, or the first of `architectures`; a file with neither counts as Llama-like."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and any(kind != kinds[0] for kind in kinds):
        raise InputError("layer_types", _ALIKE, _plain(kinds), where)
    if config.get("model_type") is not None:
        return _known("model_type", _plain(config["model_type"]), tuple(_CLASSES.values()), where)
    listed = config.get("architectures") or ["LlamaForCausalLM"]
    first = listed[0] if isinstance(listed, list) else listed
    return _CLASSES[_known("architectures", _plain(first), tuple(_CLASSES), where)]


def _known(key: str, name: Any, known: tuple[str, ...], where: str) -> str:
    if name in _MIXED:
        raise InputError(key, _ALIKE, name, where)
    return one_of(key, name, known, where)


def _size(config: dict[str, Any], key: str, where: str, default: int | None = None, *, least: int = 1,
          most: int = 2**31) -> int:
    value = config.get(key)
    if value is None and default is None:
        raise InputError(key, "given, as a whole number", None, where)
    return whole(key, default if value is None else _plain(value), where, unit=_UNITS.get(key, "elements"),
                 least=least, most=most)


def _flag(config: dict[str, Any], key: str, where: str) -> bool:
    value = config.get(key)
    if not isinstance(value, bool | None):
        raise InputError(key, "true or false", _plain(value), where)
    return bool(value)


def _plain(value: Any) -> Any:
    """The value, or only its type's name for a list or an object, which could be nested arbitrarily deep."""
    return type(value).__name__ if isinstance(value, list | dict) else value
