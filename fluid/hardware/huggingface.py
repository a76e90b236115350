"""The shape of a model from its Hugging Face config.json.

`fluid.hardware.configs.families` says which architectures are covered: those whose parameters are counted exactly. A
file of another, or with a value that is not understood, is refused by the name of the key. Of a model that also sees or
hears only the language model is read: its other parts (0.4 to 0.7 billion parameters in most) are not in the counts.

Element types follow vLLM. Without a quantisation weights and KV cache have 16 bits, also where the file says float32,
which it casts. With one, the formats of the weights and of the KV cache are those that
`fluid.hardware.configs.quantization` reads. Keys left out have the values of the Transformers library:

    num_key_value_heads    one per attention head
    head_dim               hidden_size / num_attention_heads; Qwen3: 128, Gemma: 256, gpt-oss: 64
    sliding_window         null, no window; Mistral, Gemma, Cohere 2: 4096. Llama and DeepSeek have none whatever the
                           key says, Qwen only with use_sliding_window, in the layers from max_window_layers (28) on
    tie_word_embeddings    false; Gemma and Cohere: true

Sources: the configuration classes of Transformers, the config.json of each family, vLLM 0.11 to 0.15.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fluid.errors import InputError
from fluid.hardware.catalogue import find_model
from fluid.hardware.configs.decoder import WINDOWED, Decoder, switch
from fluid.hardware.configs.families import family_of
from fluid.hardware.configs.keys import Keys, read_keys
from fluid.hardware.configs.quantization import read_quantization
from fluid.hardware.model import Model


def model_named(name: str, folder: Path = Path()) -> Model:
    """Return the model of a name: that of the config.json where it ends so, a path from `folder`, else a known one.

    Raises InputError for a file that cannot be used, and with the nearest names for one that is not known.

    >>> model_named("llama-2-7b").layers
    32
    """
    if isinstance(name, str) and name.lower().endswith(".json"):
        return model_from_config(folder / name)
    try:
        return find_model(name)
    except InputError as error:
        raise InputError("model", f"the path of a Hugging Face config.json, or {error.requirement}", name) from None


def model_from_config(path: str | Path) -> Model:
    """Read the shape and the element types of a model from its Hugging Face config.json.

    A hf_quant_config.json beside it counts where the file itself names no quantisation. Raises InputError for a file
    that cannot be read, another architecture, and a key that is missing or unusable.

    >>> model_from_config("no/such/config.json")
    Traceback (most recent call last):
    fluid.errors.InputError: model must be a readable config.json: No such file or directory (got 'no/such/config.json')
    """
    keys = read_keys(path)
    decoder = Decoder(keys, family_of(keys))
    model = _model(decoder, Path(path))
    own = decoder.tensors
    return model if own == model.weights else replace(model, tensors=own)


def _model(decoder: Decoder, path: Path) -> Model:
    """The model by its shape, as if its tensors were the plain ones."""
    keys, family = decoder.keys, decoder.family
    window, windowed = _window(decoder)
    return Model(
        name=path.parent.name or path.stem,
        layers=len(decoder.parts),
        hidden_size=decoder.hidden,
        attention_heads=decoder.heads,
        kv_heads=decoder.kv_heads,
        head_dim=decoder.head_dim,
        intermediate_size=decoder.dense_size,
        vocab_size=decoder.vocabulary,
        tied_embeddings=decoder.tied,
        qkv_bias=switch(keys, family.qkv_bias),
        qk_norm=family.qk_norm == "head" and switch(keys, family.qk_norm_if),
        attention_window=window,
        windowed_layers=windowed,
        attention_layers=decoder.parts.count("attention"),
        state_bytes=decoder.state_bytes,
        index_bytes=decoder.index_bytes,
        latent=decoder.latent,
        experts=decoder.experts,
        quantization=read_quantization(keys, path),
        source=str(path))


def _window(decoder: Decoder) -> tuple[int | None, int | None]:
    """The attention window in tokens and the number of layers that have it; None where there is none."""
    keys, family = decoder.keys, decoder.family
    kinds, key = keys.texts("layer_types"), "attention_chunk_size" if family.windowed == "chunked" else "sliding_window"
    if kinds is not None and not family.windowed and any(each in WINDOWED for each in kinds):
        raise keys.refuse("layer_types", "without windows in this architecture")
    windowed = sum(each in WINDOWED for each in kinds) if kinds is not None else _windowed_layers(decoder)
    if not windowed or (key in keys.config and keys.config[key] is None):
        return None, None
    if key not in keys.config and family.window is None:
        return None, None
    return keys.size(key, family.window), windowed


def _windowed_layers(decoder: Decoder) -> int:
    """How many layers have a window, where no list of layers says so."""
    keys, family, layers = decoder.keys, decoder.family, len(decoder.parts)
    if family.windowed == "all":
        return layers
    if family.windowed == "late":
        return max(0, layers - keys.size("max_window_layers", 28, least=0)) if keys.flag("use_sliding_window") else 0
    if family.windowed == "chunked":
        rotary = keys.wholes("no_rope_layers")  # 0 marks a layer without positions, which attends to everything
        return sum(map(bool, rotary)) if rotary else _periodic(keys, layers, "no_rope_layer_interval", family.period)
    if family.windowed == "period":
        key = "_sliding_window_pattern" if "_sliding_window_pattern" in keys.config else "sliding_window_pattern"
        return _periodic(keys, layers, key, family.period)
    return 0


def _periodic(keys: Keys, layers: int, key: str, default: int) -> int:
    """L - floor(L / p): every p-th layer is global."""
    return layers - layers // keys.size(key, default)
