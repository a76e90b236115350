"""A Hugging Face config.json: the file, the part of it that is about the language model, the values of its keys.

Models that also see or hear keep the language model under `text_config`; what that leaves out (tied embeddings, the
quantisation) is taken from around it. A key that is absent or null has the default of the Transformers library.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluid.errors import FileError, InputError, whole
from fluid.files.whole_file import read_small

LARGEST_FILE = 2**22  # bytes
LONGEST_LIST = 1000
_NESTED = ("text_config", "llm_config", "language_config")
_OUTER = ("tie_word_embeddings", "quantization_config", "compression_config", "dtype", "torch_dtype", "architectures")
_UNITS = {"num_hidden_layers": "layers", "max_window_layers": "layers", "first_k_dense_replace": "layers",
          "sliding_window": "tokens", "attention_chunk_size": "tokens", "vocab_size": "tokens"}


@dataclass(frozen=True)
class Keys:
    """The keys of one config.json, `where` being its path; every method raises InputError naming the key and the path.

    >>> Keys({"num_hidden_layers": 32}, "config.json").size("num_hidden_layers")
    32
    """

    config: dict[str, Any]
    where: str

    def size(self, key: str, default: int | None = None, *, least: int = 1, most: int = 2**31) -> int:
        """A whole number; `default` where it is absent or null, which None refuses."""
        value = self.config.get(key)
        if value is None and default is None:
            raise InputError(key, "given, as a whole number", None, self.where)
        return whole(key, default if value is None else plain(value), self.where, unit=_unit(key), least=least,
                     most=most)

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false; `default` where it is absent or null."""
        value = self.config.get(key)
        if not isinstance(value, bool | None):
            raise InputError(key, "true or false", plain(value), self.where)
        return default if value is None else value

    def texts(self, key: str) -> list[str] | None:
        """A list of texts; None where it is absent or null."""
        value = self.config.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            raise InputError(key, "a list of texts", plain(value), self.where)
        return value

    def wholes(self, key: str) -> list[int] | None:
        """A list of at most 1,000 whole numbers from 0, as many as there may be layers; None where absent or null."""
        value = self.config.get(key)
        if value is not None and not (isinstance(value, list) and len(value) <= LONGEST_LIST
                                      and all(type(each) is int and each >= 0 for each in value)):
            raise InputError(key, f"a list of at most {LONGEST_LIST:,} whole numbers", plain(value), self.where)
        return value

    def refuse(self, key: str, requirement: str) -> InputError:
        """The error that the value of a key cannot be used."""
        return InputError(key, requirement, plain(self.config.get(key)), self.where)


def read_keys(path: str | Path) -> Keys:
    """Read the keys of the language model of a config.json; raises InputError for a file that cannot be read."""
    config = read_object(path, "a config.json")
    nested = next((config[key] for key in _NESTED if isinstance(config.get(key), dict)), None)
    if nested is None:
        return Keys(config, str(path))
    return Keys({key: config[key] for key in _OUTER if key in config} | _given(nested), str(path))


def _given(nested: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in nested.items() if value is not None or key not in _OUTER}


def read_object(path: str | Path, what: str) -> dict[str, Any]:
    """Read a JSON file that holds an object; `what` names it in errors."""
    try:
        config = json.loads(read_small(path, LARGEST_FILE).decode("utf-8-sig"))
    except FileError as error:
        problem = error.problem.removeprefix("cannot be read: ")
        raise InputError("model", f"a readable {what.removeprefix('a ')}: {problem}", str(path)) from None
    except json.JSONDecodeError as error:
        raise InputError("model", f"{what} in JSON: {error.msg} at line {error.lineno}", str(path)) from None
    except (ValueError, RecursionError):  # not UTF-8, a number or nesting beyond the reader
        raise InputError("model", f"{what} in JSON", str(path)) from None
    if not isinstance(config, dict):
        raise InputError("model", f"{what} that holds an object", str(path))
    return config


def plain(value: Any) -> Any:
    """The value, or only its type's name for a list or an object, which could be nested arbitrarily deep."""
    return type(value).__name__ if isinstance(value, list | dict) else value


def _unit(key: str) -> str:
    if key.endswith("heads"):
        return "heads"
    return _UNITS.get(key, "experts" if "experts" in key else "elements")
