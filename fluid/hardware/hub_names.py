"""Names of the Hugging Face hub for models of the catalogue: those whose shape is exactly that of an entry.

A hub name is its owner and its repository, "meta-llama/Llama-3.1-8B-Instruct", or the repository alone, in any case. It
counts only where it is listed: names that look alike need not be built alike (Mistral-7B-v0.3 has another vocabulary
than v0.2, Qwen2.5-72B-Instruct-AWQ a wider MLP than Qwen2.5-72B). A name that says its weights are quantised never
means 16 bits: it has the formats of its file where those are listed here, and is refused otherwise.

    FP8 of Qwen3 and DeepSeek-V3   8 bits in blocks of 128 x 128, a scale of 32 bits each; the head in 16
    AWQ, GPTQ-Int4 of Qwen         4 bits, groups of 128 inputs, a scale of 16 bits and a zero of 4
    GPTQ-Int8 of Qwen              8 bits, groups of 128 inputs, a scale of 16 bits and a zero of 8

Source: config.json of each repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from fluid.hardware.element_types import FORMATS, Format, Quantization

FP8_BLOCKS = Quantization(Format("fp8", 8, 128, 128, 32))
_AWQ = Quantization(FORMATS["int4"])
_GPTQ8 = Quantization(Format("int8", 8, columns=128, scale_bits=16 + 8))

_LLAMA, _CHAT = ("", "-instruct"), ("", "-hf", "-chat", "-chat-hf")
_QWEN3, _DATED = ("", "-base"), ("", "-base", "-instruct-2507", "-thinking-2507")
_REPOSITORIES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (  # entry, owner, repository, what may follow it
    ("llama-2-7b", "meta-llama", "llama-2-7b", _CHAT), ("llama-2-13b", "meta-llama", "llama-2-13b", _CHAT),
    ("llama-2-70b", "meta-llama", "llama-2-70b", _CHAT),
    ("llama-3-8b", "meta-llama", "meta-llama-3-8b", _LLAMA), ("llama-3-70b", "meta-llama", "meta-llama-3-70b", _LLAMA),
    *((f"llama-3.1-{size}", "meta-llama", f"{prefix}llama-3.1-{size}", _LLAMA)
      for size in ("8b", "70b", "405b") for prefix in ("", "meta-")),
    ("llama-3.1-70b", "meta-llama", "llama-3.3-70b-instruct", ("",)),
    ("llama-3.2-1b", "meta-llama", "llama-3.2-1b", _LLAMA), ("llama-3.2-3b", "meta-llama", "llama-3.2-3b", _LLAMA),
    ("llama-3.1-8b", "deepseek-ai", "deepseek-r1-distill-llama-8b", ("",)),
    ("llama-3.1-70b", "deepseek-ai", "deepseek-r1-distill-llama-70b", ("",)),
    ("mistral-7b", "mistralai", "mistral-7b-instruct-v0.2", ("",)),
    ("mistral-7b-v0.1", "mistralai", "mistral-7b-v0.1", ("",)),
    ("mistral-7b-v0.1", "mistralai", "mistral-7b-instruct-v0.1", ("",)),
    ("mistral-7b-v0.3", "mistralai", "mistral-7b-v0.3", ("",)),
    ("mistral-7b-v0.3", "mistralai", "mistral-7b-instruct-v0.3", ("",)),
    ("mistral-small-24b", "mistralai", "mistral-small-24b-base-2501", ("",)),
    ("mistral-small-24b", "mistralai", "mistral-small-24b-instruct-2501", ("",)),
    ("mixtral-8x7b", "mistralai", "mixtral-8x7b-v0.1", ("",)),
    ("mixtral-8x7b", "mistralai", "mixtral-8x7b-instruct-v0.1", ("",)),
    ("mixtral-8x22b", "mistralai", "mixtral-8x22b-v0.1", ("",)), ("phi-4", "microsoft", "phi-4", ("",)),
    *((f"qwen2.5-{size}", "qwen", f"qwen2.5-{size}", _LLAMA)
      for size in ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b")),
    ("qwen2.5-32b", "qwen", "qwq-32b", ("",)),
    *((f"qwen2.5-{size}", "deepseek-ai", f"deepseek-r1-distill-qwen-{size}", ("",)) for size in ("7b", "14b", "32b")),
    *((f"qwen3-{size}", "qwen", f"qwen3-{size}", _QWEN3) for size in ("0.6b", "1.7b", "4b", "8b", "14b")),
    ("qwen3-32b", "qwen", "qwen3-32b", ("",)), ("qwen3-30b-a3b", "qwen", "qwen3-30b-a3b", _DATED),
    ("qwen3-235b-a22b", "qwen", "qwen3-235b-a22b", ("", "-instruct-2507", "-thinking-2507")),
    ("deepseek-v2-lite", "deepseek-ai", "deepseek-v2-lite", ("", "-chat")),
    ("deepseek-v2-lite", "deepseek-ai", "deepseek-coder-v2-lite", ("-base", "-instruct")),
    ("deepseek-v3", "deepseek-ai", "deepseek-v3", ("", "-base", "-0324")),
    ("deepseek-v3", "deepseek-ai", "deepseek-r1", ("", "-zero", "-0528")),
    ("deepseek-v3", "deepseek-ai", "deepseek-v3.1", ("", "-base", "-terminus")))
_QUANTISED: tuple[tuple[str, str, tuple[str, ...], str, Quantization], ...] = (
    ("qwen3", "qwen", ("0.6b", "1.7b", "4b", "8b", "14b", "32b", "30b-a3b", "235b-a22b"), "-fp8", FP8_BLOCKS),
    ("qwen3", "qwen", ("30b-a3b", "235b-a22b"), "-instruct-2507-fp8", FP8_BLOCKS),
    ("qwen3", "qwen", ("30b-a3b", "235b-a22b"), "-thinking-2507-fp8", FP8_BLOCKS),
    ("qwen3", "qwen", ("4b", "8b", "14b", "32b"), "-awq", _AWQ),
    ("qwen2.5", "qwen", ("7b", "14b", "32b"), "-instruct-awq", _AWQ),
    ("qwen2.5", "qwen", ("7b", "14b", "32b"), "-instruct-gptq-int4", _AWQ),
    ("qwen2.5", "qwen", ("7b", "14b", "32b"), "-instruct-gptq-int8", _GPTQ8))

_TELLS = re.compile(r"(fp8|fp4|awq|gptq|gguf|bnb|exl2|mlx|int[48]|[348]-?bit|w\d+a\d+|quant)", re.IGNORECASE)


def _listed() -> Iterator[tuple[str, str, Quantization | None]]:
    for entry, owner, repository, ends in _REPOSITORIES:
        yield from ((f"{owner}/{repository}{end}", entry, None) for end in ends)
    for family, owner, sizes, end, quantization in _QUANTISED:
        yield from ((f"{owner}/{family}-{size}{end}", f"{family}-{size}", quantization) for size in sizes)


HUB: Mapping[str, tuple[str, Quantization | None]] = MappingProxyType(
    {name: (entry, quantization) for name, entry, quantization in _listed()})
_BARE = {name.partition("/")[2]: found for name, found in HUB.items()}


def on_the_hub(name: str) -> tuple[str, Quantization | None] | None:
    """The entry of the catalogue that a hub name means, and its quantisation where it is not the entry's own.

    >>> on_the_hub("meta-llama/Llama-3.1-8B-Instruct")
    ('llama-3.1-8b', None)
    """
    return HUB.get(name.lower()) or _BARE.get(name.lower())


def says_quantised(name: str) -> bool:
    """Whether a name says that its weights are quantised."""
    return _TELLS.search(name) is not None
