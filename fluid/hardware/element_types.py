"""Element types: how many bytes the weights of a model take, its quantised parts with their scales.

A matrix of r rows and c columns in a format of b bits, with one scale of s bits for every block of R x C, takes

    (r c b + ceil(r / R) ceil(c / C) s) / 8 bytes

    fp8            8 bits, one scale per matrix or row: left out, at most 1 in 1,000
    fp8, blocks    8 bits, a scale of 32 bits per block of 128 x 128 (DeepSeek-V3, arXiv 2412.19437, section 3.3)
    int4           4 bits, a scale of 16 bits and a zero of 4 per 128 inputs (AWQ, GPTQ): 4.156 bits
    nvfp4          4 bits, a scale of 8 bits per 16 inputs: 4.5 (NVIDIA ModelOpt)
    mxfp4, mxfp8   4 or 8 bits, a scale of 8 bits per 32 inputs: 4.25, 8.25 (OCP Microscaling Formats, version 1.0)

Only linear layers are quantised. Norms, biases, routers, convolutions and the input embedding keep 16 bits, as engines
keep them, and so does the output head unless a file names it. Modules a file leaves out are named by a regular
expression after "re:", by a pattern with * (of the module or of one it is part of), or by a name: dotted, any run of
the parts of the module's own ("lm_head", "self_attn", "model.layers.0.mlp.gate"). The first expert stands for all.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from fluid.hardware.tensors import HEAD, LINEAR, Tensor

KV_BITS = {"float16": 16, "bfloat16": 16, "float32": 32, "fp8": 8, "int8": 8}


@dataclass(frozen=True)
class Format:
    """How a quantised matrix is stored: `bits` an element, and `scale_bits` for every block of `rows` x `columns`.

    0 rows or columns mean all of them.

    >>> FORMATS["int4"].bytes_of(Tensor("q_proj", 4096, 4096))
    8716288
    """

    name: str
    bits: float
    rows: int = 1
    columns: int = 0
    scale_bits: float = 0

    @property
    def multiplies_in(self) -> int:
        """Bits of the type an engine multiplies in, where the GPU can: activations are converted too, or they stay 16.

        Weights of integers with a scale per group (AWQ, GPTQ) and of mxfp4 are converted to 16 bits first.
        """
        if self.name == "int8":
            return 16 if self.columns else 8
        return {"fp8": 8, "mxfp8": 8, "nvfp4": 4}.get(self.name, 16)

    def bytes_of(self, tensor: Tensor) -> int:
        """(r c b + ceil(r / R) ceil(c / C) s) / 8 bytes, times the copies."""
        blocks = math.ceil(tensor.rows / (self.rows or tensor.rows))
        blocks *= math.ceil(tensor.columns / (self.columns or tensor.columns))
        return tensor.copies * math.ceil((tensor.rows * tensor.columns * self.bits + blocks * self.scale_bits) / 8)


FORMATS = {each.name: each for each in (
    Format("float16", 16), Format("bfloat16", 16), Format("float32", 32), Format("fp8", 8), Format("int8", 8),
    Format("int4", 4, columns=128, scale_bits=16 + 4), Format("nvfp4", 4, columns=16, scale_bits=8),
    Format("mxfp4", 4, columns=32, scale_bits=8), Format("mxfp8", 8, columns=32, scale_bits=8))}
FULL = FORMATS["float16"]


@dataclass(frozen=True)
class Modules:
    """A set of modules by patterns: "re:..." a regular expression, with * a glob, else a dotted run of name parts."""

    patterns: tuple[str, ...] = ()

    def __contains__(self, name: object) -> bool:
        parts = str(name).split(".")
        paths = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
        runs = {".".join(parts[start:end]) for end in range(1, len(parts) + 1) for start in range(end)}
        return bool(runs & self._names or any(glob.match(path) for glob in self._globs for path in paths)
                    or any(each.match(prefix + str(name)) for each in self._expressions for prefix in _PREFIXES))

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(canonical(each) for each in self.patterns if not each.startswith("re:") and "*" not in each)

    @cached_property
    def _globs(self) -> list[re.Pattern[str]]:
        """One expression for all: files name hundreds of modules."""
        globs = [fnmatch.translate(canonical(each)) for each in self.patterns if "*" in each and each[:3] != "re:"]
        return [re.compile("|".join(globs))] if globs else []

    @cached_property
    def _expressions(self) -> list[re.Pattern[str]]:
        return [re.compile(canonical(each[3:])) for each in self.patterns if each.startswith("re:")]


_PREFIXES = ("", "model.", "language_model.model.", "model.language_model.")


def canonical(name: str) -> str:
    """The name of a module in the one spelling of `fluid.hardware.tensors`."""
    name = re.sub(r"^(model\.language_model|language_model\.model|language_model|model|backbone)\.(?=\w)", "", name)
    for old, new in (("block_sparse_moe", "mlp"), ("feed_forward", "mlp"), ("shared_experts", "shared_expert"),
                     ("mlp.router", "mlp.gate"), (".w1", ".gate_proj"), (".w2", ".down_proj"), (".w3", ".up_proj")):
        name = name.replace(old, new)
    return name


@dataclass(frozen=True)
class Quantization:
    """The formats of a model's weights: `linear` layers but for those `kept` in 16 bits and others `named`.

    `kv_dtype` is the element type of the KV cache that the file asks for (None: 16 bits).

    >>> Quantization(FORMATS["fp8"]).bytes_of([Tensor("layers.0.self_attn.q_proj", 4096, 4096, kind=LINEAR)])
    16777216
    """

    linear: Format = FULL
    kept: Modules = Modules()
    named: tuple[tuple[Modules, Format], ...] = ()
    kv_dtype: str | None = None
    full: Format = FULL

    @property
    def name(self) -> str:
        """The format of most weights, for sentences."""
        return self.linear.name if self.linear != FULL or not self.named else "mixed precision"

    def format_of(self, tensor: Tensor) -> Format:
        """The format of one tensor; 16 bits for whatever is not a linear layer (the head: unless it is named)."""
        if tensor.kind not in (LINEAR, HEAD) or tensor.name in self.kept:
            return self.full
        named = next((each for modules, each in self.named if tensor.name in modules), None)
        return named or (self.linear if tensor.kind == LINEAR else self.full)

    def bytes_of(self, tensors: Iterable[Tensor]) -> int:
        """Bytes of all of them together."""
        return sum(self.format_of(each).bytes_of(each) for each in tensors)


def quantization(dtype: str) -> Quantization:
    """Every linear layer in one element type; 32 bits are 32 for everything else too."""
    format_ = FORMATS[dtype]
    return Quantization(format_, full=format_ if format_.bits > FULL.bits else FULL)
