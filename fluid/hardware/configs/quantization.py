"""The element types that a model's files name: quantization_config of config.json, or hf_quant_config.json beside it.

    quant_method          formats
    fp8, fbgemm_fp8       8 bits, with `weight_block_size` a scale per block
    awq, gptq             `bits` with a scale and a zero per `group_size` inputs; GPTQ's head with `lm_head`
    compressed-tensors    `config_groups`, each of `weights` (num_bits, type, strategy, group_size) and `targets`
    modelopt ...          `quant_algo`: FP8, NVFP4, MXFP8 ...; MIXED_PRECISION: one for each of `quantized_layers`
    mxfp4                 4 bits in the experts
    bitsandbytes          8 bits, or 4 with a scale of 32 bits per 64 elements (8 + 32/256 bits if doubly quantised)

What is left out is listed as `modules_to_not_convert`, `ignored_layers`, `ignore`, `exclude_modules` or
`llm_int8_skip_modules`. Any other method, and sparse weights, are refused.

The KV cache is that of vLLM with kv_cache_dtype "auto": in 8 bits where a compressed-tensors file has a
`kv_cache_scheme` (it sets fp8 whatever the scheme), or a ModelOpt file one of 8-bit floats or `kv_cache_quant_algo`
FP8; in the 16 bits of the model otherwise, also where another method has scales for it. (Attention.__init__ and
get_kv_cache_quant_algo_string, vLLM 0.15; releases before 0.12 needed --kv-cache-dtype fp8: say kv_dtype = "float16".)
"""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

from fluid.errors import InputError
from fluid.hardware.configs.keys import Keys, plain, read_object
from fluid.hardware.element_types import FORMATS, FULL, Format, Modules, Quantization, canonical

MOST_PATTERNS, LONGEST_PATTERN, MOST_STEPS, FREE_CHOICES = 1000, 200, 50_000, 4

_LEFT_OUT = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "llm_int8_skip_modules")
_BLOCKS = Format("fp8", 8, 128, 128, 32)
_ALGORITHMS = {"FP8": FORMATS["fp8"], "FP8_PER_CHANNEL_PER_TOKEN": FORMATS["fp8"], "FP8_PB_WO": _BLOCKS,
               "NVFP4": FORMATS["nvfp4"], "NVFP4_AWQ": FORMATS["nvfp4"], "W4A16_NVFP4": FORMATS["nvfp4"],
               "MXFP8": FORMATS["mxfp8"], "MXFP4": FORMATS["mxfp4"], "W8A8_SQ_PER_CHANNEL": FORMATS["int8"],
               "INT8_SQ": FORMATS["int8"], "W4A16_AWQ": Format("int4", 4, columns=128, scale_bits=16),
               "W4A8_AWQ": Format("int4", 4, columns=128, scale_bits=16)}
_ADVICE = ': take the key out and give weight_dtype instead'


def read_quantization(keys: Keys, path: Path) -> Quantization | None:
    """The quantisation of a model's files; None where they name none. Raises InputError for one not understood."""
    _check_type(keys)
    key = "quantization_config" if keys.config.get("quantization_config") is not None else "compression_config"
    found, beside = keys.config.get(key), path.with_name("hf_quant_config.json")
    if found is None and beside.is_file():
        found = read_object(beside, "a hf_quant_config.json")
        return _modelopt(Keys(_flat(found), str(beside)))
    if found is None:
        return None
    if not isinstance(found, dict):
        raise keys.refuse(key, "an object")
    return _by_method(Keys(_flat(found), keys.where))


def _check_type(keys: Keys) -> None:
    for key in ("dtype", "torch_dtype"):
        if keys.config.get(key) not in (None, "auto", "float16", "bfloat16", "float32"):
            raise keys.refuse(key, '"float16", "bfloat16" or "float32"')


def _flat(found: dict[str, Any]) -> dict[str, Any]:
    """A ModelOpt file keeps its keys under `quantization`."""
    inner = found.get("quantization")
    return found | inner if isinstance(inner, dict) else found


def _by_method(keys: Keys) -> Quantization:
    method = keys.config.get("quant_method")
    name = method.lower().replace("_", "-") if isinstance(method, str) else method
    if (name is None and "quant_algo" in keys.config) or (isinstance(name, str) and name.startswith("modelopt")):
        return _modelopt(keys)
    readers = {"fp8": _fp8, "fbgemm-fp8": _fp8, "awq": _awq, "gptq": _gptq, "mxfp4": _mxfp4,
               "compressed-tensors": _compressed, "bitsandbytes": _bitsandbytes}
    if not isinstance(name, str) or name not in readers:
        raise keys.refuse("quant_method", "one of " + ", ".join([*readers, "modelopt"]) + _ADVICE)
    return readers[name](keys)


def _kept(keys: Keys) -> Modules:
    return Modules(tuple(each for key in _LEFT_OUT for each in _modules(keys, key)))


def _modules(keys: Keys, key: str) -> list[str]:
    """Patterns of modules, the regular expressions among them checked."""
    patterns = keys.texts(key) or []
    searched = [each for each in patterns if each.startswith("re:") or "*" in each]
    if len(searched) > MOST_PATTERNS or any(len(each) > LONGEST_PATTERN for each in searched):
        raise InputError(key, f"modules, at most {MOST_PATTERNS} of them as patterns, of at most {LONGEST_PATTERN} "
                         "characters", len(searched), keys.where)
    expressions = [each for each in searched if each.startswith("re:")]
    for each in expressions:
        if not _compiles(each[3:]):
            raise InputError(key, "modules, each a name or a regular expression after re:", each, keys.where)
    slowest = max(expressions, key=_steps, default="")
    if sum(map(_steps, expressions)) > MOST_STEPS:
        raise InputError(key, "modules, regular expressions with three repeats at most, none of them of a group, and "
                         "only a few with three", slowest, keys.where)
    return patterns


def _compiles(expression: str) -> bool:
    try:
        with warnings.catch_warnings(action="error"):
            return all(re.compile(each) for each in (expression, canonical(expression)))
    except (re.error, FutureWarning, DeprecationWarning, OverflowError, RecursionError):
        return False


def _steps(pattern: str) -> float:
    """About how many steps it takes to match an expression, whatever it is, with a name of 40 characters: 40^k / k! for
    k repeats other than of digits, twice as many for each choice, without bound where a group repeats.
    """
    bare = re.sub(r"(\\d|\[0-9\])[*+]", "", pattern.removeprefix("re:"), count=3)
    bare = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", bare, flags=re.DOTALL)
    if re.search(r"\)[*+{]", bare):
        return math.inf
    repeats = len(re.findall(r"[*+{]|(?<![(*+?}])\?", bare))
    return 40.0**repeats / math.factorial(repeats) * 2.0 ** max(0, bare.count("|") - FREE_CHOICES)


def _fp8(keys: Keys) -> Quantization:
    return Quantization(_fp8_format(keys, "weight_block_size"), _kept(keys))


def _fp8_format(keys: Keys, key: str) -> Format:
    """8 bits with a scale of 32 per block of the size under `key`, or none."""
    block = keys.wholes(key)
    if block is None:
        return FORMATS["fp8"]
    if len(block) != 2 or not all(block):
        raise keys.refuse(key, "two whole numbers, rows and columns")
    return Format("fp8", 8, block[0], block[1], 32)


def _awq(keys: Keys) -> Quantization:
    bits, group = (keys.size(old if old in keys.config else new) for old, new in (("w_bit", "bits"),
                                                                                  ("q_group_size", "group_size")))
    return Quantization(Format(f"int{bits}", bits, columns=group, scale_bits=16 + bits), _kept(keys))


def _gptq(keys: Keys) -> Quantization:
    for key in ("modules_in_block_to_quantize", "dynamic"):
        if keys.config.get(key):
            raise keys.refuse(key, "left out, every linear layer being quantised" + _ADVICE)
    bits, group = keys.size("bits", most=16), _group(keys)
    format_ = Format(f"int{bits}", bits, columns=group, scale_bits=16 + bits)
    named = ((Modules(("lm_head",)), format_),) if keys.flag("lm_head") else ()
    return Quantization(format_, _kept(keys), named)


def _group(keys: Keys) -> int:
    """Inputs that share a scale; 0 for all of them, which files write as -1 or null."""
    return 0 if keys.config.get("group_size") in (None, -1) else keys.size("group_size")


def _mxfp4(keys: Keys) -> Quantization:
    return Quantization(FULL, _kept(keys), ((Modules(("experts",)), FORMATS["mxfp4"]),))


def _bitsandbytes(keys: Keys) -> Quantization:
    if keys.flag("load_in_8bit"):
        return Quantization(FORMATS["int8"], _kept(keys))
    if not keys.flag("load_in_4bit"):
        raise keys.refuse("load_in_4bit", "true, or load_in_8bit" + _ADVICE)
    scale = 8 + 32 / 256 if keys.flag("bnb_4bit_use_double_quant") else 32
    return Quantization(Format("bitsandbytes", 4, columns=64, scale_bits=scale), _kept(keys))


def _compressed(keys: Keys) -> Quantization:
    sparsity, groups = keys.config.get("sparsity_config"), keys.config.get("config_groups")
    if isinstance(sparsity, dict) and sparsity.get("format") not in (None, "dense"):
        raise keys.refuse("sparsity_config", "left out or dense" + _ADVICE)
    if not isinstance(groups, dict) or not all(isinstance(each, dict) for each in groups.values()):
        raise keys.refuse("config_groups", "an object of groups")
    every, named = FULL, []
    for group in groups.values():
        targets, weights = _modules(Keys(group, keys.where), "targets") or ["Linear"], group.get("weights")
        if not isinstance(weights, dict):
            continue
        format_ = _weights(Keys(weights, keys.where))
        if "Linear" in targets:
            every = format_
        named.append((Modules(tuple(each for each in targets if each != "Linear")), format_))
    kv = "fp8" if keys.config.get("kv_cache_scheme") is not None else None
    return Quantization(every, _kept(keys), tuple(each for each in named if each[0].patterns), kv)


def _weights(keys: Keys) -> Format:
    """The format of the weights of a group of compressed-tensors."""
    bits, kind, strategy = keys.size("num_bits", most=16), keys.config.get("type"), keys.config.get("strategy")
    if kind not in ("int", "float") or (kind == "float" and bits not in (4, 8)):
        raise keys.refuse("type", f'"int", or "float" of 4 or 8 bits, with num_bits {bits}' + _ADVICE)
    name = f"int{bits}" if kind == "int" else f"fp{bits}"
    if strategy == "block":
        return _fp8_format(keys, "block_structure")
    if strategy in (None, "tensor", "channel"):
        return Format(name, bits)
    if strategy not in ("group", "tensor_group"):
        raise keys.refuse("strategy", '"tensor", "channel", "block", "group" or "tensor_group"' + _ADVICE)
    if kind == "float":
        small = keys.size("group_size") <= 32  # NVFP4 and the microscaling formats: scales of 8 bits
        return Format(name, bits, columns=keys.size("group_size"), scale_bits=8 if small else 16)
    return Format(name, bits, columns=_group(keys), scale_bits=16 + bits * (not keys.flag("symmetric", True)))


def _modelopt(keys: Keys) -> Quantization:
    kept, kv = _kept(keys), _modelopt_kv(keys)
    if keys.config.get("quant_algo") != "MIXED_PRECISION":
        return Quantization(_algorithm(keys), kept, kv_dtype=kv)
    layers = keys.config.get("quantized_layers")
    if not isinstance(layers, dict) or not all(isinstance(each, dict) for each in layers.values()):
        raise keys.refuse("quantized_layers", "an object of modules")
    by_format: dict[Format, list[str]] = {}
    for module, entry in layers.items():
        by_format.setdefault(_algorithm(Keys(entry, keys.where)), []).append(module)
    return Quantization(FULL, kept, tuple((Modules(tuple(names)), each) for each, names in by_format.items()), kv)


def _algorithm(keys: Keys) -> Format:
    name = keys.config.get("quant_algo")
    if not isinstance(name, str) or name.upper() not in _ALGORITHMS:
        raise keys.refuse("quant_algo", "one of " + ", ".join([*_ALGORITHMS, "MIXED_PRECISION"]) + _ADVICE)
    format_ = _ALGORITHMS[name.upper()]
    group = keys.size("group_size", 0, least=0)
    return Format(format_.name, format_.bits, format_.rows, group or format_.columns, format_.scale_bits) \
        if format_.bits == 4 else format_


def _modelopt_kv(keys: Keys) -> str | None:
    """The KV cache of a ModelOpt file as vLLM takes it: 8-bit floats, or what the model has."""
    asked = keys.config.get("kv_cache_scheme") or keys.config.get("kv_cache_quant_algo")
    if isinstance(asked, dict) and asked.get("type") == "float" and asked.get("num_bits") == 8:
        return "fp8" if asked.get("dynamic") is False else None
    if isinstance(asked, dict) and asked.get("type") == "float" and asked.get("num_bits") == 4:
        asked = "NVFP4"
    if isinstance(asked, str) and asked.upper() == "NVFP4":
        raise InputError("kv_cache_quant_algo", "FP8 or left out: a KV cache of 4 bits is not known here",
                         plain(asked), keys.where)
    return "fp8" if isinstance(asked, str) and asked.upper() == "FP8" else None
